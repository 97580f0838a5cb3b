"""The search: trials in generations, each simulated like a sweep; a search that was stopped goes on where it was.

A generation's trials depend on the search's seed and on the trials before it alone, not on the number of processes or on how
often the search was stopped. trials.json has the values of every trial from before it is simulated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydantic
from pydantic import TypeAdapter

from tinymetafed_codegen import __version__
from tinymetafed_codegen.budget import BudgetError
from tinymetafed_codegen.files import LockedError, locked
from tinymetafed_codegen.files import replace as replace_file
from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.section import StrictJson
from tinymetafed_codegen.spec import Experiment, SpecError, dump

from ...federation.observer import Observer
from ...learn.strategies import open_strategy
from ...runs.foreign_parts import of_experiment, remember
from ...runs.setup import design_of, set_up
from .. import SweepFailed, TuneError
from ..search_ranges import Value
from ..sweep import Cell, Sweep, difference, execute
from .sampler import proposals
from .search_space import TuneFile
from .trial_table import Row, rows

GENERATION = 8  # trials that are chosen together


@dataclass(frozen=True)
class Budget:
    """When a search ends: after so many trials in all, or so many minutes of this call; None for no such limit."""

    trials: int | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Plan:
    """A search that has been checked.

    ``with_values``: makes the experiment with other values of keys. ``board``: whose RAM counts. ``seed``: of the search.
    """

    experiment: Experiment
    source: Path
    with_values: Callable[[Mapping[str, Value]], Experiment] = field(repr=False)
    file: TuneFile
    board: str
    seed: int

    def as_json(self) -> dict[str, object]:
        """What decides the trials."""
        return {
            "experiment": dump(self.experiment),
            **self.file.as_json(),
            "board": self.board,
            "seed": self.seed,
            "tinymetafed": __version__,
            "arithmetic": ARITHMETIC_VERSION,
        }


@dataclass(frozen=True)
class Trial(StrictJson):
    """One trial: the values that it changes, and why it has no score; "" for one that has or is still to come."""

    settings: dict[str, Value]
    trouble: str = ""


_TRIALS = TypeAdapter(list[Trial])


def search(plan: Plan, out: Path, budget: Budget, jobs: int, data: Path | None, observer: Observer) -> list[Row]:
    """Simulates trials until the budget is spent; the same call goes on with a search that was stopped.

    Args:
        plan: What is searched.
        out: The search's folder.
        budget: When it ends.
        jobs: Runs at a time.
        data: Folder of the task's data; None for the usual place.
        observer: Is told of progress.

    Returns:
        The trials that have ended, in their order.

    Raises:
        TuneError: The folder belongs to another search, or optuna is not installed.
        SweepFailed: A run failed for another reason than that its training diverged.
        DataError: There are no validation clients, or the data cannot be read.
    """
    set_up(_validated(plan.experiment, plan.seed), str(plan.source), data)  # its errors come before any folder
    end = None if budget.minutes is None else time.monotonic() + 60 * budget.minutes
    with _claimed(plan, out):
        known = _rows(plan, out, stored(out))
        while not _is_over(end) and (budget.trials is None or len(known) < budget.trials):
            known = _generation(plan, out, known, budget, jobs, data, observer, lambda: _is_over(end))
        return known if budget.trials is None else known[: budget.trials]


def finished(plan: Plan, out: Path) -> list[Row]:
    """The trials of a search that have ended so far, in their order; none where there is no such search."""
    if not (out / "tune.json").exists() or _difference(plan, out) is not None:
        return []
    return _rows(plan, out, stored(out))


def _generation(
    plan: Plan,
    out: Path,
    known: Sequence[Row],
    budget: Budget,
    jobs: int,
    data: Path | None,
    observer: Observer,
    is_over: Callable[[], bool],
) -> list[Row]:
    """Simulates what is missing of the first generation that has not ended, and returns all trials that have ended."""
    trials, ended = stored(out), len(known)
    if ended == len(trials):
        trials = [*trials, *map(Trial, _chosen(plan, known))]
        _write(out, trials)
    last = len(trials) if budget.trials is None else min(len(trials), budget.trials)
    made = {number: _cell(plan, trials, number) for number in range(ended, last)}
    troubles = {number: text for number, text in made.items() if isinstance(text, str)}
    cells = tuple({cell.name: cell for cell in made.values() if isinstance(cell, Cell)}.values())
    observer.note(f"trials {ended + 1} to {last}")
    if cells:
        failed = execute(Sweep(plan.source, plan.file.seeds, cells, group="validation"), out, jobs, data, observer, is_over)
        for number, cell in made.items():
            said = [text for folder, text in failed.items() if isinstance(cell, Cell) and folder.parent.name == cell.folder]
            troubles |= {number: said[0]} if said else {}
    if troubles:
        trials = [replace(trial, trouble=troubles.get(at, trial.trouble)) for at, trial in enumerate(trials)]
        _write(out, trials)
    return _rows(plan, out, trials, known)


def _chosen(plan: Plan, known: Sequence[Row]) -> list[dict[str, Value]]:
    """The values of the next generation; the first trial of all is the experiment as it is."""
    first: list[dict[str, Value]] = [] if known else [{}]
    more = proposals(plan.file, known, plan.seed, GENERATION - len(first))
    return [*first, *more]


def _rows(plan: Plan, out: Path, trials: Sequence[Trial], known: Sequence[Row] = ()) -> list[Row]:
    """The trials that have ended, up to the first that has not; ``known``: those that were read before."""
    found = list(known)
    for number, trial in enumerate(trials[len(known) :], start=len(known)):
        cell = None if trial.trouble else _cell(plan, trials, number)
        row = rows(number, trial.settings, trial.trouble, cell if isinstance(cell, Cell) else None, plan, out)
        if row is None:
            break
        found.append(row)
    return found


def _cell(plan: Plan, trials: Sequence[Trial], number: int) -> Cell | str:
    """The runs of a trial, or why its values do not go together. A trial that was made before has the same runs."""
    settings = trials[number].settings
    first = next(at for at, trial in enumerate(trials) if trial.settings == settings)
    try:
        experiment = _validated(plan.with_values(settings), plan.file.seeds[0])
        remember(of_experiment(experiment, str(plan.source)))
        made = design_of(experiment, str(plan.source))
        open_strategy(experiment, made.manifest)
        design_of(experiment, str(plan.source), plan.board)
    except (SpecError, BudgetError) as error:
        return str(error)
    return Cell(f"trial-{first + 1:04d}", plan.source, made)


def _validated(experiment: Experiment, seed: int) -> Experiment:
    """The experiment whose final score is that of validation clients."""
    evaluation = {"group": "validation"} if experiment.run.chooses else {"group": "validation", "every": 0}
    return experiment.model_copy(
        update={
            "evaluation": experiment.evaluation.model_copy(update=evaluation),
            "run": experiment.run.model_copy(update={"seed": seed}),
        }
    )


def _is_over(end: float | None) -> bool:
    return end is not None and time.monotonic() >= end


# The folder


def stored(out: Path) -> list[Trial]:
    """The trials of a search's folder. Raises TuneError if their file is damaged."""
    file = out / "trials.json"
    try:
        return _TRIALS.validate_json(file.read_bytes()) if file.exists() else []
    except (OSError, pydantic.ValidationError) as error:
        raise TuneError(f"{file}: damaged: {str(error).splitlines()[0]}; choose another folder with -o") from None


