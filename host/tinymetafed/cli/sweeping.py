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

JobsOption = Annotated[int | None, typer.Option(help="Runs at a time.", show_default="one per core")]


def sweep(
    file: Annotated[Path, typer.Argument(help="Sweep file, for instance examples/sweeps/sine.toml.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for runs and tables.", show_default="runs/sweep-NAME")
    ] = None,
    jobs: JobsOption = None,
    data: DataOption = None,
    leave_out: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Hold out N clients in a run, so that every client is unseen once: 1 is leave-one-out.",
            show_default="leave_out of the file, or none",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Simulate an experiment over options and seeds on all cores and write one table of results.

    With group = "validation" in the file, runs score validation clients, so that settings can be chosen before anybody sees
    test clients; baseline = "ROW" compares the other rows with that one, seed by seed. After an interruption the same command
    continues:

    tinymetafed sweep examples/sweeps/sine.toml

    With --leave-out the table has a row for each client of a folder, or each speaker, in runs that did not train on it:

    tinymetafed sweep examples/sweeps/people.toml --leave-out 1 --data FOLDER
    """
    try:
        table = tmf.sweep(file, out=out, jobs=jobs, data=data, leave_out=leave_out)
    except KeyboardInterrupt:
        notes.print("Finished runs are kept; the same command continues.")
        raise
    if json_:
        cells = [row.as_json() for row in table.rows]
        shown = {"sweep": str(file), "folder": str(table.folder), "cells": cells, "left_out": dict(table.left_out)}
        shown |= {"curves": [curve.as_json() for curve in table.curves]}
        print(json.dumps(shown | {"clients": [client.as_json() for client in table.clients]}))
        return
    if table.clients:
        _show_clients(table)
    else:
        _show(table)
    written = ["table.md", "table.csv", *(["curve.csv"] if table.curves else []), *(["clients.csv"] if table.clients else [])]
    results().print(f"  {', '.join(str(table.folder / name) for name in written)}", soft_wrap=True)


def _show_clients(table: tmf.SweepTable) -> None:
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    first, *others = table.client_headings()
    shown.add_column(first, overflow="fold")
    for heading in others:
        shown.add_column(heading, justify="right")
    for line in table.client_cells():
        shown.add_row(*line)
    console = results()
    console.print(f"{table.name}: {table.client_legend()}")
    console.print(shown)
    for text in (*table.comparisons(), *table.notes()):
        console.print(f"  {text}", soft_wrap=True)


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
    part: Annotated[
        str | None,
        typer.Option(
            help="Write only this part again, by its sweeps alone: rates, moving (drawings), size (of networks) or shots "
            "(samples to adapt with).",
            show_default="all of the document",
        ),
    ] = None,
    jobs: JobsOption = None,
    data: DataOption = None,
) -> None:
    """Reproduce the papers' tables and write paper.md with published and measured figures, and what does not reproduce.

    tinymetafed paper -o docs --data PATH

    Parts with sweeps of their own are also written alone, into a document that is there:

    tinymetafed paper -o docs --data PATH --part rates
    """
    results().write(tmf.paper(out, runs=runs, quick=quick, part=part, jobs=jobs, data=data))
