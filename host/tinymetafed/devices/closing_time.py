"""When the work of a round ends without items that sleeping or slow devices have not done."""

from __future__ import annotations

from collections.abc import Sequence

from ..federation.quorum import Closing


class ClosingTime:
    """The time at which a round ends: its deadline, or later, as soon as its quorum is done."""

    def __init__(self, closing: Closing, began: float) -> None:
        """``began``: when the round did, in seconds of the fleet's clock."""
        self.round = closing.round
        self.quorum = closing.quorum
        self.deadline = began + closing.seconds
        self.at: float | None = None  # when it ended without some of its items; None if it has not
        self._began = began
        self._next_word = self.deadline

    def look(self, now: float, done: int) -> str:
        """Ends the round if it is time and ``done`` items are enough.

        Returns:
            What to tell the user about a quorum that is not reached, now and then; "" otherwise.
        """
        if self.at is not None or now < self.deadline:
            return ""
        if done >= self.quorum:
            self.at = now
            return ""
        if now < self._next_word:
            return ""
        self._next_word = now + (now - self._began)  # after twice as long, so that a night of waiting is a few lines
        return (
            f"round {self.round}: {done} of the {self.quorum} clients that run.quorum asks for are done after "
            f"{now - self._began:.1f} s; the round goes on as soon as boards wake, and Ctrl-C loses no finished round"
        )

    def impossible(self, done: int, reasons: Sequence[str]) -> str:
        """The error's text for a quorum that the remaining boards cannot reach; ``reasons``: why others are not expected."""
        why = "".join(f"; {reason}" for reason in reasons)
        return (
            f"round {self.round}: {done} clients are done, run.quorum asks for {self.quorum}, and no board is left that could "
            f"do the others{why}; repair or replace these boards and continue the run"
        )

    def why(self, absence: str) -> str:
        """Why an item is not done; ``absence`` is the end of the sentence."""
        return f"late: the round ended {self._ended:.1f} s after its start; {absence}"

    @property
    def _ended(self) -> float:
        return (self.deadline if self.at is None else self.at) - self._began
