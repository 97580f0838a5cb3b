"""Commands of ``tinymetafed bench`` that measure bytes on the wire, and time on a line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tinymetafed as tmf

from .options import DataOption, ExperimentArgument, JsonOption, SetOption
from .output import results


def wire(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file; default: a presence detector of the paper's size.")
    ] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure bulk transfers on a serial line at 115200 baud, and estimate a round on it with a 64 MHz board."""
    chosen = None if experiment is None else tmf.load(experiment, set_ or ())
    if chosen is None and set_:
        raise tmf.UsageError("--set overrides keys of an experiment file; give one, for instance examples/sine.toml")
    figures = tmf.bench_wire(chosen)
    if json_:
        print(json.dumps(asdict(figures)))
        return
    console = results()
    for title, headings, rows in (
        (
            f"Bulk transfers at {figures.baud:,} baud",
            ("receive window, bytes", "of the line, down", "up"),
            [(f"{each.window:,}", f"{each.down:.1%}", f"{each.up:.1%}") for each in figures.bulk],
        ),
        (
            "Framing",
            ("chunk, bytes", "adds"),
            [(f"{each.chunk:,}", f"{each.share:.2%}") for each in figures.framing],
        ),
        (
            f"One round: {figures.source}",
            ("wire types", "bytes down", "bytes up", "seconds on the wire", "with training (estimate)"),
            [
                (
                    each.types,
                    f"{each.bytes_down:,}",
                    f"{each.bytes_up:,}",
                    f"{each.wire_seconds:.3f}",
                    f"{each.seconds:.3f}",
                )
                for each in figures.rounds
            ],
        ),
    ):
        table = Table(title=title, title_justify="left")
        for heading in headings:
            table.add_column(heading, justify="left" if heading == "wire types" else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"  Estimate: {figures.estimate}")


def uplink(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="An emulated board whose instructions can be counted.")] = "mps2",
    data: DataOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure updates with int8 values: bytes with strategy.uplink_coding "packed" and "rice", and their entropy.

    Updates come from 100 simulated rounds for each share of the weights. A round on an emulated board says what coding costs:

    tinymetafed bench uplink examples/sine.toml
    """
    cost = tmf.bench_uplink(tmf.load(experiment, set_ or ()), board, data=data)
    if json_:
        print(json.dumps(asdict(cost)))
        return
    table = Table(title=f"{experiment}: bytes of an update, mean of {cost.rounds} rounds", title_justify="left")
    for heading in ("P, %", "entries", "packed", "rice", "entropy", "packed / entropy", "rice / entropy"):
        table.add_column(heading, justify="right")
    for each in cost.updates:
        ratios = (f"{each.packed / each.limit:.2f}", f"{each.coded / each.limit:.2f}")
        table.add_row(
            f"{each.top_p:g}", f"{each.entries:,}", f"{each.packed:,.1f}", f"{each.coded:,.1f}", f"{each.limit:,.1f}", *ratios
        )
    results().print(table)
    table = Table(title=f"A round on {board}", title_justify="left")
    for heading in ("", "packed", "rice", "more"):
        table.add_column(heading, justify="right" if heading else "left")
    for what, before, after in (
        ("flash, bytes", cost.packed.flash, cost.coded.flash),
        ("static RAM, bytes", cost.packed.static_ram, cost.coded.static_ram),
        ("deepest stack, bytes", cost.packed.stack, cost.coded.stack),
        ("bytes up", cost.packed.bytes_up, cost.coded.bytes_up),
        ("instructions to select and encode", cost.packed.encoding, cost.coded.encoding),
    ):
        table.add_row(what, f"{before:,}", f"{after:,}", f"{after - before:+,}")
    results().print(table)
    results().write(f"Coding adds {cost.share:.2%} of the {cost.packed.instructions:,} instructions of a round.")


def levels(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="An emulated board whose instructions can be counted.")] = "mps2",
    data: DataOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure weights and updates in few bits, packed and in a range code: bytes, and what a board does to read and write them.

    Bytes are means of 100 simulated rounds in which 10 % of the changes travel; instructions are those of a first round:

    tinymetafed bench levels examples/sine.toml
    """
    cost = tmf.bench_levels(tmf.load(experiment, set_ or ()), board, data=data)
    if json_:
        print(json.dumps(asdict(cost)))
        return
    title = f"{experiment}: {cost.n:,} weights down, {cost.entries:,} changes up; a round on {board}"
    table = Table(title=title, title_justify="left")
    table.add_column("both ways")
    for heading in ("weights, bytes", "update, bytes", "flash", "static RAM", "stack", "instructions", "for levels", "share"):
        table.add_column(heading, justify="right")
    for row in cost.rows:
        table.add_row(
            f"{row.values} {row.coding}",
            *(f"{size:,.0f}" for size in (row.weights, row.update)),
            *(f"{size:,}" for size in (row.flash, row.static_ram, row.stack, row.instructions)),
            *((f"{row.levels:,}", f"{row.share:.2%}") if row.levels else ("", "")),
        )
    results().print(table)


