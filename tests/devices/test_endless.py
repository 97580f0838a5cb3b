"""A board that answers for ever and never ends: its session ends by itself, by a clock that the test controls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from clocks import FakeClock
from fake_device import FakeBoard, FakeLine

from tinymetafed.devices.link.deadline import FACTOR, SHORTEST_SECONDS, Deadline
from tinymetafed.devices.link.link_errors import LinkError
from tinymetafed.devices.link.session import Session
from tinymetafed.federation.clients import TrainingFailed
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Program, Progress, State, Status

STEPS = 1000
LONG = 3600.0  # seconds: none of these takes so long


class SlowerAndSlower(FakeBoard):
    """Says at each question that it has trained one step more; the answers come later and later."""

    later = 0.01

    def _advance(self) -> None:
        pass

    def _answer(self, frame: object) -> protocol.Record | None:
        answer = super()._answer(frame)  # type: ignore[arg-type]
        if not isinstance(answer, (Progress, type(None))):
            return answer
        if frame.type_id not in (protocol.Await.type_id, protocol.Sample.type_id):  # type: ignore[attr-defined]
            return Progress(self._token, State.TRAINING, Status.OK, 0, 0)
        self.clock.sleep(self.later)
        self.later = min(1.5 * self.later, 100.0)
        self._awaiting = None
        self._step = self._step + 1 if answer is None else self._step
        return Progress(self._token, State.TRAINING, Status.OK, self._step, 0)


class OneByte(FakeLine):
    """Delivers one byte per second."""

    def __init__(self, board: FakeBoard, clock: FakeClock) -> None:
        super().__init__(board, clock)
        self._slow, self._left = clock, b""

    def read(self, timeout: float) -> bytes:
        self._left = self._left or super().read(0.0)
        self._slow.sleep(min(timeout, 1.0) if not self._left else 1.0)
        byte, self._left = self._left[:1], self._left[1:]
        return byte


def test_slower_and_slower_progress_is_ended() -> None:
    clock = FakeClock()
    board = SlowerAndSlower(clock=clock, steps=STEPS)
    session = Session(FakeLine(board, clock), clock=clock)
    session.train(1, Program.TRAIN, 1, 2, 3)
    with pytest.raises(TrainingFailed, match="much slower than at first"):
        session.await_done(1, STEPS)
    assert clock.now - FakeClock().now < LONG


def test_slower_and_slower_samples_are_ended() -> None:
    clock = FakeClock()
    session = Session(FakeLine(SlowerAndSlower(clock=clock), clock), clock=clock)

    def samples() -> Iterator[Example]:
        for _ in range(STEPS):
            yield Example(np.ones(1, np.float32), np.ones(1, np.float32))

    with pytest.raises((TrainingFailed, LinkError)):
        session.stream(1, samples(), total_steps=STEPS)
    assert clock.now - FakeClock().now < LONG


def test_a_line_of_one_byte_per_second_is_given_up() -> None:
    clock = FakeClock()
    session = Session(OneByte(FakeBoard(clock=clock), clock), clock=clock)
    with pytest.raises(LinkError):
        session.fetch(0, 100)
    assert clock.now - FakeClock().now < LONG


@pytest.mark.parametrize("seconds_per_step", [0.001, 0.1, 60.0])
def test_a_board_that_keeps_its_pace_never_passes_its_deadline(seconds_per_step: float) -> None:
    deadline = Deadline(500, 100.0)
    assert not any(deadline.has_passed(step, 100.0 + step * seconds_per_step) for step in range(1, 501))


def test_the_deadline_is_a_multiple_of_the_best_pace() -> None:
    deadline = Deadline(1000, 0.0)
    assert not deadline.has_passed(100, 10.0)
    assert not deadline.has_passed(101, FACTOR * 100.0) and deadline.has_passed(101, FACTOR * 100.0 + 1)
    short = Deadline(2, 0.0)
    assert (
        not short.has_passed(1, 1.0) and not short.has_passed(1, SHORTEST_SECONDS) and short.has_passed(1, SHORTEST_SECONDS + 3)
    )
