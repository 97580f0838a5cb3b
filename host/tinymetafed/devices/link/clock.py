"""The host's clock as an interface, so that tests can replace the machine's clock by one that they control."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def monotonic(self) -> float:
        """Seconds since a fixed moment; never decreases."""

    def sleep(self, seconds: float) -> None:
        """Returns ``seconds`` later."""

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """Waits until ``changed``, which the caller holds, is notified, or ``seconds`` have passed."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """See Clock."""
        changed.wait(seconds)


SYSTEM_CLOCK = SystemClock()
