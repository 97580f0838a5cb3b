"""Shows progress of long work: bars in terminals and notebooks, lines in logs, or calls of the user's function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from ..federation.observer import Observer, Silent

if TYPE_CHECKING:
    from rich.progress import Progress


def _console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: brackets in names are no markup, and colons no emoji."""
    return Console(stderr=stderr, markup=False, emoji=False)


_standard_error = _console(stderr=True)


@dataclass(frozen=True)
class ProgressEvent:
    """The progress of long work.

    ``stage``: name of the current stage, of which ``done`` of ``total`` steps are done (``total`` is 0 if unknown).
    ``note``: a new note, for instance the latest score. ``event``: a problem that was handled. Both are "" if there is none.
    """

    stage: str
    done: int
    total: int
    note: str = ""
    event: str = ""


ProgressCallback = Callable[[ProgressEvent], None]
# Values of ``progress``: True for bars or lines, False for nothing, a function, or the user's own observer.
ProgressOption = bool | ProgressCallback | Observer


class Bars:
    """Progress as bars in a terminal or a notebook."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar = progress.add_task("", total=None, note="")

    def stage(self, text: str, total: int = 0) -> None:
        """Replaces the bar by a new one."""
        self._progress.remove_task(self._bar)
        self._bar = self._progress.add_task(text, total=total or None, note="")

    def advance(self) -> None:
        """Advances the bar by one step."""
        self._progress.advance(self._bar)

    def note(self, text: str) -> None:
        """Shows ``text`` beside the bar."""
        self._progress.update(self._bar, note=text)

    def event(self, text: str) -> None:
        """Prints a line above the bar, which stays on the screen."""
        self._progress.console.print(text, highlight=False, soft_wrap=True)


class Lines:
    """Progress as lines, for logs and pipes."""

    def stage(self, text: str, total: int = 0) -> None:
        """Prints a line for a new stage."""
        _standard_error.print(text + (f" ({total:,})" if total else ""), highlight=False, soft_wrap=True)

    def advance(self) -> None:
        """Prints nothing, because a line per step is too much for a log."""

    def note(self, text: str) -> None:
        """Prints a note as a line."""
        _standard_error.print(f"  {text}", highlight=False, soft_wrap=True)

    def event(self, text: str) -> None:
        """Prints an event as a line."""
        self.note(text)


class Calls:
    """Progress as calls of the user's function, one per change; calls for events may come from other threads."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback = callback
        self._stage, self._done, self._total = "", 0, 0

    def _call(self, note: str = "", event: str = "") -> None:
        self._callback(ProgressEvent(self._stage, self._done, self._total, note, event))

    def stage(self, text: str, total: int = 0) -> None:
        """Reports a new stage."""
        self._stage, self._done, self._total = text, 0, total
        self._call()

    def advance(self) -> None:
        """Reports one more step."""
        self._done += 1
        self._call()

    def note(self, text: str) -> None:
        """Reports a note."""
        self._call(note=text)

    def event(self, text: str) -> None:
        """Reports an event."""
        self._call(event=text)


@contextmanager
def watching(progress: ProgressOption = True) -> Iterator[Observer]:
    """Gives the observer for a value of ``progress``.

    Args:
        progress: True for bars in a terminal or notebook and lines elsewhere, False for nothing; or a function that is called
            with a ProgressEvent, or an observer.

    Yields:
        The observer.
    """
    if progress is False:
        yield Silent()
    elif progress is True:
        with _shown() as observer:
            yield observer
    elif isinstance(progress, Observer):
        yield progress
    else:
        yield Calls(progress)


@contextmanager
def _shown() -> Iterator[Observer]:
    console = _console() if _standard_error.is_jupyter else _standard_error  # a notebook shows bars on standard output only
    if not (console.is_terminal or console.is_jupyter):
        yield Lines()
        return
    # Imported here because a program without a terminal starts sooner without it.
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress)
