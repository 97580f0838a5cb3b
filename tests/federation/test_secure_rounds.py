"""Secure aggregation on boards: equal to the plain sum of integers, also when boards are lost, and no update alone is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import curve25519
import numpy as np
import pytest
from small_runs import SINE, Quiet, sine

from tinymetafed.devices import ports
from tinymetafed.devices.device_clients import DeviceClients
from tinymetafed.devices.fleet import Fleet, FleetError
from tinymetafed.devices.link.link_errors import DeviceGarbled, DeviceRefused, PortError
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import Transport
from tinymetafed.devices.running import running
from tinymetafed.federation.clients import Served
from tinymetafed.federation.rounds import Round, rounds
from tinymetafed.learn import masked_sum
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.weights import Floats, initial
from tinymetafed.runs.setup import Setup, set_up
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed.simulation.simulated_clients import SimulatedClients
from tinymetafed.wire.frame import Decoder, Frame, encode
from tinymetafed_codegen.optional_messages.secure_messages import AskKey, Masked, Open, PullMasked, Seat
from tinymetafed_codegen.protocol import ANSWER_BIT, ERROR_TYPE, ErrorAnswer, Fetch, Predict, Program, Pull, Request, Status

pytestmark = pytest.mark.usefixtures("built_once")
ROUNDS, DEVICES = 3, 4
LOST = "native#2"


@cache
def setup() -> Setup:
    keys = ("privacy.secure_aggregation=true", "strategy.selection=random", "strategy.top_p=60")
    experiment = sine(f"run.rounds={ROUNDS}", f"run.devices_per_round={DEVICES}", *keys)
    return set_up(experiment, str(SINE), None)


@cache
def simulated() -> SimulatedClients:
    return SimulatedClients(open_kernels(setup().design, 1), setup().strategy, setup().task)


def first() -> Floats:
    experiment = setup().experiment
    return initial(setup().design.manifest, experiment.run.seed, experiment.model.init)


Answer = tuple[int, int, bytes]  # type, sequence and payload
Alter = Callable[[Frame], Answer]


class AlteredLine:
    """A line on which answers are altered on their way to the host."""

    def __init__(self, inner: Transport, alter: Alter) -> None:
        self.name, self.baud = inner.name, inner.baud
        self._inner, self._alter, self._decoder = inner, alter, Decoder()

    def read(self, timeout: float) -> bytes:
        return b"".join(encode(*self._alter(frame)) for frame in self._decoder.feed(self._inner.read(timeout)))

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def close(self) -> None:
        self._inner.close()


@dataclass
class Loss:
    """The line of the board LOST goes away when the board has answered a question; with ``for_good`` it stays away."""

    question: type[Request]
    for_good: bool
    happened: bool = False

    def __call__(self, frame: Frame) -> Answer:
        if frame.type_id == self.question.type_id | ANSWER_BIT and not self.happened:
            self.happened = True
            raise PortError(LOST, "the line went away")
        return frame.type_id, frame.sequence, frame.payload


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[[Alter], None]:
    """Makes the board LOST go away, or alters its answers."""

    def begin(alter: Alter) -> None:
        wrap = ports.Wrapping.wrap

        def altered(self: Any, transport: Transport, device: str, reboot: Callable[[], None] | None = None) -> Transport:
            line = wrap(self, transport, device, reboot)
            if device == LOST and isinstance(alter, Loss) and alter.happened and alter.for_good:
                line.close()
                raise PortError(LOST, "the line went away")
            return AlteredLine(line, alter) if device == LOST else line  # type: ignore[return-value]

        monkeypatch.setattr(ports.Wrapping, "wrap", altered)

    return begin


def train(boards: int, *, own: bool = False) -> list[Round]:
    """Trains; with ``own`` each board is a client that no other board can train."""
    with running(setup().design, [f"native:{boards}"], Quiet()) as fleet:
        fleet.roster.patience = 0.3
        ids = [device.hello.unique_id for device in fleet.devices] if own else None
        clients = DeviceClients(fleet, setup().strategy, setup().task)
        return list(rounds(setup().strategy, setup().task, clients, first(), boards=ids))


def check(done: Sequence[Round]) -> None:
    """Checks the weights of each round against those that the plain sum of its clients' integers gives."""
    weights, strategy = first(), setup().strategy
    for each in done:
        served = [part.client for part in each.contributions if part.status != "skipped"]
        if served:
            plain = [sent(one) for one in simulated().train(weights, served, each.index)]
            facts = strategy.secure_sum
            assert facts is not None
            weights = strategy.update(weights, [masked_sum.mean(plain, facts)], each.index)
        assert each.weights.tobytes() == weights.tobytes()


def sent(served: Served[Sparse]) -> Sparse:
    assert served.outcome is not None
    return served.outcome


def statuses(done: Round) -> list[str]:
    return sorted(part.status for part in done.contributions)


