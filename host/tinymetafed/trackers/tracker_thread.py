"""A tracker in a thread of its own: a run does not wait for it, and its failure is a warning."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from .tracker import TrackedEnd, TrackedRound, TrackedRun, Tracker

PATIENCE = 30.0  # seconds between checks for progress; after two without any, the end of a run no longer waits for a log

Shown = TrackedRun | TrackedRound | TrackedEnd
_FUNCTIONS = {TrackedRun: "start()", TrackedRound: "round()", TrackedEnd: "finished()"}


class TrackerThread:
    """Shows a run to a tracker, in order, in a thread of its own; says once why the log ends early."""

    def __init__(
        self,
        make: Callable[[], Tracker],
        explain: Callable[[BaseException, str], str],
        say: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        """Starts the thread.

        Args:
            make: Makes the tracker, in its thread.
            explain: One line for what the tracker raised in a function, which the second argument names.
            say: Is told why the log ends early, at most once.
            patience: Seconds; ``end`` looks that often whether there is progress.
        """
        self._make, self._explain, self._say, self._patience = make, explain, say, patience
        self._waiting: queue.SimpleQueue[Shown | None] = queue.SimpleQueue()
        self._done = threading.Event()
        self._over = threading.Event()  # the log has failed or was given up
        self._seen = 0  # items that the tracker has been shown
        self._known = 0  # rounds that its log had before
        threading.Thread(target=self._work, daemon=True, name="tracker").start()

    def show(self, item: Shown) -> None:
        """Hands over what the tracker is to see; returns at once."""
        if not self._over.is_set():
            self._waiting.put(item)

    def end(self) -> None:
        """Closes the tracker after what it was given, and waits for it while it makes progress."""
        self._waiting.put(None)
        before = -1
        while not self._done.wait(self._patience):
            if self._seen == before:
                self._give_up(f"no progress for {self._patience:g} seconds, with {self._waiting.qsize():,} entries to go")
                return
            before = self._seen

    def _give_up(self, why: str) -> None:
        known_before = self._over.is_set()
        self._over.set()
        if not known_before:
            self._say(why)

    def _work(self) -> None:
        where = "__init__()"
        try:
            tracker = self._make()
            try:
                while (item := self._waiting.get()) is not None and not self._over.is_set():
                    where = _FUNCTIONS[type(item)]
                    self._show(tracker, item)
                    self._seen += 1
            except BaseException:
                with suppress(BaseException):  # the first error is the one to tell
                    tracker.close()
                raise
            where = "close()"
            tracker.close()
        except BaseException as error:  # whatever a library or a user's code raises, SystemExit too
            self._give_up(self._explain(error, where))
        finally:
            self._done.set()

    def _show(self, tracker: Tracker, item: Shown) -> None:
        if isinstance(item, TrackedRun):
            self._known = tracker.start(item) or 0
        elif isinstance(item, TrackedEnd):
            tracker.finished(item)
        elif item.round > self._known:
            tracker.round(item)
