"""A board that takes differences of weights ends up with the host's bits or with none, whatever reaches it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from living_board import Board, built
from small_runs import sine

from tinymetafed.devices.link.link_errors import DeviceRefused
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.codecs import difference, downlink
from tinymetafed.learn.codecs.difference import Version, Versions
from tinymetafed.learn.strategies import Strategy, open_strategy
from tinymetafed.runs.setup import design_of
from tinymetafed.wire.frame import Decoder, encode
from tinymetafed.wire.messages import loads_on_wire
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.optional_messages.difference_messages import AskHeld, Difference, Held, MoreDifference, Taken
from tinymetafed_codegen.protocol import Fetch, Load, Program, Recipe, Request, Status

TRIES = int(os.environ.get("TINYMETAFED_DIFFERENCES", "60"))  # damaged differences
FLAGS = ("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
LAYERS = '[{op="dense",units=9,activation="relu"},{op="dense",units=9},{op="dense",units=1,local=true}]'
CAPACITY = 45  # bytes of a message, so that a difference takes several


@pytest.fixture(scope="module", params=["f16", "i8"])
def made(request: pytest.FixtureRequest) -> Design:
    keys = ("strategy.download=difference", f"strategy.downlink={request.param}", f"model.layers={LAYERS}")
    return design_of(sine(*keys), "test")


@pytest.fixture(scope="module")
def library(made: Design, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(made, tmp_path_factory.mktemp("difference"), FLAGS)


class Host:
    """A host and its board, in a session that has begun."""

    def __init__(self, library: Path, made: Design) -> None:
        self.board = Board(library, 1)
        self.token = 0
        self.strategy: Strategy = open_strategy(made.experiment, made.manifest)
        self.random = np.random.default_rng(3)
        self.weights = self.random.normal(0, 0.3, self.strategy.n_global).astype(np.float32)
        self.events: list[str] = []
        self.versions = Versions()
        self.connect()

    def connect(self) -> None:
        self.session: Session = self.board.session()
        self.session.versions = self.versions
        self.session.on_event = self.events.append
        self.session.configure(Program.TRAIN, self.strategy.training_recipe())
        self.session.configure(Program.ADAPT, Recipe(()))

    def move(self, share: float = 0.3, by: float = 0.01) -> list[downlink.Segment]:
        """Changes a share of the weights, as a round does."""
        chosen = self.random.random(self.weights.size) < share
        self.weights = self.weights + (chosen * self.random.normal(0, by, self.weights.size)).astype(np.float32)
        return self.strategy.download(self.weights)

    def load(self, segments: list[downlink.Segment]) -> int:
        """Brings weights to the board, checks them there, and returns the bytes that this took."""
        before = self.session.traffic.down
        self.token = self.session.next_token()
        self.session.load(self.token, segments)
        size = self.session.traffic.down - before
        self.require(segments)
        return size

    def require(self, segments: list[downlink.Segment]) -> None:
        n = self.strategy.n_global
        assert self.session.fetch(0, n).tobytes() == downlink.decode(segments, n).tobytes()

    def train(self) -> None:
        self.session.train(self.token, Program.TRAIN, 1, 2, 3)
        self.session.await_done(self.token, self.strategy.training_recipe().steps)
        self.session.pull(self.token, self.strategy.top_k)

    def ask(self, message: Request) -> Status | Taken | Held:
        try:
            answer = self.session.request(message)
        except DeviceRefused as refused:
            return refused.status
        assert isinstance(answer, Taken | Held)
        return answer

    def difference(self, base: list[downlink.Segment], new: list[downlink.Segment]) -> list[Difference | MoreDifference]:
        coded, rank, messages = difference.encode(Version.of(base), Version.of(new)), 0, []
        token = self.session.next_token()
        while not messages or rank < coded.entries:
            message, rank = coded.message(token, rank, CAPACITY)
            assert isinstance(message, Difference | MoreDifference)
            messages.append(message)
        return messages

    @property
    def held(self) -> Held:
        answer = self.ask(AskHeld())
        assert isinstance(answer, Held)
        return answer


@pytest.fixture
def host(library: Path, made: Design) -> Iterator[Host]:
    host = Host(library, made)
    yield host
    host.board.end()


def test_differences_bring_the_bits_of_all_weights_in_fewer_bytes(host: Host) -> None:
    segments = host.strategy.download(host.weights)
    full = loads_on_wire(segments, host.session.window)[1]
    assert host.load(segments) > full, "a board without weights got a difference"
    for share in (0.3, 0.05, 0.3, 1.0):
        host.train()  # which changes the weights on the board
        segments = host.move(share)
        assert host.load(segments) < full * (0.9 if share == 1.0 else 0.7)
        assert host.held == Held(1, Version.of(segments).fingerprint)
    assert host.load(list(segments)) < 50, "an equal version takes a message without entries"
    assert not host.events
    whole = host.session.traffic
    assert whole.spared > 0 and whole.down + whole.spared > 6 * full


def test_a_board_without_the_version_gets_all_weights(host: Host) -> None:
    host.load(host.move())
    host.board.reset()
    host.connect()
    assert host.held == Held(0, bytes(8))
    assert host.load(segments := host.move()) > loads_on_wire(segments, host.session.window)[1]
    host.connect()  # a host that was started again, and a board that was not
    host.session.versions = Versions()
    assert host.load(segments) < 60, "the board holds these weights already"
    host.session.versions = Versions()
    assert host.load(segments := host.move()) == loads_on_wire(segments, host.session.window)[1]
    assert not host.events


def test_a_difference_to_another_version_changes_nothing(host: Host) -> None:
    first, second = host.move(), host.move()
    host.load(first)
    for message in host.difference(second, host.move()):
        assert host.ask(message) == Status.BAD_STATE if isinstance(message, Difference) else Status.BAD_TOKEN
    assert host.held == Held(1, Version.of(first).fingerprint)
    host.require(first)
    host.train()


def test_repeated_messages_have_the_same_answers_and_one_effect(host: Host) -> None:
    base, new = host.move(), host.move(0.8)
    host.load(base)
    messages = host.difference(base, new)
    assert len(messages) > 1
    answers = []
    for i, message in enumerate(messages):
        answers.append(host.ask(message))
        assert host.ask(message) == answers[-1]
        assert all(host.ask(earlier) == answers[-1] for earlier in messages[:i])
    assert answers[-1] == Taken(messages[0].entries) and answers[0] != answers[-1]
    host.require(new)
    later = messages[-1]
    assert isinstance(later, MoreDifference)
    ahead = MoreDifference(later.token, later.rank + later.count + 1, 1, b"\0")
    assert host.ask(ahead) == Status.BAD_OFFSET


def test_weights_that_are_half_there_are_no_version(host: Host) -> None:
    base, new = host.move(), host.move()
    host.load(base)
    first, *_ = host.difference(base, new)
    host.ask(first)
    assert host.held == Held(0, bytes(8))
    assert host.ask(Fetch(0, 1)) == Status.BAD_STATE
    with pytest.raises(DeviceRefused, match="BAD_STATE"):
        host.session.train(first.token, Program.TRAIN, 1, 2, 3)
    segment = new[0]
    host.session.request(Load(first.token, 0, segment.dtype, segment.scale, segment.data[: 2 * segment.dtype.width]))
    more = MoreDifference(first.token, first.count, 1, b"\0")
    assert host.ask(more) == Status.BAD_STATE, "weights have begun to arrive as a whole"
    assert host.load(host.move()) > 0 and host.held.whole


def test_a_board_that_states_another_version_than_it_has_is_named_and_gets_all_weights(host: Host) -> None:
    base, other = host.move(), host.move()
    host.load(base)
    host.versions.newest(other)
    host.session._held = Version.of(other).fingerprint
    host.load(host.move())
    assert len(host.events) == 1 and host.events[0].startswith("living: refused a difference to version "), host.events
    assert Version.of(other).fingerprint.hex() in host.events[0] and "never held it" in host.events[0]


def test_a_board_whose_weights_are_not_those_of_its_version_is_named_and_gets_no_more_differences(host: Host) -> None:
    host.load(segments := host.move())
    known = host.versions._kept[Version.of(segments).fingerprint]
    known.cells[-1] ^= 1  # as if a bit of the board's memory had changed
    host.load(host.move())
    assert len(host.events) == 1 and "gets no more differences" in host.events[0], host.events
    full = loads_on_wire(segments, host.session.window)[1]
    assert host.load(host.move()) >= full - 5 and len(host.events) == 1


def test_no_damaged_difference_is_trained_with(host: Host) -> None:
    base = host.move()
    host.load(base)
    refused = 0
    for _ in range(TRIES):
        new = host.move(0.5)
        messages = host.difference(base, new)
        damaged = int(host.random.integers(0, len(messages)))
        for i, message in enumerate(messages):
            payload = message.encode() if i != damaged else _damaged(message.encode(), host.random)
            host.board.write(encode(message.type_id, 7, payload))
            assert len(Decoder().feed(host.board.read(0.0))) == 1, "a frame has not one answer"
        try:
            host.session.train(messages[0].token, Program.ADAPT, 1, 2, 3)  # a program without steps
            host.require(new)
            base = new
        except DeviceRefused:
            refused += 1
            if host.held.whole:
                host.require(base)
            else:
                host.session.load(host.session.next_token(), new)
                base = new
    assert refused > TRIES / 2


def _damaged(payload: bytes, random: np.random.Generator) -> bytes:
    """A payload with some wrong bits behind its token, or without its end."""
    data = bytearray(payload)
    for _ in range(random.integers(1, 3)):
        data[random.integers(4, len(data))] ^= 1 << random.integers(0, 8)
    return bytes(data)[: random.integers(0, len(data))] if random.random() < 0.2 else bytes(data)
