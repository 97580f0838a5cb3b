"""Progress of long work: bars in terminals and notebooks, lines in a log, or calls of a user's own function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..federation.observer import Observer, Silent

_standard_error = Console(stderr=True)


@dataclass(frozen=True)
class ProgressEvent:
    """Where long work stands.

    ``stage`` names its current part, ``done`` of ``total`` steps of it are done (``total`` is 0 where that is not known).
    ``note`` is the latest thing worth knowing, ``event`` something that went wrong and was dealt with; both are "" without.
    """

    stage: str
    done: int
    total: int
    note: str = ""
    event: str = ""


ProgressCallback = Callable[[ProgressEvent], None]
# What ``progress`` takes: True for bars or lines, False for nothing, a function, or an observer of the user's own.
ProgressOption = bool | ProgressCallback | Observer


class Bars:
    """Progress as bars in a terminal or a notebook."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar = progress.add_task("", total=None, note="")

    def stage(self, text: str, total: int = 0) -> None:
        """Begins a new bar in place of the former one."""
        self._progress.remove_task(self._bar)
        self._bar = self._progress.add_task(text, total=total or None, note="")

    def advance(self) -> None:
        """One step further."""
        self._progress.advance(self._bar)

    def note(self, text: str) -> None:
        """Shows ``text`` beside the bar."""
        self._progress.update(self._bar, note=text)

    def event(self, text: str) -> None:
        """A line above the bar, to stay."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """Progress as lines, for logs and pipes."""

    def stage(self, text: str, total: int = 0) -> None:
        """A line for a new part."""
        _standard_error.print(text + (f" ({total:,})" if total else ""), highlight=False, soft_wrap=True)

    def advance(self) -> None:
        """Nothing: a log wants no line per step."""

    def note(self, text: str) -> None:
        """A line for what is worth knowing on the way."""
        _standard_error.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    def event(self, text: str) -> None:
        """A line like any other."""
        self.note(text)


class Calls:
    """Progress as calls of a user's function, one for each change; an event may come from another thread."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback = callback
        self._stage, self._done, self._total = "", 0, 0

    def _tell(self, note: str = "", event: str = "") -> None:
        self._callback(ProgressEvent(self._stage, self._done, self._total, note, event))

    def stage(self, text: str, total: int = 0) -> None:
        """A new part, with none of its steps done."""
        self._stage, self._done, self._total = text, 0, total
        self._tell()

    def advance(self) -> None:
        """One step further."""
        self._done += 1
        self._tell()

    def note(self, text: str) -> None:
        """What is worth knowing on the way."""
        self._tell(note=text)

    def event(self, text: str) -> None:
        """What went wrong and was dealt with."""
        self._tell(event=text)


@contextmanager
def watching(progress: ProgressOption = True) -> Iterator[Observer]:
    """An observer for what ``progress`` asks; with True, one that suits where standard error goes."""
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
    console = (
        Console() if _standard_error.is_jupyter else _standard_error
    )  # a notebook shows what goes to standard output in its place
    if not (console.is_terminal or console.is_jupyter):
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress)
