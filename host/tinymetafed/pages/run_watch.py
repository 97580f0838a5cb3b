"""Looks at run folders while other threads or processes write them; reads a store again only when it has changed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.errors import Error

from ..learn.strategies import open_strategy
from ..runs import estimate
from ..runs.estimate import RoundEstimate
from ..runs.run_data import RunData
from ..runs.run_folder import STATUS
from ..runs.run_status import read_status
from ..runs.setup import design_of
from ..runs.store import read_run
from .run_state import Phase, RunState, at_work, stored

MAX_DEPTH = 3  # folders below the given one: a sweep has runs/NAME/SEED
MAX_RUNS = 500  # that are shown

Signature = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Look:
    """A run as its store tells it, None where that cannot be read, and one client's round on real boards."""

    state: RunState
    run: RunData | None = None
    estimate: RoundEstimate | None = None


class RunWatch:
    """The runs in a folder, or a single run; the folder may be made later."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._now = now
        self._known: dict[Path, tuple[Signature, RunState]] = {}

    def runs(self) -> dict[str, Path]:
        """The run folders by their paths below the folder, "" for the folder itself, in order of their names."""
        if _is_run(self.folder):
            return {"": self.folder}
        found = sorted(_runs_below(self.folder, MAX_DEPTH))[:MAX_RUNS]
        return {_text(path.relative_to(self.folder).as_posix()): path for path in found}

    def states(self) -> dict[str, RunState]:
        """The state of each run."""
        folders = self.runs()
        self._known = {path: known for path, known in self._known.items() if path in folders.values()}
        return {key: self.state(path) for key, path in folders.items()}

    def state(self, path: Path) -> RunState:
        """The state of a run; its store is read only if it has changed since the last time."""
        signature = signature_of(path)
        known = self._known.get(path)
        if known is None or known[0] != signature:
            known = self._known[path] = (signature, look(path).state)
        return self.at_work(path, known[1])

    def at_work(self, path: Path, state: RunState) -> RunState:
        """A state that its store tells, with what the run says it is doing."""
        return at_work(state, read_status(path), self._now())


def _text(name: str) -> str:
    """A name of a file as text that can be encoded."""
    return name.encode(errors="backslashreplace").decode()


def _is_run(path: Path) -> bool:
    return (path / "run.db").exists() or (path / STATUS).exists()


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:  # it is not there yet, or not ours to read
        return
    for path in inside:
        if _is_run(path):
            yield path
        elif depth > 1:
            yield from _runs_below(path, depth - 1)


def signature_of(path: Path) -> Signature:
    """Changes when a store changes: times and sizes of its files."""
    found: list[tuple[int, int] | None] = []
    for name in ("run.db", "run.db-wal"):
        try:
            about = (path / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((about.st_mtime_ns, about.st_size))
    return tuple(found)


def look(path: Path) -> Look:
    """A run as its store tells, read now."""
    name = _text(path.resolve().name)
    if not (path / "run.db").exists():
        return Look(RunState(name, str(path), Phase.STOPPED, problem="stopped before its first round; start it again"))
    try:
        run = read_run(path)
        with run.consistent():
            costs = run.result.estimate if run.result else _estimate(run)
            return Look(stored(run, costs), run, costs)
    except (Error, OSError) as error:
        return Look(RunState(name, str(path), Phase.UNREADABLE, problem=str(error)))


def _estimate(run: RunData) -> RoundEstimate | None:
    """One client's round on real boards, from the bytes so far; None where there are none, or the data are not here."""
    clients = Counter(part.status for entry in run.rounds for part in entry.contributions).total()
    if not clients:
        return None
    sent = sum(entry.bytes_down + entry.bytes_up for entry in run.rounds)
    try:
        made = design_of(run.experiment(), str(run.path / "experiment.toml"), data=run.data)
        return estimate.of_round(open_strategy(made.experiment, made.manifest), sent / clients, made.boards)
    except (Error, OSError):
        return None
