"""Commands of ``tinymetafed bench`` that simulate runs, and the one that measures all."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tinymetafed as tmf

from .options import DataOption, ExperimentArgument, JsonOption, SetOption, ThreadsOption
from .output import results


def simulation(
    experiment: Annotated[Path | None, typer.Argument(help="Experiment file; default: examples/sine.toml.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="A vector unit of this machine, or scalar; default: the one that simulate uses.")
    ] = None,
    threads: ThreadsOption = None,
    clients: Annotated[int | None, typer.Option(help="Measure one round of so many clients too, for instance 100000.")] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure how fast the simulation trains on this machine, and compare with textbook kernels."""
    file = experiment or tmf.example("sine.toml")
    figures = tmf.bench_simulation(
        tmf.load(file, set_ or ()), unit=unit, threads=1 if threads is None else threads, clients=clients
    )
    if json_:
        print(json.dumps(asdict(figures)))
        return
    table = Table(title=f"{file}: one training step of one client", title_justify="left")
    table.add_column("kernels")
    table.add_column("µs", justify="right")
    where = f"generated, {figures.isa}, {figures.lanes} clients at once"
    if figures.threads > 1:
        table.add_row(f"{where}, {figures.threads} threads", f"{figures.us_per_client_step:.3f}")
    table.add_row(f"{where}, 1 thread", f"{figures.one_thread_us:.3f}")
    table.add_row("generated, one client after the other, 1 thread", f"{figures.single_us:.3f}")
    if figures.textbook_us is not None:
        table.add_row("textbook, one client after the other, 1 thread", f"{figures.textbook_us:.3f}")
    for name, time in figures.peers.items():
        table.add_row(f"{name}, all clients in one call, 1 thread, by processor time", f"{time:.3f}")
    console = results()
    console.print(table)
    if figures.speedup is not None:
        idle = f"by the processor time they took, {figures.speedup_idle:.2f} on a machine with nothing else to do"
        console.print(f"  {figures.threads} threads are {figures.speedup:.2f} times as fast as one; {idle}.")
    if figures.ratio is not None:
        console.print(f"  {figures.ratio:.1f} times as fast as textbook kernels.")
    for name, time in figures.peers.items():
        console.print(f"  {time / figures.cpu_us:.1f} times as fast as {name}, by processor time.")
    peak = f"{figures.peak_percent:.0f} % of the multiply-adds that this core can do without fused ones"
    console.print(f"  With one thread, training does {peak}.")
    if figures.weights_percent is not None:
        bound = f"{figures.weights_percent:.0f} % of that time"
        console.print(f"  Only the products with the weights, and the last layer's sum, take {bound}.")
    coding = f"{figures.coding_percent:.0f} % of it for the coding of its update"
    console.print(f"  A client's whole round takes {figures.round_us:.1f} µs on one thread, {coding}.")
    if (many := figures.many) is not None:
        console.print(
            f"  A round of {many.clients:,} clients took {many.cpu_seconds:.2f} s of processor time, "
            f"{many.seconds_per_million:.1f} s per million, and held {many.held_kib:,} KiB of samples and updates at a time."
        )


def byzantine(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for robust.md and robust.json.")] = Path("."),
    task: Annotated[list[str] | None, typer.Option(help="sine or omniglot. May be given twice.", show_default="both")] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(help="An attack, for instance sign-flipped. May be given several times.", show_default="all"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of each run.")] = 3,
    rounds: Annotated[int | None, typer.Option(help="Rounds of every run.", show_default="enough to learn")] = None,
    data: DataOption = None,
    json_: JsonOption = False,
) -> None:
    """Simulate boards that lie, by attack and defence, and write a page with what they cost; takes many minutes.

    After an interruption the same command continues. A part of it, with a single seed:

    tinymetafed bench byzantine --task sine --attack sign-flipped --seeds 1
    """
    outcomes, page = tmf.bench_byzantine(output, task or (), attack or (), seeds=seeds, rounds=rounds, data=data)
    if json_:
        print(json.dumps([asdict(each) for each in outcomes]))
        return
    results().print(f"Written: {page}, {page.with_suffix('.json')}", soft_wrap=True)


def gains(
    experiment: ExperimentArgument,
    clients: Annotated[int, typer.Option(help="Training clients to measure, or all where there are fewer.")] = 64,
    data: DataOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure what training each layer gains, by which a budget of RAM (model.trainable) picks layers.

    Measure from weights that are already trained; the command prints a line to copy into \\[model]:

    tinymetafed bench gains examples/omniglot-paper-size.toml --data PATH --set model.weights=start.npz
    """
    found = tmf.bench_gains(tmf.load(experiment, set_ or ()), clients=clients, data=data)
    if json_:
        print(json.dumps(asdict(found)))
        return
    results().write(found.as_toml())


def budget(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for budget.md and budget.json.")] = Path("."),
    seeds: Annotated[int, typer.Option(help="Seeds of each run.")] = 3,
    work: Annotated[Path, typer.Option(help="Folder for the weights that runs start from.")] = Path("build/budget"),
    checked: Annotated[
        bool, typer.Option("--check/--no-check", help="Run one firmware for a round, emulated and as a process.")
    ] = True,
    data: DataOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure accuracy against RAM, with a network of the papers' size, and write a page; takes many minutes.

    After an interruption the same command continues. A part of it, with a single seed:

    tinymetafed bench budget --data PATH --seeds 1 --no-check
    """
    table, page = tmf.bench_budget(output, seeds=seeds, work=work, checked=checked, data=data)
    if json_:
        print(json.dumps(asdict(table)))
        return
    results().print(f"Written: {page}, {page.with_suffix('.json')}", soft_wrap=True)


def all_(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write costs.md and costs.svg into.")] = Path("."),
    board: Annotated[str, typer.Option(help="An emulated board with an exact instruction counter.")] = "mps2",
    data: DataOption = None,
    json_: JsonOption = False,
) -> None:
    """Make all measurements on the project's own networks and write a document with a picture; takes many minutes.

    With the folder of Omniglot's archives as --data, the document also has the bytes of Omniglot's updates.
    """
    figures, written = tmf.bench_all(output, board, data=data)
    if json_:
        print(json.dumps(figures.as_json()))
        return
    results().print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)
