"""What a run is doing at the moment, in a small file beside its store for as long as it trains: stage, clock, boards, events.

The store holds finished rounds alone. This file is for those who watch, is written again every second, and is gone when
the training ends. Nothing depends on it: where it cannot be written, the run goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pydantic
from pydantic import TypeAdapter

from tinymetafed_codegen.section import StrictJson

from ..federation.board_state import BoardState, OnBoards
from ..federation.clients import Trainers
from ..federation.observer import Observer
from .journal import Entry
from .journal_observer import JournalObserver
from .run_data import RunData
from .run_folder import STATUS, STATUS_FILES

FIRST_SECONDS, PERIOD_SECONDS = 0.2, 1.0  # until the file is written first, and between two times
FRESH_SECONDS = 20.0  # an older file is of a training that ended without removing it
MAX_EVENTS = 30  # latest events that are kept
_MAX_BYTES = 1 << 20  # of a file that is read

Now = Callable[[], float]  # seconds since 1970


@dataclass(frozen=True)
class StatusEvent(StrictJson):
    """A problem that was handled: when, in seconds since 1970, and what."""

    at: float
    text: str


@dataclass(frozen=True)
class RunStatus(StrictJson):
    """A training run at a moment; all times are in seconds since 1970.

    ``written``: the moment. ``stage``: what is being done, of which ``done`` of ``total`` steps are done (0 if unknown).
    ``stage_began``, ``step_began``: when the stage and its current step began. ``note``: the latest one, as a score.
    """

    written: float
    stage: str
    done: int
    total: int
    stage_began: float
    step_began: float
    note: str
    events: tuple[StatusEvent, ...]
    boards: tuple[BoardState, ...]

    def is_fresh(self, now: float) -> bool:
        """Whether the training that wrote it goes on."""
        return abs(now - self.written) < FRESH_SECONDS


class Watched:
    """An observer that tells another one everything, and remembers what those who watch want to know."""

    def __init__(self, observer: Observer, now: Now = time.time) -> None:
        self._observer, self._now = observer, now
        self._journal_observer = observer if isinstance(observer, JournalObserver) else None  # asked once: it takes long
        self._lock = threading.Lock()
        self._events: deque[StatusEvent] = deque(maxlen=MAX_EVENTS)
        self._clients: OnBoards | None = None
        began = now()
        self._status = RunStatus(began, "", 0, 0, began, began, "", (), ())
        self._done, self._step_began = 0, began  # those of the status change in every round

    def watch(self, clients: Trainers) -> None:
        """Looks from now on at the boards of these clients too, if they have any."""
        self._clients = clients if isinstance(clients, OnBoards) else None

    def stage(self, text: str, total: int = 0) -> None:
        """See Observer."""
        with self._lock:
            now = self._now()
            self._status = replace(self._status, stage=text, total=total, stage_began=now)
            self._done, self._step_began = 0, now
        self._observer.stage(text, total)

    def advance(self) -> None:
        """See Observer."""
        with self._lock:
            self._done, self._step_began = self._done + 1, self._now()
        self._observer.advance()

    def note(self, text: str) -> None:
        """See Observer."""
        with self._lock:
            self._status = replace(self._status, note=text)
        self._observer.note(text)

    def event(self, text: str) -> None:
        """See Observer."""
        with self._lock:
            self._events.append(StatusEvent(self._now(), text))
        self._observer.event(text)

    def opened(self, run: RunData) -> None:
        """See JournalObserver."""
        if self._journal_observer is not None:
            self._journal_observer.opened(run)

    def evaluates(self, round_: int) -> None:
        """See JournalObserver."""
        if self._journal_observer is not None:
            self._journal_observer.evaluates(round_)

    def stored(self, entry: Entry) -> None:
        """See JournalObserver."""
        if self._journal_observer is not None:
            self._journal_observer.stored(entry)

    def status(self) -> RunStatus:
        """The run at this moment."""
        boards = () if self._clients is None else tuple(self._clients.states)
        with self._lock:
            return replace(
                self._status,
                written=self._now(),
                done=self._done,
                step_began=self._step_began,
                events=tuple(self._events),
                boards=boards,
            )


@contextmanager
def published(folder: Path, observer: Observer) -> Iterator[Watched]:
    """Writes what a run is doing into its folder, in a thread of its own, until the ``with`` ends.

    Args:
        folder: The run folder, which exists.
        observer: Is told of progress.

    Yields:
        The observer to use in its place.
    """
    watched, ended = Watched(observer), threading.Event()

    def keep_writing() -> None:
        pause = FIRST_SECONDS
        while not ended.wait(pause):
            write_status(folder, watched.status())
            pause = PERIOD_SECONDS

    writer = threading.Thread(target=keep_writing, name="run status", daemon=True)
    writer.start()
    try:
        yield watched
    finally:
        ended.set()
        writer.join()
        for name in STATUS_FILES:
            with suppress(OSError):
                (folder / name).unlink()


def write_status(folder: Path, status: RunStatus) -> None:
    """Writes the file; nothing happens where that is impossible, as on a full disk."""
    with suppress(OSError):
        begun, file = (folder / name for name in STATUS_FILES)
        begun.write_bytes(_adapter().dump_json(status))
        begun.replace(file)


def read_status(folder: Path) -> RunStatus | None:
    """What the run in a folder is doing; None where nothing trains there, or the file is none of ours."""
    file = folder / STATUS
    try:
        if file.is_symlink() or not file.is_file():
            return None
        with file.open("rb") as opened:
            return _adapter().validate_json(opened.read(_MAX_BYTES))
    except (OSError, pydantic.ValidationError):
        return None


@cache
def _adapter() -> TypeAdapter[RunStatus]:
    return TypeAdapter(RunStatus)
