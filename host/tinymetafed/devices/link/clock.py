"""Time as the host measures it: the machine's clock, for which a test puts one that it moves itself."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Returns ``seconds`` later."""

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """Returns when ``changed``, which the caller holds, is notified, and after ``seconds`` at the latest."""


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
