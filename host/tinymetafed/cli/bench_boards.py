"""Commands of ``tinymetafed bench`` that measure a board, in an emulator or a connected one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tinymetafed as tmf

from .options import ExperimentArgument, InsecureOption, JsonOption, SetOption
from .output import results


class Optimization(StrEnum):
    """Optimization levels that replace the board's own."""

    SIZE = "-Os"
    TWO = "-O2"
    THREE = "-O3"


def kernels(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file, for instance examples/sine.toml; none with --grid.")
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Measure 47 layers of different shapes, one by one, instead of a network.")
    ] = False,
    board: Annotated[str, typer.Option(help="An emulated board with an exact instruction counter.")] = "mps2",
    optimization: Annotated[Optimization | None, typer.Option(help="Optimization level; default: the board's own.")] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Count the exact instructions of a training step, estimate its cycles, and compare with textbook kernels."""
    level = None if optimization is None else optimization.value
    if grid:
        if experiment is not None or set_ or level is not None:
            raise tmf.UsageError("--grid has layers of its own; leave out experiment, --set and --optimization")
        _grid(board, json_)
        return
    if experiment is None:
        raise tmf.UsageError("give an experiment file, for instance examples/sine.toml, or --grid for single layers")
    measured = tmf.bench_kernels(tmf.load(experiment, set_ or ()), board, optimization=level)
    if json_:
        print(json.dumps(measured.as_json()))
        return
    costs_by_kind = {"generated": measured.generated}
    if measured.textbook is not None:
        costs_by_kind["textbook"] = measured.textbook
    columns = costs_by_kind.values()
    table = Table(title=f"{experiment} on {board}{'' if level is None else f', {level}'}", title_justify="left")
    table.add_column("one training step")
    for kind in costs_by_kind:
        table.add_column(kind, justify="right")
    for variant in measured.generated.instructions_per_step:
        table.add_row(f"{variant}, instructions", *(f"{each.instructions_per_step[variant]:,}" for each in columns))
        for title, ranges in (
            ("cycles, about", [(each.cycles_low, each.cycles_high) for each in columns]),
            ("µs, about", [(each.us_low, each.us_high) for each in columns]),
        ):
            texts = [
                f"{low[variant]:,.0f} – {high[variant]:,.0f}" for low, high in ranges if low is not None and high is not None
            ]
            if texts:
                table.add_row(f"  {title}", *texts)
    table.add_section()
    table.add_row("flash, bytes", *(f"{each.flash_bytes:,}" for each in columns))
    table.add_row("static RAM, bytes", *(f"{each.ram_bytes:,}" for each in columns))
    table.add_row("deepest stack, bytes", *(f"{each.stack_bytes:,}" for each in columns))
    console = results()
    console.print(table)
    console.print(f"  {measured.estimate[0].upper()}{measured.estimate[1:]}.", soft_wrap=True)


def _cell(instructions: float, limit: float | None, textbook: float) -> str:
    return f"{instructions:.2f}{'' if limit is None else f' of {limit:.2f}'} ({textbook:.2f})"


def _grid(board: str, json_: bool) -> None:
    measured = tmf.bench_grid(board)
    if json_:
        print(json.dumps(measured.as_json()))
        return
    title = f"Instructions per multiplication on {board}, of the limit (textbook kernels)"
    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    for name in ("forward", "gradient", "update"):
        table.add_column(name, justify="right")
    for row in measured.rows:
        cells = [row.passes.get(name) for name in ("forward", "gradient", "update")]
        table.add_row(row.title, *("" if c is None else _cell(c.instructions, c.limit, c.textbook) for c in cells))
    results().print(table)


def adaptation(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="An emulated board with an exact instruction counter.")] = "mps2",
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Count the exact instructions of a new client's adaptation, as the board trains it and with whole steps.

    A board with free RAM keeps activations of layers that do not change between passes, and leaves these out of later passes.
    It keeps the samples too, so that the host sends each once:

    tinymetafed bench adaptation examples/omniglot.toml
    """
    found = tmf.bench_adaptation(tmf.load(experiment, set_ or ()), board)
    if json_:
        print(json.dumps(found.as_json()))
        return
    steps = " and ".join(f"{count:,} {name}" for name, count in found.steps.items())
    table = Table(title=f"{experiment} on {board}: {steps} steps over {found.samples:,} samples", title_justify="left")
    table.add_column("an adaptation")
    table.add_column("instructions", justify="right")
    table.add_row("with whole steps", f"{found.whole:,}")
    table.add_row(f"with kept activations of {found.kept:,} samples, {found.kept_bytes:,} bytes", f"{found.instructions:,}")
    table.add_row("ratio", f"{found.instructions / found.whole:.2f}")
    results().print(table)
    if found.sent:
        results().print(
            f"The host sends {found.messages:,} samples for these {sum(found.steps.values()):,} steps.", highlight=False
        )


