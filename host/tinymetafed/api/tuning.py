"""A budgeted search for better values of an experiment's keys, on validation clients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from tinymetafed_codegen import spec
from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.libraries.markdown_text import markdown_text

from ..experiments import TuneError, figure
from ..experiments import tune as searches
from ..experiments.tune import trial_table
from .api_defaults import jobs_of
from .loaded_experiment import Experiment, data_path
from .number_ranges import require
from .progress import ProgressOption, watching

MAX_SEED = (1 << 31) - 1
_PART = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]+)?)\s*(?P<unit>trials?|min(?:utes?)?|m|h(?:ours?)?)?")


@dataclass(frozen=True)
class Tuning:
    """The outcome of a search.

    ``folder`` has the runs, table.md, trials.csv, front.svg and best.toml. ``best`` is the experiment with the best score of
    validation clients, None without a trial that has one; ``settings`` are the values that it changes.
    """

    name: str
    folder: Path
    rows: tuple[searches.Row, ...]
    best: Experiment | None
    settings: Mapping[str, searches.Value]
    board: str
    seeds: int
    objectives: tuple[searches.Objective, ...] = field(repr=False)

    def cells(self) -> list[list[str]]:
        """The trials as text, the best score first: mark, number, score, interval, bytes, RAM, multiply-accumulates, values."""
        return trial_table.cells(self.rows, self.objectives)

    def legend(self) -> str:
        """A sentence that explains the figures."""
        return trial_table.legend(self.rows, self.board, self.seeds)

    def markdown(self) -> str:
        """The table as Markdown."""
        return trial_table.markdown(self.rows, self.objectives, self.board, self.seeds)

    def as_json(self) -> dict[str, object]:
        """JSON values."""
        front = {row.number for row in trial_table.front(self.rows, self.objectives)}
        trials = [
            {
                "trial": row.number,
                "settings": dict(row.settings),
                "score": None if row.figures is None else row.figures.after.mean,
                "ci95": None if row.figures is None else row.figures.after.ci95,
                "bytes": None if row.figures is None else row.figures.bytes,
                "ram": None if row.figures is None else row.figures.ram,
                "multiply_accumulates": None if row.figures is None else row.figures.work,
                "front": row.number in front,
                "trouble": row.trouble,
                "runs": [str(run) for run in row.runs],
            }
            for row in self.rows
        ]
        best = None if self.best is None else str(self.folder / "best.toml")
        return {"folder": str(self.folder), "trials": trials, "settings": dict(self.settings), "best": best}


def budget_of(text: str) -> tuple[int | None, float | None]:
    """Reads the budget of a search.

    Args:
        text: A number of trials, a time, or both, such as ``40``, ``20min`` or ``40,20min``.

    Returns:
        Trials and minutes; None for what the text does not limit.

    Raises:
        TuneError: It is something else.
    """
    trials: int | None = None
    minutes: float | None = None
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        is_count = found is not None and (found["unit"] or "trial").startswith("trial")
        if found is None or (is_count and "." in found["number"]) or (trials if is_count else minutes) is not None:
            raise TuneError(f"--budget '{text}': expected trials, a time or both, as in 40, 20min or 40,20min")
        if is_count:
            trials = int(found["number"])
        else:
            minutes = float(found["number"]) * (60 if found["unit"].startswith("h") else 1)
    return trials, minutes


def tune(
    experiment: Experiment,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    space: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    board: str = "mps2",
    jobs: int | None = None,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> Tuning:
    """Searches for better values of an experiment's keys in the simulation; every score is that of validation clients.

    Test clients are never looked at: the final figure of the best experiment is that of ``simulate`` or ``train``. The same
    call goes on with a search that was stopped or killed, and with a larger budget makes more trials.

    Args:
        experiment: An experiment from ``load``.
        trials: Trials in all, the first of which is the experiment as it is.
        minutes: Time of this call; what has not ended by then is continued by the next one.
        space: A TOML file with a table [tune]; None for the ranges of TUNE_RANGES.
        out: The search's folder; None for runs/tune-NAME.
        seed: Seed of the search; the same one gives the same trials.
        board: The board whose RAM counts.
        jobs: Runs at a time; None for one per core.
        data: Folder of the task's data; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        The trials and the best experiment. They are also written into the folder, even after an interruption.

    Raises:
        TuneError: The budget is empty, a key or range is wrong, the folder belongs to another search, or optuna is missing.
        SweepFailed: A run failed. DataError: there are no validation clients.
    """
    if trials is None and minutes is None:
        raise TuneError("--budget: a search needs an end; give trials, a time or both, as in --budget 40,20min")
    for what, given in (("trials", trials), ("minutes", minutes)):
        if given is not None and not given > 0:
            raise TuneError(f"--budget: {given:g} {what} is not a budget; give more than 0")
    require("--seed", seed, 0, MAX_SEED)
    at_once = jobs_of(jobs)
    searches.sampler.require()

    def with_values(settings: Mapping[str, searches.Value]) -> spec.Experiment:
        return spec.load(Path(experiment.source), experiment.changes, settings=settings)

    chosen = experiment.spec
    asked = searches.default_file(chosen, with_values) if space is None else searches.read(Path(space), chosen, with_values)
    if not asked.space:
        raise TuneError(f"{experiment.source}: none of the keys with default ranges is in use; name some in a file for --space")
    plan = searches.Plan(chosen, Path(experiment.source), with_values, asked, board, seed)
    experiment.manifest(board)  # its errors come first
    folder = Path("runs") / f"tune-{experiment.name}" if out is None else Path(out)
    own = data_path(chosen.task, data)
    try:
        with watching(progress) as observer:
            budget = searches.Budget(trials, minutes)
            known = searches.search(plan, folder, budget, at_once, own, observer)
    except BaseException:
        _written(plan, experiment, folder, searches.finished(plan, folder))
        raise
    return _written(plan, experiment, folder, known)


def _written(plan: searches.Plan, experiment: Experiment, folder: Path, known: Sequence[searches.Row]) -> Tuning:
    """The trials that have ended; also writes table, plot and best experiment into the folder, where there are any."""
    chosen = trial_table.best(known)
    settings = {} if chosen is None else chosen.settings
    best = None if chosen is None else Experiment(plan.with_values(settings), str(folder / "best.toml"))
    objectives, seeds = plan.file.objectives, len(plan.file.seeds)
    found = Tuning(experiment.name, folder, tuple(known), best, settings, plan.board, seeds, objectives)
    if known:
        write_if_changed(folder / "trials.csv", trial_table.csv_text(known, list(plan.file.space)))
        write_if_changed(folder / "table.md", f"# {markdown_text(found.name)}\n\n{found.markdown()}")
    if best is not None:
        write_if_changed(folder / "best.toml", tomli_w.dumps(spec.portable(spec.dump(best.spec), folder)))
    if (drawn := trial_table.plot(known, objectives)) is not None:
        write_if_changed(folder / "front.svg", figure.render(*drawn))
    return found
