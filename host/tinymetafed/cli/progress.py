"""Progress on standard error: bars on a terminal, lines in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..federation.observer import Observer

notes = Console(stderr=True)


class Bars:
    """Progress as bars on a terminal."""

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
        notes.print(text + (f" ({total:,})" if total else ""), highlight=False, soft_wrap=True)

    def advance(self) -> None:
        """Nothing: a log wants no line per step."""

    def note(self, text: str) -> None:
        """A line for what is worth knowing on the way."""
        notes.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    def event(self, text: str) -> None:
        """A line like any other."""
        self.note(text)


@contextmanager
def watching() -> Iterator[Observer]:
    """An observer that suits where standard error goes."""
    if not notes.is_terminal:
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
    with Progress(*columns, console=notes, transient=True) as progress:
        yield Bars(progress)