def test_the_weights_are_those_of_the_plain_sum_and_no_update_is_sent_plain() -> None:
    done = train(DEVICES)
    check(done)
    assert all(statuses(each) == ["accepted"] * DEVICES for each in done)
    again = train(DEVICES)
    assert again[-1].weights.tobytes() == done[-1].weights.tobytes()
    digests = [{part.digest for each in run for part in each.contributions} for run in (done, again)]
    assert not digests[0] & digests[1], "the same masks, or none"


@pytest.mark.parametrize("question", [AskKey, Seat, PullMasked, Open])
@pytest.mark.parametrize("for_good", [False, True], ids=["comes back", "stays away"])
def test_a_lost_board_changes_nothing(question: type[Request], for_good: bool, lose: Callable[[Alter], None]) -> None:
    """Its client is trained again, by itself or by a spare board, and all mask their updates anew."""
    loss = Loss(question, for_good)
    lose(loss)
    done = train(DEVICES + for_good)
    assert loss.happened
    check(done)
    assert statuses(done[0]) == ["accepted"] * (DEVICES - 1) + ["redone"]
    assert done[-1].contributions != [] and statuses(done[-1]) == ["accepted"] * DEVICES


@pytest.mark.parametrize("question", [AskKey, PullMasked])
def test_without_a_spare_board_the_others_go_on(question: type[Request], lose: Callable[[Alter], None]) -> None:
    lose(Loss(question, for_good=True))
    done = train(DEVICES, own=True)
    check(done)
    assert all(statuses(each) == ["accepted"] * (DEVICES - 1) + ["skipped"] for each in done)


def test_a_board_that_was_lost_after_others_had_opened_their_masks_is_not_left_out(lose: Callable[[Alter], None]) -> None:
    """Otherwise two sums would differ by its update alone: the round ends without one."""
    lose(Loss(Open, for_good=True))
    done = train(DEVICES, own=True)
    check(done)
    assert statuses(done[0]) == ["skipped"] * DEVICES
    assert all(statuses(each) == ["accepted"] * (DEVICES - 1) + ["skipped"] for each in done[1:])


def instead(question: type[Request], payload: bytes, *, refuses: bool = False) -> Alter:
    """Gives another answer to a question."""

    def alter(frame: Frame) -> Answer:
        if frame.type_id != question.type_id | ANSWER_BIT:
            return frame.type_id, frame.sequence, frame.payload
        return ERROR_TYPE if refuses else frame.type_id, frame.sequence, payload

    return alter


