"""When a board must have trained a program: from the number of its steps and the pace at which the board trains them."""

from __future__ import annotations

SHORTEST_SECONDS = 30.0  # for any program, because a machine may stand still for a while
FACTOR = 16.0  # times the duration at the best pace so far
MEASURED_SECONDS = 1.0  # before the pace is known


class Deadline:
    """The deadline of one program. A board that reports progress for ever passes it, however it spreads its steps."""

    def __init__(self, steps: int, now: float) -> None:
        """``steps``: number of steps of the program, which begins ``now``, in seconds."""
        self._steps = steps
        self._began = now
        self._seconds_per_step: float | None = None

    def has_passed(self, step: int, now: float) -> bool:
        """Notes that ``step`` was reached by the time ``now``; whether the program should have ended long ago."""
        took = now - self._began
        if step and took >= MEASURED_SECONDS:
            pace = took / step
            self._seconds_per_step = pace if self._seconds_per_step is None else min(pace, self._seconds_per_step)
        known = self._seconds_per_step
        return known is not None and took > max(SHORTEST_SECONDS, FACTOR * known * self._steps)
