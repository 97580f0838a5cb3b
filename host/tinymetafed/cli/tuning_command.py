"""The command that searches for better values of an experiment's keys: tune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

import tinymetafed as tmf

from .options import DataOption, ExperimentArgument, JsonOption, SetOption
from .output import notes, results
from .sweeping import JobsOption

_RANGES = "; ".join(f"{key}: {text}" for key, text in tmf.TUNE_RANGES.items())
_HELP = f"""Search for better values of an experiment's keys within a budget, on validation clients alone.

Trials run in the simulation on all cores. Test clients are not looked at: the best experiment is written to best.toml, and
'tinymetafed simulate' or 'train' reports how good it is. After an interruption the same command continues; with a larger
budget it goes on.

tinymetafed tune examples/sine.toml --budget 40,20min

Without --space these keys are searched, as far as the experiment has them: {_RANGES}.

A file for --space has a table \\[tune] with ranges of your own, seeds and objectives: see docs/tuning.md."""


def tune(
    experiment: ExperimentArgument,
    budget: Annotated[
        str, typer.Option("--budget", help="Trials in all, minutes or hours of this call, or both: 40, 20min, 1h or 40,20min.")
    ],
    space: Annotated[
        Path | None, typer.Option("--space", help="TOML file with a table \\[tune].", show_default="the keys above")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for runs, table, plot and best.toml.", show_default="runs/tune-NAME"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the search: the same trials again.")] = 0,
    board: Annotated[str, typer.Option("--board", help="Board whose RAM counts.")] = "mps2",
    set_: SetOption = None,
    jobs: JobsOption = None,
    data: DataOption = None,
    json_: JsonOption = False,
) -> None:
    """Search for better values of an experiment's keys within a budget; see _HELP."""
    trials, minutes = tmf.budget_of(budget)
    loaded = tmf.load(experiment, set_ or ())
    try:
        found = tmf.tune(
            loaded, trials=trials, minutes=minutes, space=space, out=out, seed=seed, board=board, jobs=jobs, data=data
        )
    except KeyboardInterrupt:
        notes.print("Trials that have ended are kept; the same command continues.")
        raise
    if json_:
        print(json.dumps(found.as_json()))
        return
    _show(found)


tune.__doc__ = _HELP


def _show(found: tmf.Tuning) -> None:
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "trial", "score", "95 % CI", "bytes", "RAM", "multiply-acc."):
        shown.add_column(heading, justify="right", no_wrap=True)
    console = results()
    cells = found.cells()
    for *figures, _ in cells:
        shown.add_row(*figures)
    console.print(f"{found.name}: {found.legend()}", soft_wrap=True)
    console.print(shown)
    for mark, number, *_, values in cells:
        if mark:
            console.print(Text.assemble(f"  {number}  ", (values, "dim")), soft_wrap=True)
    if found.best is None:
        console.print("  No trial has a score yet; give a larger budget.", soft_wrap=True)
        return
    console.print(f"  {found.folder / 'table.md'}, {found.folder / 'front.svg'}", soft_wrap=True)
    console.print(f"  best experiment: tinymetafed simulate {found.folder / 'best.toml'}", soft_wrap=True)
