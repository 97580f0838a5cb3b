"""Authenticated sessions: handshake, MACs and counters over good and bad lines, with the firmware's own code."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import authenticated_board
import pytest
from authenticated_board import authenticated_sine
from cobs import cobs  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import Device, Fault, Line

from tinymetafed.devices.link.link_errors import DeviceRefused, LinkError, NotEnrolled, SessionLost, WrongFirmware, WrongKey
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.weights import initial
from tinymetafed.wire.authentication import Handshake, SessionKeys
from tinymetafed.wire.frame import Decoder, Frame, encode
from tinymetafed.wire.poly1305 import Poly1305
from tinymetafed_codegen import protocol, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.optional_messages.authentication_messages import (
    HASHED_ABOVE,
    MAC_BYTES,
    AskRefusals,
    Challenge,
    Enroll,
    Prove,
    Response,
)
from tinymetafed_codegen.protocol import Program
from tinymetafed_codegen.section import SpecError

FRAMES = int(os.environ.get("TINYMETAFED_FORGERIES", "60000"))  # of the attacker
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
DESIGN = authenticated_sine()
STRATEGY = open_strategy(DESIGN.experiment, DESIGN.manifest)
RECIPE = STRATEGY.training_recipe()
START = initial(DESIGN.manifest, 1, "glorot")[: STRATEGY.n_global]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authenticated_board.build(tmp_path_factory.mktemp("authenticated"))


@pytest.fixture
def line(library: Path) -> Iterator[Line]:
    device = Device(library)
    yield Line(device)
    device.close()


def plain(line: Line) -> Session:
    return Session(line, deadline=0.05, retries=10, clock=line.clock)


def enrolled(line: Line, key: bytes = KEY) -> Session:
    """A session with a board that has the key."""
    session = plain(line)
    session.hello()
    session.enroll(key)
    return session


def authenticated(line: Line, key: bytes = KEY) -> Session:
    session = plain(line)
    hello = session.hello()
    session.authenticate(hello, (key,))
    return session


def trained(session: Session, token: int = 1) -> bytes:
    """The weights after a round."""
    session.configure(Program.TRAIN, RECIPE)
    session.load(token, STRATEGY.download(START))
    session.train(token, Program.TRAIN, 1, 7, 3)
    session.await_done(token, RECIPE.steps)
    chunks = session.pull(token, RECIPE.top_k)
    return b"".join(chunk.data for chunk in chunks) + session.fetch(0, DESIGN.manifest.n_parameters).tobytes()


# --- Who may begin a session ---


def test_without_a_key_the_board_answers_nothing_but_hello_and_handshakes(line: Line) -> None:
    session = plain(line)
    hello = session.hello()
    with pytest.raises(NotEnrolled, match=r"has no key.*enroll in-process --name"):
        session.authenticate(hello, (KEY,))
    for ask in (session.refusals, session.look, lambda: session.fetch(0, 1), lambda: session.configure(Program.TRAIN, RECIPE)):
        with pytest.raises(DeviceRefused, match="BAD_STATE"):
            ask()
    assert session.enroll(KEY).kept == 0, "it has no store"
    assert session.enroll(KEY).kept == 0, "a repeated key has the same answer"
    with pytest.raises(DeviceRefused, match="BAD_STATE"):
        session.enroll(OTHER_KEY)
    with pytest.raises(DeviceRefused, match="BAD_STATE"):
        session.configure(Program.TRAIN, RECIPE)


def test_a_wrong_key_begins_no_session(line: Line) -> None:
    enrolled(line)
    with pytest.raises(WrongKey, match="has another key than this host"):
        authenticated(line, OTHER_KEY)
    session = plain(line)
    hello = session.hello()
    session.authenticate(hello, (OTHER_KEY, KEY))
    assert session.refusals().sessions == 1


def test_a_proof_covers_the_answer_to_hello(line: Line) -> None:
    """Another model, schema, window or id than the board's own ends the handshake."""
    enrolled(line)
    session = plain(line)
    hello = session.hello()
    for changed in (
        {"model_hash": b"\1" * 8},
        {"schema_hash": b"\1" * 8},
        {"unique_id": b"\1" * 8},
        {"receive_window": 512},
        {"board": b"other".ljust(16, b"\0")},
    ):
        with pytest.raises(WrongKey):
            session.authenticate(dataclasses.replace(hello, **changed), (KEY,))  # type: ignore[arg-type]


def test_a_board_takes_another_key_from_its_own_host_only(line: Line) -> None:
    enrolled(line)
    session = authenticated(line)
    session.enroll(OTHER_KEY)
    assert session.refusals().sessions == 1, "the session goes on"
    with pytest.raises(WrongKey):
        authenticated(line)
    second = authenticated(line, OTHER_KEY)
    second.forget_key()
    with pytest.raises(NotEnrolled):
        authenticated(line, OTHER_KEY)
    enrolled(line)
    assert authenticated(line).refusals().sessions == 3