def downlink(
    experiment: ExperimentArgument, set_: SetOption = None, data: DataOption = None, json_: JsonOption = False
) -> None:
    """Simulate a run and measure the bytes of its downloads as differences to the weights that a board holds.

    A board that takes part in every round holds the weights of the last one; one that takes part less often holds older
    weights, of which more has changed since. Both end up with the same bits as with all weights:

    tinymetafed bench downlink examples/sine.toml
    """
    found = tmf.bench_downlink(tmf.load(experiment, set_ or ()), data=data)
    if json_:
        print(json.dumps(asdict(found)))
        return
    title = f"{experiment}: mean bytes of a download of {found.weights:,} weights over {found.rounds:,} rounds"
    table = Table(title=title, title_justify="left")
    table.add_column("a board takes part in")
    for row in found.rows:
        table.add_column(row.title, justify="right")
    table.add_row("any round, all weights", *(f"{row.full:,.0f}" for row in found.rows))
    for every in found.rows[0].by_return:
        which = "every round" if every == 1 else f"every {every} rounds"
        table.add_row(which, *(f"{row.by_return[every]:,.0f} ({row.share(every):.2f})" for row in found.rows))
    results().print(table)


def soak(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file; default: examples/sine.toml with three devices per round.")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            "-d",
            help="Boards to start: native:90, qemu:10. May be given several times.",
            show_default="native:9 and qemu:1, or native:10 without QEMU",
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 1.0,
    every: Annotated[float, typer.Option(help="Seconds between two disturbances of one board, on average.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Seed of disturbances and faults.")] = 1,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Train on boards that restart and are replugged under other port names, with 1 % of all frames damaged.

    Shows what was lost, whether the weights are those of an undisturbed simulation, and memory and descriptors over the time.
    Fails if anything was lost, or if memory or descriptors grew from the first third of the time to the last by more than
    what is filled once. Each board is a process; a pseudo-terminal takes the place of its USB cable:

    tinymetafed bench soak --device native:90 --device qemu:10 --minutes 30
    """
    chosen = None if experiment is None else tmf.load(experiment, set_ or ())
    if chosen is None and set_:
        raise tmf.UsageError("--set overrides keys of an experiment file; give one, for instance examples/sine.toml")
    found = tmf.bench_soak(chosen, devices=device or (), minutes=minutes, disturbed_seconds=every, seed=seed)
    if json_:
        told = ("nothing_lost", "is_flat", "memory_growth", "memory_growth_per_hour", "most_memory_growth", "descriptor_growth")
        print(json.dumps(asdict(found) | {name: getattr(found, name) for name in told}))
    else:
        table = Table(title=f"{', '.join(found.devices)}: {found.seconds:,.0f} s", title_justify="left")
        for heading in ("seconds", "rounds", "memory, MB", "descriptors", "threads"):
            table.add_column(heading, justify="right")
        for each in found.readings[:: max(1, len(found.readings) // 12)]:
            table.add_row(
                f"{each.seconds:,.0f}",
                f"{each.rounds:,}",
                f"{each.memory / 1e6:.1f}",
                f"{each.descriptors:,}",
                f"{each.threads:,}",
            )
        console = results()
        console.print(table)
        # In a shorter test it is mostly what is filled once.
        hourly = f", {found.memory_growth_per_hour / 1e6:.1f} MB an hour" if found.seconds >= 600 else ""
        same = "as in" if found.weights_sha256 == found.undisturbed_sha256 else "DIFFERENT FROM"
        for line in (
            f"{found.restarts:,} restarts, {found.replugs:,} replugs under another name, {found.repeats:,} frames sent again.",
            f"{found.rounds:,} rounds, {found.redone:,} contributions redone, {found.skipped:,} lost.",
            f"Weights {found.weights_sha256[:16]}…, {same} an undisturbed simulation.",
            f"From the first third of the time to the last memory grew by {found.memory_growth / 1e6:.2f} MB{hourly}; "
            f"{found.most_memory_growth / 1e6:.2f} MB may be filled once. "
            f"Descriptors grew by {found.descriptor_growth}.",
        ):
            console.print(f"  {line}", soft_wrap=True)
    if not found.nothing_lost:
        raise tmf.Error("the soak test has lost contributions, or ended on other weights; see its figures")
    if not found.is_flat:
        raise tmf.Error("memory or descriptors grew while boards came and went; see the figures")