def augmentation(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="An emulated board with an exact instruction counter.")] = "mps2",
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Count what samples that change in every pass and averaged predictions cost: keys of \\[augment] and \\[predict].

    Instructions are those of a step that trains every weight, on firmware that keeps no activations:

    tinymetafed bench augmentation examples/omniglot.toml --set augment.shift=2
    """
    found = tmf.bench_augmentation(tmf.load(experiment, set_ or ()), board)
    if json_:
        print(json.dumps(asdict(found)))
        return
    table = Table(title=f"{experiment} on {board}: {found.keys}, mean of {found.steps:,} steps", title_justify="left")
    for heading in ("", "without", "with", "more"):
        table.add_column(heading, justify="right" if heading else "left")
    more = f"{found.changed - found.plain:+,.0f} ({found.share:.1%})"
    table.add_row("instructions of a step", f"{found.plain:,.0f}", f"{found.changed:,.0f}", more)
    for what, plain, changed in (
        ("static RAM, bytes", found.plain_ram, found.changed_ram),
        ("flash, bytes", found.plain_flash, found.changed_flash),
    ):
        table.add_row(what, f"{plain:,}", f"{changed:,}", f"{changed - plain:+,}")
    results().print(table)


def activations(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="An emulated board with an exact instruction counter.")] = "mps2",
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Count the exact instructions of a training step with activations in less memory: board.memory, model.activations.

    With "least" a board computes cheap activations again; with "f16" it stores them as float16:

    tinymetafed bench activations examples/bench-separable.toml
    """
    found = tmf.bench_activations(tmf.load(experiment, set_ or ()), board)
    if json_:
        print(json.dumps(dataclasses.asdict(found)))
        return
    table = Table(title=f"{experiment} on {board}: a training step", title_justify="left")
    for heading in ("board.memory", "model.activations"):
        table.add_column(heading)
    for heading in ("arena, bytes", *(f"{variant}, instructions" for variant in found.costs[0].instructions)):
        table.add_column(heading, justify="right")
    for cost in found.costs:
        counts = (f"{count:,}" for count in cost.instructions.values())
        table.add_row(cost.price.memory, cost.price.activations, f"{cost.price.arena_bytes:,}", *counts)
    results().print(table)


