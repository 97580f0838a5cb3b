"""The interface of observers that see a run's journal while it grows, and not only its progress as text."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..federation.observer import Observer
from .journal import Entry
from .run_data import RunData


@runtime_checkable
class JournalObserver(Observer, Protocol):
    """An observer that is also shown what a session finds in the journal, and each entry that it adds."""

    def opened(self, run: RunData) -> None:
        """A session has begun; ``run`` has its first entry and all that sessions before it have stored."""

    def evaluates(self, round_: int) -> None:
        """An evaluation of the weights after so many rounds has begun; its entry may be stored after those of later rounds."""

    def stored(self, entry: Entry) -> None:
        """The session has stored an entry."""