def test_nothing_is_downgraded_by_an_answer_without_a_mac(line: Line) -> None:
    """A reset board says so without a MAC; nothing follows from that but a new handshake."""
    enrolled(line)
    session = authenticated(line)
    line.device.reset()
    with pytest.raises(SessionLost, match="without a MAC says that the board knows no session"):
        session.fetch(0, 1)
    assert session.mac_bytes == MAC_BYTES
    enrolled(line)
    assert authenticated(line).refusals().sessions == 1


def test_answers_that_came_before_the_session_do_not_count(line: Line) -> None:
    """An attacker's answers that lie ready when the session begins have no MAC."""
    enrolled(line)
    session = plain(line)
    hello = session.hello()
    genuine = line.read

    def with_more(timeout: float) -> bytes:
        data = genuine(timeout)
        frames = Decoder().feed(data)
        if not frames or frames[0].type_id != 0x52 | protocol.ANSWER_BIT:
            return data
        forged = [encode(0x53 | protocol.ANSWER_BIT, (frames[0].sequence + 1) & 0xFF, b"\xff" * 12)]
        return data + b"".join(forged)

    line.read = with_more  # type: ignore[method-assign]
    session.authenticate(hello, (KEY,))
    assert session.refusals().forged == 0


# --- MACs ---


def test_macs_leave_the_weights_as_they_are_and_cost_eight_bytes_a_frame(line: Line, library: Path) -> None:
    enrolled(line)
    session = authenticated(line)
    before = session.traffic
    found = trained(session)
    spent = session.traffic - before
    assert found == trained(authenticated(line), 1 << 20)
    assert session.forged == 0 and spent.retries == 0
    # Configure, 3 Load, Train, Await, 2 Pull and 10 Fetch at most.
    assert spent.down + spent.up < 2 * 4_800


