"""Commands that run many simulations: sweep, paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

import tinymetafed as tmf

from .options import DataOption, JsonOption
from .output import notes, results

JobsOption = Annotated[int | None, typer.Option(min=1, max=1024, help="Runs at a time.", show_default="one per core")]


def sweep(
    file: Annotated[Path, typer.Argument(help="Sweep file, for instance examples/sweeps/sine.toml.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for runs and tables.", show_default="runs/sweep-NAME")
    ] = None,
    jobs: JobsOption = None,
    data: DataOption = None,
    json_: JsonOption = False,
) -> None:
    """Simulate an experiment over options and seeds on all cores and write one table of results.

    With group = "validation" in the file, runs score validation clients, so that settings can be chosen before anybody sees
    test clients; baseline = "ROW" compares the other rows with that one, seed by seed. After an interruption the same command
    continues:

    tinymetafed sweep examples/sweeps/sine.toml
    """
    try:
        table = tmf.sweep(file, out=out, jobs=jobs, data=data)
    except KeyboardInterrupt:
        notes.print("Finished runs are kept; the same command continues.")
        raise
    if json_:
        cells = [row.as_json() for row in table.rows]
        print(json.dumps({"sweep": str(file), "folder": str(table.folder), "cells": cells, "left_out": dict(table.left_out)}))
        return
    _show(table)
    results().print(f"  {table.folder / 'table.md'}, {table.folder / 'table.csv'}", soft_wrap=True)


def _show(table: tmf.SweepTable) -> None:
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("", min_width=14, overflow="fold")
    for heading in ("seeds", "after", "SD", "95 % CI", "down", "up", "samples", "cost"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, seeds, before, after, sd, interval, each, *rest in table.cells():
        shown.add_row(Text.assemble(f"{name}\n", (f"  before {before}; {each}", "dim")), seeds, after, sd, interval, *rest)
    console = results()
    console.print(f"{table.name}: {table.legend()}; cost counts values only")
    console.print(shown)
    for line in table.comparisons():
        console.print(f"  {line}", soft_wrap=True)
    for note in table.notes():
        console.print(f"  {note}", soft_wrap=True)


def paper(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for paper.md and its plots.")] = Path("docs"),
    runs: Annotated[Path, typer.Option(help="Folder of the runs; finished runs are not repeated.")] = Path("runs/paper"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Use one seed and a tenth of the rounds; the document says so.")
    ] = False,
    jobs: JobsOption = None,
    data: DataOption = None,
) -> None:
    """Reproduce the papers' tables and write paper.md with published and measured figures, and what does not reproduce.

    tinymetafed paper -o docs --data PATH
    """
    results().write(tmf.paper(out, runs=runs, quick=quick, jobs=jobs, data=data))