def memory(
    experiments: Annotated[
        list[Path] | None,
        typer.Argument(help="Experiment files; default: two examples and a presence detector of the paper's size."),
    ] = None,
    board: Annotated[
        list[str] | None,
        typer.Option(help="An emulated board. May be given several times.", show_default="all that run on this machine"),
    ] = None,
    library: Annotated[
        bool, typer.Option("--library", help="Firmware whose program also predicts, learns and adapts by itself.")
    ] = False,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure a firmware's memory on a board: flash, static RAM, and the deepest stack over whole rounds.

    This takes some seconds per model and board, for a model as large as Omniglot's a minute:

    tinymetafed bench memory examples/sine.toml --board mps2
    """
    footprints = tmf.bench_memory(experiments or (), board or (), overrides=set_ or (), own_program=library)
    if json_:
        print(json.dumps([asdict(each) for each in footprints]))
        return
    table = Table(title="Bytes; RAM is static RAM and deepest stack together", title_justify="left")
    for heading in ("model", "board"):
        table.add_column(heading, overflow="fold")
    for heading in ("flash", "of", "static RAM", "stack", "RAM", "of"):
        table.add_column(heading, justify="right")
    for each in footprints:
        sizes = (each.flash, each.flash_available, each.static, each.stack, each.ram, each.ram_available)
        table.add_row(each.model, each.board, *(f"{size:,}" for size in sizes))
    results().print(table)


def authentication(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="An emulated board whose instructions can be counted.")] = "mps2",
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure what run.security = "authenticated" costs: flash, RAM, bytes and instructions of a round, compared with "none".

    The round is the first, or with --set strategy.download=difference the second:

    tinymetafed bench authentication examples/sine.toml
    """
    cost = tmf.bench_authentication(tmf.load(experiment, set_ or ()), board)
    if json_:
        print(json.dumps(asdict(cost)))
        return
    title = f"{experiment} on {board}, a round of {cost.steps} steps, receive window {cost.window:,} bytes"
    table = Table(title=title, title_justify="left")
    table.add_column()
    for heading in ("none", "authenticated", "more", "more, %"):
        table.add_column(heading, justify="right")
    plain, secured = cost.plain, cost.authenticated
    for what, before, after in (
        ("flash, bytes", plain.flash, secured.flash),
        ("static RAM, bytes", plain.static_ram, secured.static_ram),
        ("deepest stack, bytes", plain.stack, secured.stack),
        ("RAM with stack, bytes", plain.ram, secured.ram),
        ("bytes on the line", plain.bytes, secured.bytes),
        ("instructions", plain.instructions, secured.instructions),
        ("of them for MACs", plain.instructions, plain.instructions + secured.mac_instructions),
    ):
        shown = (f"{before:,}", f"{after:,}") if what != "of them for MACs" else ("", f"{after - before:,}")
        table.add_row(what, *shown, f"{after - before:+,}", f"{after / before - 1:+.2%}")
    results().print(table)
    results().write("All instructions vary by some 5 % with the time that the board waits for bytes; those for MACs do not.")


def sound(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="An emulated board with an exact instruction counter.")] = "mps2",
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Count the exact instructions that a board's microphone takes: frames of mel bands, and the spectrogram of a sound.

    The experiment's features are those that boards compute, task.sound.arithmetic = "board":

    tinymetafed bench sound examples/digits.toml --set task.sound.arithmetic=board
    """
    cost = tmf.bench_sound(tmf.load(experiment, set_ or ()), board)
    if json_:
        print(json.dumps(asdict(cost)))
        return
    table = Table(title=f"{experiment} on {board}, {cost.rate:,} Hz", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for what, value in (
        ("frame with the samples of its hop, instructions", cost.instructions_per_frame),
        (f"second of {cost.frames_per_second:g} frames, instructions", cost.instructions_per_second),
        ("spectrogram of the longest sound, instructions", cost.instructions_per_sound),
        ("static RAM, bytes", cost.ram_bytes),
        ("tables in flash, bytes", cost.table_bytes),
    ):
        table.add_row(what, f"{value:,}")
    results().print(table)


def board(
    device: Annotated[str, typer.Argument(help="One device: /dev/ttyACM0@nano33ble, COM5, native:1, qemu:1@rv32.")],
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment whose firmware is on the board; default: examples/sine.toml.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the figures.", show_default="bench-BOARD.json")
    ] = None,
    set_: SetOption = None,
    insecure: InsecureOption = False,
    json_: JsonOption = False,
) -> None:
    """Measure a connected board: time per training step by its own clock, rates of the line, round trips, predictions.

    This takes a minute and writes one JSON file, in which nothing identifies the board:

    tinymetafed bench board /dev/ttyACM0@nano33ble
    """
    chosen = tmf.load(experiment or tmf.example("sine.toml"), set_ or ())
    found = tmf.bench_board(device, chosen, out=output, insecure=insecure)
    if json_:
        print(json.dumps(asdict(found)))
        return
    if output is None:
        output = Path(f"bench-{found.board}.json")
        found.write(output)
    table = Table(title=f"{found.model} on {found.board}", title_justify="left")
    table.add_column("one training step")
    table.add_column("µs", justify="right")
    table.add_column("least – most", justify="right")
    table.add_column("cycles per multiply-accumulate", justify="right")
    for variant, time in found.steps.items():
        cycles = "" if time.cycles_per_mac is None else f"{time.cycles_per_mac:.2f}"
        table.add_row(variant, f"{time.us:,.1f}", f"{time.us_least:,.1f} – {time.us_most:,.1f}", cycles)
    console = results()
    console.print(table)
    for line in (
        f"Steps are timed by {found.clock}.",
        f"Line: {found.line_down:,.0f} bytes/s down, {found.line_up:,.0f} up, {found.retries} repeats; "
        f"a round trip takes {found.round_trip_ms:.2f} ms, a prediction {found.predict_ms:.2f} ms (the host's clock).",
        *_own_figures(found),
        *(f"Not measured: {', '.join(names)}: {why}." for why, names in _by_reason(found.not_measured).items()),
        f"Written: {output}",
    ):
        console.print(f"  {line}", soft_wrap=True)


def _own_figures(found: tmf.BoardSpeed) -> Iterator[str]:
    """What the board says of itself, a line for each."""
    if found.ram_high_water_bytes is not None:
        yield f"RAM: {found.ram_high_water_bytes:,} bytes, static data and the deepest stack since its start."
    if found.flash_write_us is not None:
        erase = "" if found.flash_erase_ms is None else f", {found.flash_erase_ms:.1f} ms to erase a page"
        yield f"Flash: {found.flash_write_us:.1f} µs to write four bytes{erase}."
    if found.volts is not None:
        yield f"Supply: {found.volts:.2f} V."


def _by_reason(not_measured: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of what was not measured, by the reason."""
    found: dict[str, list[str]] = {}
    for name, why in not_measured.items():
        found.setdefault(why, []).append(name)
    return found