@settings(max_examples=30)
@given(data=st.data())
def test_a_changed_answer_is_dropped(library: Path, data: st.DataObject) -> None:
    device = Device(library)
    line = Line(device)
    enrolled(line)
    session = authenticated(line)
    genuine, changed = line.read, []

    def with_a_flip(timeout: float) -> bytes:
        answered = genuine(timeout)
        frames = Decoder().feed(answered)
        if not frames or changed:
            return answered
        body = bytearray([frames[0].type_id, frames[0].sequence, *frames[0].payload])
        bit = data.draw(st.integers(8, 8 * len(body) - 1), "bit")
        body[bit // 8] ^= 1 << bit % 8
        changed.append(bit)
        return encode(body[0], body[1], bytes(body[2:]))

    line.read = with_a_flip  # type: ignore[method-assign]
    assert session.refusals().sessions == 1, "the repeated request has the board's own answer"
    assert session.forged == 1
    device.close()


def test_firmware_of_an_earlier_version_is_refused_by_name(line: Line) -> None:
    """It has the key and proves it, under a label of its own; its frames have other MACs."""
    enrolled(line)
    session = plain(line)
    hello = session.hello()
    genuine = session.challenge

    def as_before(nonce: bytes) -> Response | None:
        response = genuine(nonce)
        assert response is not None
        proof = hashlib.blake2s(b"\0" + hello.pack() + nonce + response.nonce, key=KEY).digest()[:16]
        return dataclasses.replace(response, proof=proof)

    session.challenge = as_before  # type: ignore[method-assign]
    with pytest.raises(WrongFirmware, match="authenticates as an earlier version did; flash this version's firmware"):
        session.authenticate(hello, (OTHER_KEY, KEY))


class Board:
    """A board with a session, and its host's keys, frame by frame."""

    def __init__(self, library: Path) -> None:
        self.device = Device(library)
        line = Line(self.device)
        hello = enrolled(line).hello().pack()
        nonce = os.urandom(16)
        (frame,) = self.sends(0x51, 9, nonce)
        handshake = Handshake(KEY, hello, nonce, frame.payload[:16])
        self.said = hello + nonce + frame.payload[:16]
        assert frame.payload[16:] == handshake.board_proof
        self.sends(0x52, 200, handshake.host_proof)
        self.first = 200
        self.keys: SessionKeys = handshake.session()

    def sends(self, type_id: int, sequence: int, payload: bytes) -> list[Frame]:
        """Sends a frame to the board and returns its answers."""
        self.device.receive(encode(type_id, sequence, payload))
        self.device.work()
        return Decoder().feed(self.device.sent())

    def asks(self, counter: int) -> Frame | None:
        """The answer to the genuine request of this counter, without its MAC; None if the board drops it."""
        request = AskRefusals()
        sealed = self.keys.sealed(counter, request.type_id, request.pack())
        answers = self.sends(request.type_id, counter & 0xFF, sealed)
        if not answers:
            return None
        payload = self.keys.opened(counter, answers[0].type_id, answers[0].payload)
        assert payload is not None, "the answer has the counter of its request"
        return Frame(answers[0].type_id, answers[0].sequence, payload, 0)


@settings(max_examples=60)
@given(steps=st.lists(st.one_of(st.integers(-40, 60), st.sampled_from([0, 1, -1, -32, -33, 223, 224])), max_size=30))
def test_counters_go_up_and_only_the_last_one_is_repeated(library: Path, steps: list[int]) -> None:
    """Against a model of the rule: a counter from the last one to 223 above it is taken, any other is dropped."""
    board = Board(library)
    last = board.first
    forged = replayed = 0
    for step in steps:
        counter = max(0, last + step)
        ahead = counter - last
        answer = board.asks(counter)
        assert (answer is not None) == (0 <= ahead <= 223)
        if answer is not None:
            last = counter
            assert answer.payload == forged.to_bytes(4, "little") + replayed.to_bytes(4, "little") + b"\1\0\0\0"
        elif -32 <= ahead < 0:
            replayed += 1
        else:
            forged += 1
    board.device.close()


@pytest.mark.parametrize("size", [HASHED_ABOVE - 3, HASHED_ABOVE - 2, HASHED_ABOVE - 1, 64, 300, 900])
def test_a_mac_covers_every_byte_of_short_and_long_frames(library: Path, size: int) -> None:
    """A request of such a payload has its MAC taken, and no other payload has it."""
    board = Board(library)
    type_id, payload = 0x53, bytes(range(256)) * 4
    sealed = board.keys.sealed(201, type_id, payload[:size])
    for at in {0, 1, size // 2, size - 1, size, size + 7}:
        changed = bytearray(sealed)
        changed[at] ^= 0x10
        assert board.sends(type_id, 201, bytes(changed)) == []
    for other in (payload[:size] + b"\0", payload[: size - 1], b""):
        assert board.sends(type_id, 201, other + sealed[size:]) == []
    (answer,) = board.sends(type_id, 201, sealed)
    refusal = board.keys.opened(201, answer.type_id, answer.payload)
    assert refusal is not None and protocol.ErrorAnswer.unpack(refusal).status == protocol.Status.BAD_LENGTH
    board.device.close()


def test_a_mac_says_more_than_a_crc(library: Path) -> None:
    """A damaged CRC behind a right MAC does not count; a damaged frame is no forged one."""
    board = Board(library)
    request = AskRefusals()

    def sends(counter: int, *, mac: int = 0, crc: int = 0) -> list[Frame]:
        frame = bytes((request.type_id, counter & 0xFF)) + board.keys.sealed(counter, request.type_id, request.pack())
        body = bytearray(frame + zlib.crc32(frame).to_bytes(4, "little"))
        body[-5] ^= mac
        if mac and not crc:
            body[-4:] = zlib.crc32(body[:-4]).to_bytes(4, "little")
        body[-1] ^= crc
        board.device.receive(cobs.encode(bytes(body)) + b"\0")
        return Decoder().feed(board.device.sent())

    def refusals(answers: list[Frame], counter: int) -> bytes | None:
        (answer,) = answers
        return board.keys.opened(counter, answer.type_id, answer.payload)

    nothing = (0).to_bytes(4, "little") * 2 + b"\1\0\0\0"
    assert refusals(sends(201, crc=1), 201) == nothing
    assert sends(202, mac=1, crc=1) == []
    assert refusals(sends(202), 202) == nothing, "damaged, not forged"
    assert sends(203, mac=1) == []
    assert refusals(sends(203), 203) == b"\1" + nothing[1:]
    board.device.close()


def test_a_damaged_frame_of_the_handshake_is_dropped(line: Line) -> None:
    """These have no MAC, so that their CRC counts, within a session too."""

    def sends(message: protocol.Request, *, crc: int) -> list[Frame]:
        frame = bytes((message.type_id, 5)) + message.pack()
        line.device.receive(cobs.encode(frame + (zlib.crc32(frame) ^ crc).to_bytes(4, "little")) + b"\0")
        return Decoder().feed(line.device.sent())

    def is_taken_undamaged_only(message: protocol.Request) -> Frame:
        assert sends(message, crc=1) == sends(message, crc=1 << 31) == []
        (answer,) = sends(message, crc=0)
        assert answer.type_id == message.type_id | protocol.ANSWER_BIT
        return answer

    is_taken_undamaged_only(Enroll(KEY))
    for _ in range(2):
        hello = is_taken_undamaged_only(protocol.Hello()).payload
        nonce = os.urandom(16)
        response = is_taken_undamaged_only(Challenge(nonce)).payload
        is_taken_undamaged_only(Prove(Handshake(KEY, hello, nonce, response[:16]).host_proof))
        is_taken_undamaged_only(Enroll(KEY))
    assert sends(AskRefusals(), crc=1) == sends(AskRefusals(), crc=0) == []
    assert authenticated(line).refusals().forged == 1


def test_a_mac_of_a_hash_is_not_that_of_a_frame_with_the_hashs_bytes(library: Path) -> None:
    """Else whoever guessed a hash would have a MAC for a frame that nobody sent."""
    board = Board(library)
    factor = hashlib.blake2s(b"\7" + board.said, key=KEY).digest()[:16]
    for number in range(1 << 16):
        frame = bytes((0x53, 201)) + number.to_bytes(64, "little")
        hashed = Poly1305(factor).digest(frame)
        if hashed[1] == 201 and 0x60 <= hashed[0] < 0x80:
            break
    sealed = board.keys.sealed(201, frame[0], frame[2:])
    assert board.keys.opened_request(201, hashed[0], hashed[2:] + sealed[-MAC_BYTES:]) is None
    assert board.sends(hashed[0], 201, hashed[2:] + sealed[-MAC_BYTES:]) == []
    assert len(board.sends(frame[0], 201, sealed)) == 1
    board.device.close()


# --- Bad lines ---


@pytest.mark.parametrize("seed", range(3))
def test_a_round_over_a_bad_line_has_the_weights_of_a_good_line(library: Path, seed: int) -> None:
    good, bad = Line(Device(library)), Line(Device(library))
    enrolled(good)
    wanted = trained(authenticated(good))
    enrolled(bad)
    bad.faults, bad.rate = tuple(Fault), 0.15
    bad.seed(seed)
    session, done = None, 0
    for token in range(1, 60):
        try:
            session = session or authenticated(bad)
            assert trained(session, token) == wanted
            done += 1
        except LinkError:
            session = None  # as the fleet does: connect it again
        if done == 6:
            break
    assert done == 6 and bad.happened > 10
    for each in (good, bad):
        each.device.close()


def test_late_copies_of_earlier_requests_change_nothing(line: Line, library: Path) -> None:
    """As a network may deliver them that repeats messages: behind every request come copies of those before it."""
    good = Line(Device(library))
    enrolled(good)
    wanted = trained(authenticated(good))
    good.device.close()
    enrolled(line)
    session = authenticated(line)
    sent: list[bytes] = []
    write = line.write

    def write_with_copies(data: bytes) -> None:
        for copy in (data, *sent[-20:]):
            write(copy)
        sent.append(data)

    line.write = write_with_copies  # type: ignore[method-assign]
    assert trained(session, 1) == wanted and trained(session, 2) == wanted
    found = session.refusals()
    assert found.replayed > 100 and found.forged == 0 and session.traffic.retries == 0


# --- The attacker ---


def test_of_many_bad_frames_none_is_taken(library: Path) -> None:
    found = authenticated_board.attack(library, FRAMES)
    tried, accepted = found["tried"], found["accepted"]
    assert isinstance(tried, dict) and isinstance(accepted, dict)
    assert sum(accepted.values()) == 0
    assert min(tried.values()) > FRAMES / 20, "each kind was tried"
    assert found["counted_forged"] + found["counted_replayed"] == sum(tried.values()), "the board counts what it drops"  # type: ignore[operator]
    assert int(found["honest"]) > FRAMES / 10 and int(found["repeated"]) > FRAMES / 100  # type: ignore[arg-type]


# --- The experiment ---


def test_security_is_none_or_authenticated() -> None:
    with pytest.raises(SpecError, match=r"run\.security.*'none' or 'authenticated'"):
        spec.load(find("examples/sine.toml"), ["run.security=tls"])


def test_authenticated_firmware_is_of_another_model() -> None:
    """So that neither kind of run takes the other kind's boards."""
    without = design(spec.load(find("examples/sine.toml")), boards.load("native"), "test").manifest
    assert (without.mac_bytes, DESIGN.manifest.mac_bytes) == (0, MAC_BYTES)
    assert without.model_hash != DESIGN.manifest.model_hash and "mac_bytes" not in without.as_json()


def test_a_board_without_random_bytes_is_refused() -> None:
    board = dataclasses.replace(boards.load("native"), entropy=None)
    with pytest.raises(SpecError, match="board 'native' has no source of random bytes; add 'entropy'"):
        design(spec.load(find("examples/sine.toml"), ["run.security=authenticated"]), board, "test")
