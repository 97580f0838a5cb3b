"""What a gateway shows of the runs that it serves: a bar over a run's rounds, and a line now and then where there is none."""

from __future__ import annotations

from ..devices.link.clock import SYSTEM_CLOCK, Clock
from ..federation.observer import Observer

LINE_SECONDS = 60.0  # between two notes about rounds, each of which is a line in a log


class GatewayProgress:
    """Tells an observer of runs and their rounds; the steps of a stage are the rounds of a run.

    Args:
        observer: Is told.
        title: What the gateway is, for people: its name and its boards.
        rounds: Rounds of a run.
        clock: Clock to measure time with.
    """

    def __init__(self, observer: Observer, title: str, rounds: int, clock: Clock = SYSTEM_CLOCK) -> None:
        """No run has begun yet."""
        self._observer, self._title, self._rounds, self._clock = observer, title, rounds, clock
        self._done = 0
        self._noted = float("-inf")

    def waiting(self) -> None:
        """No run is in progress."""
        self._observer.stage(f"{self._title}: waiting for a run")

    def run_begins(self) -> None:
        """A server has asked for the boards."""
        self._done, self._noted = 0, float("-inf")
        self._observer.stage(f"{self._title}: rounds of a run", self._rounds)

    def round_done(self, number: int, clients: int) -> None:
        """This gateway's part of a round is done.

        Args:
            number: The round's number, from 0 on. Rounds in which this gateway had no part are done, too.
            clients: How many clients it trained here.
        """
        for _ in range(self._done, number + 1):
            self._observer.advance()
        self._done = max(self._done, number + 1)
        now, is_last = self._clock.monotonic(), self._done == self._rounds
        if is_last or now - self._noted >= LINE_SECONDS:
            self._noted = now
            self._observer.note(f"round {number + 1:,} of {self._rounds:,}, {clients} clients here")
        if is_last:
            self.waiting()