NO = ErrorAnswer(Status.BAD_VALUE, 0).encode()
LIES = {
    "a key that makes every secret 0": instead(AskKey, b"\1" + bytes(31)),
    "no masked entries": instead(PullMasked, Masked(1, 1, 0, b"").encode()),
    **{f"{each.__name__} refused": instead(each, NO, refuses=True) for each in (AskKey, Seat, PullMasked, Open)},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_board_that_does_not_take_part_is_left_out(lie: Alter, lose: Callable[[Alter], None]) -> None:
    lose(lie)
    done = train(DEVICES)
    check(done)
    assert all(statuses(each)[-1] == "skipped" for each in done)
    assert (done[0].change == 0) == (lie is LIES["Open refused"])  # see the test below
    assert all(any(LOST in part.note for part in each.contributions) for each in done[:1])


def test_two_boards_are_too_few() -> None:
    with pytest.raises(FleetError, match="round 0: 2 of 4 clients could be trained, and a sum of fewer than 3 updates would"):
        train(2)


# --- One board, and others that the test plays ---

TOKEN = 1
PRIVATE = [hashlib.blake2s(bytes([seat])).digest() for seat in range(DEVICES)]  # of the boards in seats 1, 2 and 3
PUBLIC = [curve25519.multiply(private, curve25519.BASE) for private in PRIVATE]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running(setup().design, ["native:1"], Quiet()) as found:
        yield found


@pytest.fixture
def board(built_once: None, fleet: Fleet) -> Session:
    """A board that has trained client 7 in round 0, with a new key; it has seat 0."""
    session = fleet.devices[0].session
    strategy = setup().strategy
    recipe = strategy.training_recipe()
    session.session += 1
    session.configure(Program.TRAIN, recipe)
    session.load(TOKEN, strategy.download(first()))
    session.train(TOKEN, Program.TRAIN, setup().experiment.run.seed, 7, 0)
    session.await_done(TOKEN, recipe.steps)
    for seat, key in enumerate([session.own_key(session.session), *PUBLIC[1:]]):
        session.take_seat(seat, key)
    return session


def pull(board: Session, attempt: int, seats: Sequence[int] = range(DEVICES)) -> masked_sum.Integers:
    return board.pull_masked(TOKEN, attempt, seats, setup().strategy.top_k)


def refused(call: Callable[[], object]) -> Status:
    with pytest.raises(DeviceRefused) as refusal:
        call()
    return refusal.value.status


def plain() -> masked_sum.Integers:
    return sent(simulated().train(first(), [7], 0)[0]).values.astype(np.uint16)


@pytest.mark.parametrize("seats", [(0, 1, 2, 3), (0, 1, 3)])
def test_the_masks_are_those_of_the_document(board: Session, seats: tuple[int, ...]) -> None:
    """Who knows all secrets can remove them; without one of them nothing is left of the update."""
    key, count = board.own_key(board.session), setup().strategy.top_k
    masked = pull(board, 5, seats)
    context = (5).to_bytes(4, "little") + sum(1 << seat for seat in seats).to_bytes(8, "little")
    left = masked - masked_sum.stream(board.open_mask(TOKEN, 5), count)
    for seat in seats[1:]:
        assert np.mean(left == plain()) < 0.05
        shared = curve25519.multiply(PRIVATE[seat], key)
        secret = hashlib.blake2s(shared + min(key, PUBLIC[seat]) + max(key, PUBLIC[seat])).digest()
        mask = masked_sum.stream(hashlib.blake2s(secret + context).digest(), count)
        left = left - mask if key < PUBLIC[seat] else left + mask
    np.testing.assert_array_equal(left, plain())


def test_every_attempt_has_masks_of_its_own(board: Session) -> None:
    one = pull(board, 1)
    np.testing.assert_array_equal(pull(board, 1), one)
    two = pull(board, 2, (0, 1, 2))
    assert np.mean(one == two) < 0.05
    assert refused(lambda: pull(board, 1)) == Status.BAD_VALUE
    assert refused(lambda: pull(board, 2)) == Status.BAD_VALUE  # other participants


@pytest.mark.parametrize("seats", [(0, 1), (1, 2, 3), (0,), ()])
def test_a_board_hides_among_three_or_not_at_all(board: Session, seats: tuple[int, ...]) -> None:
    assert refused(lambda: pull(board, 1, seats)) == Status.BAD_VALUE


def test_one_board_in_two_seats_counts_once(board: Session) -> None:
    board.take_seat(2, PUBLIC[1])
    assert refused(lambda: pull(board, 1, (0, 1, 2))) == Status.BAD_VALUE
    board.take_seat(2, board.own_key(board.session))
    assert refused(lambda: pull(board, 1, (0, 1, 2))) == Status.BAD_VALUE


def test_seats_that_cannot_be(board: Session) -> None:
    assert refused(lambda: board.take_seat(DEVICES, PUBLIC[1])) == Status.BAD_VALUE
    for key in (bytes(32), b"\1" + bytes(31), curve25519.PRIME.to_bytes(32, "little")):  # RFC 7748, section 6.1
        assert refused(lambda key=key: board.take_seat(1, key)) == Status.BAD_VALUE  # type: ignore[misc]
    assert refused(lambda: pull(board, 1, (0, 1, 63))) == Status.BAD_STATE
    board.own_key(board.session + 1)  # of another run: nobody has a seat
    assert refused(lambda: pull(board, 1)) == Status.BAD_STATE


def test_an_update_enters_one_sum_at_most(board: Session) -> None:
    assert refused(lambda: board.open_mask(TOKEN, 1)) == Status.BAD_STATE
    pull(board, 1)
    assert refused(lambda: board.open_mask(TOKEN, 2)) == Status.BAD_VALUE
    seed = board.open_mask(TOKEN, 1)
    assert board.open_mask(TOKEN, 1) == seed
    pull(board, 1)
    assert refused(lambda: pull(board, 2)) == Status.BAD_STATE
    for seat, key in enumerate([board.own_key(board.session + 1), *PUBLIC[1:]]):
        board.take_seat(seat, key)
    assert refused(lambda: pull(board, 1)) == Status.BAD_STATE  # nor in another run


def test_nothing_else_shows_the_update(board: Session) -> None:
    sample = np.zeros(1, np.float32).tobytes()
    for question in (Pull(TOKEN, 0), Fetch(0, 10), Predict(0, 1.0, sample)):  # type: ignore[arg-type]
        assert refused(lambda question=question: board.request(question)) == Status.BAD_STATE  # type: ignore[misc]
    top_p = setup().strategy.training_recipe().__class__(setup().strategy.training(), 10)
    assert refused(lambda: board.configure(Program.TRAIN, top_p)) == Status.BAD_VALUE


@pytest.mark.parametrize(
    "wrong",
    [Masked(9, 1, 0, b"12"), Masked(1, 2, 0, b"12"), Masked(1, 1, 1, b"12"), Masked(1, 1, 0, b""), Masked(1, 1, 0, b"123")],
)
def test_wrong_entries_are_refused(board: Session, wrong: Masked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_ask", lambda *_: wrong)
    with pytest.raises(DeviceGarbled, match=r"asked for masked entries from 0 of 672 in attempt 1 under token 1, got"):
        pull(board, 1)
