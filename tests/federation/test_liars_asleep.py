"""One board of three lies about its sleep, or sends updates that are late: every run ends on the weights of honest boards."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator

import pytest
from allocations import kept
from clocks import wait_until
from lying_boards import HONEST, LIAR, Boards, Events, Liar, Lie, changed, check, refused, starting
from small_runs import sine

from tinymetafed.devices.link.link_errors import PortError
from tinymetafed.learn.weights import sha256
from tinymetafed.wire.frame import Frame, encode
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Delta, HelloAnswer, Progress, Record, State, Status

ROUNDS = 4
Asked = type[protocol.Request]


@pytest.fixture(scope="module")
def sleepers(built_once_for_module: None) -> Iterator[Boards]:
    """Boards of a run that waits for those that sleep: nobody is lost for good, and the loss of a line is no failure."""
    keys = ("strategy.uplink=i8", "run.quorum=1", "run.deadline=10min")
    with starting(sine(f"run.rounds={ROUNDS}", "run.devices_per_round=3", *keys), None) as started:
        yield started


@pytest.fixture(scope="module")
def audited(built_once_for_module: None) -> Iterator[Boards]:
    """Boards of which a second one repeats what the first has done."""
    keys = ("strategy.uplink=i8", "strategy.audit=1")
    with starting(sine(f"run.rounds={ROUNDS}", "run.devices_per_round=3", *keys), None) as started:
        yield started


@pytest.fixture(scope="module")
def honest(sleepers: Boards) -> str:
    """The weights after all rounds of honest boards, whatever the deadline and the audit."""
    return sha256(sleepers.train(Events(), HONEST)[-1].weights)


def answers(frame: Frame, question: Asked) -> bool:
    return frame.type_id == question.type_id | protocol.ANSWER_BIT


def naps(*questions: Asked, times: float = float("inf")) -> Lie:
    """Goes to sleep when it is asked one of these, with the line closed; and answers again at once."""
    napped = 0

    def lie(answer: Record, frame: Frame) -> Record:
        nonlocal napped
        if napped < times and any(answers(frame, question) for question in questions):
            napped += 1
            raise PortError(LIAR, "the line went away")
        return answer

    return lie


def naps_in_turn(*questions: Asked) -> Lie:
    """Goes to sleep at one step of a round, the next time at the next one, and so on without end."""
    turn = 0

    def lie(answer: Record, frame: Frame) -> Record:
        nonlocal turn
        if answers(frame, questions[turn % len(questions)]):
            turn += 1
            raise PortError(LIAR, "the line went away")
        return answer

    return lie


def sleeps_for_ever(from_: Asked, says: Callable[[Record], Record | None] | None = None) -> Lie:
    """Goes to sleep at a step and is never heard again; or, where it ``says`` something, with an open line."""
    asleep = False

    def lie(answer: Record, frame: Frame) -> Record | None:
        nonlocal asleep
        asleep = asleep or answers(frame, from_)
        if not asleep:
            return answer
        if says is None:
            raise PortError(LIAR, "the line went away")
        return says(answer)

    return lie


def said_of(about: type[Record], **fields: object) -> Callable[[Record], Record | None]:
    """Says something about itself, and nothing else."""
    return lambda answer: dataclasses.replace(answer, **fields) if isinstance(answer, about) else None  # type: ignore[type-var]


STEPS: tuple[Asked, ...] = (protocol.Load, protocol.Train, protocol.Await, protocol.Pull)
AFTER_RESET = (Status.BAD_STATE, Status.BAD_TOKEN, Status.BAD_OFFSET)

ASLEEP_LIES: dict[str, Lie] = {
    **{f"a nap at every {step.__name__}": naps(step) for step in STEPS},
    **{f"one nap at {step.__name__}, after a promise to be awake": naps(step, times=1) for step in STEPS},
    "a nap at every step in turn": naps_in_turn(*STEPS),
    "a nap when it wakes and is configured": naps(protocol.Configure, protocol.Train),
    "a nap when it says who it is": naps(protocol.Hello, protocol.Train),
    "awake for Hello and Configure alone": naps(*STEPS),
    **{f"sleeps from {step.__name__} on and never wakes": sleeps_for_ever(step) for step in STEPS},
    **{f"silent from {step.__name__} on, on an open line": sleeps_for_ever(step, lambda said: None) for step in STEPS},
    "says that it trains, and sleeps": sleeps_for_ever(protocol.Await, said_of(Progress, state=State.TRAINING, step=1)),
    "says that it sleeps, and trains": sleeps_for_ever(protocol.Train, said_of(Progress, state=State.IDLE, step=0)),
    "answers nothing but Hello": sleeps_for_ever(protocol.Train, said_of(HelloAnswer)),
    "trained for 2^32 ticks": changed(Progress, ticks=2**32 - 1, state=State.TRAINING),
    "no ticks in a second": lambda answer, frame: (
        dataclasses.replace(answer, ticks_per_second=0)
        if isinstance(answer, HelloAnswer)
        else naps(protocol.Train)(answer, frame)
    ),
    **{f"forgets at each {step.__name__}, {status.name}": refused(step, status) for step in STEPS for status in AFTER_RESET},
}


@pytest.mark.parametrize("lie", ASLEEP_LIES.values(), ids=ASLEEP_LIES.keys())
def test_a_run_with_a_board_that_lies_about_its_sleep_ends_on_the_weights_of_honest_boards(
    sleepers: Boards, lie: Lie, honest: str
) -> None:
    check(sleepers, Liar(lie), honest)


class Kept:
    """What a board has said in earlier rounds, to say it again."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self._cycles: list[int] = []

    def hears(self, answer: Record) -> int:
        """Notes an update; returns the number of its cycle, from 0 on."""
        if not isinstance(answer, Delta):
            return len(self._cycles)
        if answer.token not in self._cycles:
            self._cycles.append(answer.token)
        self.deltas.append(answer)
        return self._cycles.index(answer.token)

    def first(self, rank: int) -> Delta:
        """The message of the first update that begins at a rank."""
        return next(delta for delta in self.deltas if delta.rank == rank)


