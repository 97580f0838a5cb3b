"""Work in a thread of its own, beside other work, whose outcome the thread that began it takes when it is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


class Beside(Generic[Outcome]):
    """One piece of work at a time. Whoever stops early need not wait for it: its devices end it when they are closed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None  # most runs need none
        self._begun: tuple[Future[Outcome], Callable[[Outcome, float], None]] | None = None

    def start(self, work: Callable[[], Outcome], take: Callable[[Outcome, float], None]) -> None:
        """Begins ``work``, once that before it is done.

        ``take`` gets its outcome, and how many seconds were spent waiting for it, in the thread that calls this object.
        """
        self.finish()
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="beside")
        self._begun = self._pool.submit(work), take

    def look(self) -> None:
        """Takes the outcome if it is there. Raises what the work has raised."""
        if self._begun is not None and self._begun[0].done():
            self.finish()

    def finish(self) -> None:
        """Waits for the outcome, if there is work, and takes it. Raises what the work has raised."""
        if self._begun is not None:
            (future, take), self._begun = self._begun, None
            began = time.monotonic()
            outcome = future.result()
            take(outcome, time.monotonic() - began)
