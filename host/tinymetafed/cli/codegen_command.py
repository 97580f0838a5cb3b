"""The command that generates C++ and shows what it takes on a board: codegen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tinymetafed as tmf

from . import layer_choice
from .options import ExperimentArgument, JsonOption, SetOption
from .output import results


def codegen(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="A board of boards/, for instance mps2.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the generated files.")],
    set_: SetOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show which tensor uses which bytes, and when.")] = False,
    library: Annotated[
        bool, typer.Option("--library", help="Write an Arduino and PlatformIO library: the firmware for your own sketch.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Generate an experiment's C++ and its manifest, and show how much of the board's memory it takes.

    tinymetafed codegen examples/sine.toml --board mps2 -o build/sine --explain

    tinymetafed codegen examples/sine.toml --board nano33ble --library -o lib/TinyMetaFed
    """
    loaded = tmf.load(experiment, set_ or ())
    made = tmf.codegen(loaded, board, output, library=library)
    if json_:
        more = {
            "step_milliseconds": dict(made.step_milliseconds),
            "memory_prices": [*map(dataclasses.asdict, made.memory_prices)],
        }
        print(json.dumps(made.manifest.as_json() | more | layer_choice.as_json(made.design.choice)))
        return
    manifest = made.manifest
    table = Table(title=f"{experiment} on {made.design.board.title}", title_justify="left")
    table.add_column("RAM")
    table.add_column("bytes", justify="right")
    for use in manifest.memory.ram:
        table.add_row(use.purpose, f"{use.size:,}")
    table.add_section()
    table.add_row("together", f"{manifest.memory.ram_total:,}")
    table.add_row("available", f"{manifest.memory.ram_available:,}")
    table.add_row("left", f"{manifest.memory.ram_available - manifest.memory.ram_total:,}")
    table.add_section()
    table.add_row("flash (estimate)", f"{manifest.memory.flash:,}")
    console = results()
    console.print(table)
    if explain:
        drawing, steps = _arena_over_time(manifest.arena)
        console.print(drawing)
        console.print(steps)
    layer_choice.show(made.design.choice, console)
    if manifest.store is not None:
        console.print(manifest.store.summary, soft_wrap=True)
    if manifest.sensor is not None:
        console.print(manifest.sensor.summary, soft_wrap=True)
    if manifest.kept is not None:
        console.print(manifest.kept.summary, soft_wrap=True)
    if manifest.kept_samples is not None:
        console.print(manifest.kept_samples.summary, soft_wrap=True)
    if (prices := _memory_prices(made.memory_prices)) is not None:
        console.print(prices)
    console.print(
        f"{manifest.n_global:,} global and {manifest.n_local:,} local weights, "
        f"model {manifest.model_hash}, {len(made.changed)} files changed in {output}",
        highlight=False,
    )
    for note in made.design.experiment.notes:
        console.print(f"{note[0].upper()}{note[1:]}.", soft_wrap=True)
    if made.step_milliseconds:
        steps = ", ".join(f"{name} {low:.2g} to {high:.2g} ms" for name, (low, high) in made.step_milliseconds.items())
        parts = ""
        if made.part_milliseconds is not None:
            parts = "; its longest part {:.2g} to {:.2g} ms".format(*made.part_milliseconds)
        said = f"A training step, estimated from its multiply-accumulates: {steps}{parts}."
        console.print(said, soft_wrap=True)
        found = tmf.estimate_day(loaded, board)
        low, high = found.milliampere_hours
        day = f"{found.day.rounds:,g} rounds, {found.day.learned:,g} learned samples and {found.day.predictions:,g} predictions"
        said = f"A day with {day}, estimated: {low:.2g} to {high:.2g} mAh for the chip's work; see `tinymetafed estimate`."
        console.print(said, soft_wrap=True)


def _memory_prices(prices: Sequence[tmf.MemoryPrice]) -> Table | None:
    """A table of choices for less memory; None where all of them take the same."""
    fastest = prices[0]
    if all(price.arena_bytes == fastest.arena_bytes for price in prices):
        return None
    table = Table(title="Activations in less memory", title_justify="left")
    for heading in ("board.\nmemory", "model.\nactivations"):
        table.add_column(heading)
    for heading in ("arena,\nbytes", "products", "more", "converted"):
        table.add_column(heading, justify="right")
    table.add_column("weights")
    table.caption = (
        "products: multiply-accumulates of a step; converted: numbers that it rounds to float16, packs or unpacks; *: chosen"
    )
    table.caption_justify = "left"
    for price in prices:
        more = price.multiply_accumulates / fastest.multiply_accumulates - 1
        weights = "the same" if price.activations == fastest.activations else "others"
        counts = f"{price.arena_bytes:,}", f"{price.multiply_accumulates:,}", f"{more:.1%}", f"{price.converted:,}"
        table.add_row(price.memory + " *" * price.chosen, price.activations, *counts, weights)
    return table


def _arena_over_time(arena: tmf.ArenaMap) -> tuple[Table, str]:
    """A table of tensors with their bytes and the training steps in which they are in use; and the list of steps."""
    steps, tensors = arena.steps, arena.tensors
    held = []
    for at in range(len(steps)):
        # A tensor that is computed in the place of another one takes no more memory.
        places = {each.offset: each.size for each in tensors if each.first <= at <= each.last}
        held.append(4 * sum(places.values()))
    most = max(range(len(steps)), key=held.__getitem__)
    table = Table(title=f"The arena, {4 * arena.floats:,} bytes, while it trains on one sample", title_justify="left")
    table.add_column("tensor")
    table.add_column("shape")
    table.add_column("bytes", justify="right")
    table.add_column("in use, step by step", no_wrap=True)
    for each in sorted(tensors, key=lambda tensor: (tensor.first, tensor.offset)):
        first, end = 4 * each.offset, 4 * (each.offset + each.size)
        life = "".join("█" if each.first <= at <= each.last else "·" for at in range(len(steps)))
        table.add_row(each.name, "×".join(map(str, each.shape)), f"{first:,} to {end - 1:,}", life)
    listed = ", ".join(f"{at + 1} {step}" for at, step in enumerate(steps))
    return table, f"Steps: {listed}. Most bytes are in use in step {most + 1}, {steps[most]}: {held[most]:,} bytes."
