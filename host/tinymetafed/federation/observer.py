"""The interface for progress of long work: stages, steps, notes and events."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Observer(Protocol):
    """Watches a run; progress bars, logs and notebooks are drawn from these calls."""

    def stage(self, text: str, total: int = 0) -> None:
        """A new stage begins.

        Args:
            text: Its name, for instance "training".
            total: Its number of steps; 0 if unknown.
        """

    def advance(self) -> None:
        """One step of the current stage is done."""

    def note(self, text: str) -> None:
        """Text to show beside the progress, for instance the latest score."""

    def event(self, text: str) -> None:
        """A problem that was handled; the text should stay on the screen. May be called from any thread."""


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
