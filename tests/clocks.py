"""Clocks for tests, so that no test fails or passes because the machine is slow; and one limit for all that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

HUNG_SECONDS = 600.0  # ends a test that would never end; nothing else depends on it
LOOK_SECONDS = 0.005  # between two looks at something that another thread or process does


def wait_until(happened: Callable[[], object]) -> None:
    """Returns once ``happened()`` is true. Fails only when the test hangs."""
    end = time.monotonic() + HUNG_SECONDS
    while not happened():
        assert time.monotonic() < end, "hung: what the test waits for has not happened"
        time.sleep(LOOK_SECONDS)


class FakeClock:
    """Goes on by just the time that somebody waits, at once; for a test that runs in one thread."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits = 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.0)

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        self.waits += 1
        self.sleep(seconds)


class HeldClock:
    """Stands still until the test moves it by ``advance``; threads that wait for it look at it now and then."""

    def __init__(self) -> None:
        self._now = 100.0
        self._lock = threading.Lock()
        self.looks = 0

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        until = self._now + seconds
        wait_until(lambda: self._now >= until)

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        self.looks += 1
        changed.wait(LOOK_SECONDS)


class EventClock:
    """Stands still until something has happened; from then on every deadline has passed."""

    def __init__(self, happened: Callable[[], object]) -> None:
        self._happened = happened
        self._end = time.monotonic() + HUNG_SECONDS

    def monotonic(self) -> float:
        assert time.monotonic() < self._end, "hung: what the test waits for has not happened"
        return 1e9 if self._happened() else 0.0

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, LOOK_SECONDS))

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        changed.wait(min(seconds, LOOK_SECONDS))


class SlowClock:
    """The machine's clock at a thousandth of its speed: no deadline passes because a process on the machine is slow."""

    def monotonic(self) -> float:
        return time.monotonic() / 1000

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        changed.wait(seconds)