def again(*, with_token: bool, since: int = 1) -> Lie:
    """Sends the first update again in every cycle from the ``since``-th on; ``with_token``: as if it were of this one."""
    kept = Kept()

    def lie(answer: Record, frame: Frame) -> Record:
        if kept.hears(answer) < since or not isinstance(answer, Delta):
            return answer
        old = kept.first(answer.rank)
        return dataclasses.replace(old, token=answer.token) if with_token else old

    return lie


def before(question: Asked, kept: Kept, *, asked: bool) -> Callable[[Frame], bytes]:
    """Sends an update of an earlier round before the answers to one type of request; ``asked``: with their sequence."""

    def early(frame: Frame) -> bytes:
        if not answers(frame, question) or not kept.deltas:
            return b""
        sequence = frame.sequence if asked else (frame.sequence - 1) % 256
        return encode(protocol.Pull.type_id | protocol.ANSWER_BIT, sequence, kept.deltas[0].encode())

    return early


def late_before(question: Asked, *, asked: bool) -> Liar:
    kept = Kept()

    def lie(answer: Record, frame: Frame) -> Record:
        kept.hears(answer)
        return answer

    return Liar(lie, early=before(question, kept, asked=asked))


def held_back() -> Lie:
    """Sends no update when it is asked for one, but that of the round before."""
    held: list[Delta] = []

    def lie(answer: Record, frame: Frame) -> Record | None:
        if not isinstance(answer, Delta):
            return answer
        held.append(answer)
        return held[-2] if len(held) > 1 else None

    return lie


REFUSED_LATE: dict[str, Callable[[], Liar]] = {
    "the update of a round that was closed": lambda: Liar(again(with_token=False)),
    "the update of a round that never was": lambda: Liar(changed(Delta, token=2**32 - 1)),
    "the update of no round": lambda: Liar(changed(Delta, token=0)),
    **{
        f"an update of an earlier round before each answer to {step.__name__}{'' if asked else ', of the request before'}": (
            lambda step=step, asked=asked: late_before(step, asked=asked)  # type: ignore[misc]
        )
        for step in STEPS
        for asked in (True, False)
        if (step, asked) != (protocol.Pull, True)
    },
    "the same update a hundred times": lambda: Liar(lambda answer, frame: answer, copies=100),
    "updates without end after it was left out": lambda: Liar(
        changed(Delta, token=999),
        noise=b"".join(encode(protocol.Pull.type_id | protocol.ANSWER_BIT, n, bytes(40)) for n in range(256)),
    ),
}


@pytest.mark.parametrize("liar", REFUSED_LATE.values(), ids=REFUSED_LATE.keys())
def test_a_late_update_reaches_no_weight(sleepers: Boards, liar: Callable[[], Liar], honest: str) -> None:
    events, told = Events(), liar()
    done = sleepers.train(events, told)
    assert told.lied.is_set()
    assert sha256(done[-1].weights) == honest
    assert {part.status for each in done for part in each.contributions} <= {"accepted", "redone"}


# They look like true updates. Tokens begin anew in each session: after a loss an update of an earlier one may have the token.
LIKE_TRUE_ONES: dict[str, Callable[[], Liar]] = {
    "the update of a round that was closed, as if it were of this one": lambda: Liar(again(with_token=True)),
    "the same update again and again from the third on": lambda: Liar(again(with_token=True, since=2)),
    "the update of the round before, a round late": lambda: Liar(held_back()),
    "an update of an earlier round in place of each": lambda: late_before(protocol.Pull, asked=True),
}


@pytest.mark.parametrize("liar", LIKE_TRUE_ONES.values(), ids=LIKE_TRUE_ONES.keys())
def test_an_update_of_another_round_or_client_is_found_by_an_audit(
    audited: Boards, liar: Callable[[], Liar], honest: str
) -> None:
    check(audited, liar(), honest)


def test_runs_with_liars_leave_no_object_thread_or_descriptor(sleepers: Boards) -> None:
    def lie_often() -> None:
        for liar in (
            Liar(naps(protocol.Pull)),
            late_before(protocol.Load, asked=True),
            Liar(changed(Delta, token=0), copies=50),
        ):
            sleepers.train(Events(), liar)

    lie_often()
    before = kept()
    for _ in range(3):
        lie_often()
    wait_until(lambda: threading.active_count() <= before["threads"])
    grown = kept() - before
    assert all(count <= 3 for count in grown.values()), grown  # a device may hold its last request, or its last error
