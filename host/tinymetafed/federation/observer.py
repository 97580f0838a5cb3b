"""Who watches long work: its parts, its steps, what is worth knowing on the way."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Observer(Protocol):
    """Watches a run; progress bars, logs and notebooks are drawn from these calls."""

    def stage(self, text: str, total: int = 0) -> None:
        """A new part of the work begins, ``total`` steps long; 0 when that is not known."""

    def advance(self) -> None:
        """One step of the current part is done."""

    def note(self, text: str) -> None:
        """Something to show beside the progress, for instance the latest score."""

    def event(self, text: str) -> None:
        """Something went wrong and was dealt with; called from any thread, and the text stays readable."""


class Silent:
    """Shows nothing."""

    def stage(self, text: str, total: int = 0) -> None:
        """Nothing."""

    def advance(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def event(self, text: str) -> None:
        """Nothing."""