def _write(out: Path, trials: Sequence[Trial]) -> None:
    replace_file(out / "trials.json", json.dumps([vars(trial) for trial in trials], indent=1).encode())


def _difference(plan: Plan, out: Path) -> str | None:
    """What differs between the search that a folder was begun with and this one, in words; None if nothing does."""
    try:
        then = json.loads((out / "tune.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return "its tune.json cannot be read"
    return difference(then, json.loads(json.dumps(plan.as_json())))


@contextmanager
def _claimed(plan: Plan, out: Path) -> Iterator[None]:
    """Locks the search's folder, and makes it where there is none. Raises TuneError if it is in use or has other content."""
    elsewhere = "choose another folder with -o"
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = out / "tune.json"
        if not file.exists() and any(path.name != "tune.lock" for path in out.iterdir()):
            raise TuneError(f"{out}: exists already and is not the folder of a search; {elsewhere}")
        with locked(out / "tune.lock", wait=False):
            if not file.exists():
                replace_file(file, json.dumps(plan.as_json(), indent=1).encode())
            elif (changed := _difference(plan, out)) is not None:
                raise TuneError(f"{out}: holds another search: {changed}; {elsewhere}, or remove that one")
            (out / "runs").mkdir(exist_ok=True)
            (out / "lock").touch()  # which a sweep's folder has
            yield
    except LockedError as taken:
        raise SweepFailed(
            f"{out}: process {taken.holder or '(starting)'} is searching in this folder; wait for its end"
        ) from None
    except OSError as error:
        raise TuneError(f"{out}: cannot be written: {error.strerror}; {elsewhere}") from None
