"""Commands that show or convert something: check, report, log, export, monitor, codegen, doctor."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import tinymetafed as tmf

from . import layer_choice
from .options import (
    DataOption,
    ExperimentArgument,
    InsecureOption,
    JsonOption,
    LogOption,
    SetOption,
    ThreadsOption,
    TrustOption,
)
from .output import notes, results


def check(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|EXPERIMENT", help="A folder of CSV and NPZ files, or an experiment file with task 'folder'."
        ),
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Another folder in place of task.path of the experiment.")] = None,
    board: Annotated[
        str | None,
        typer.Option(help="The board whose memory the experiment's model is compared with.", show_default=tmf.CHECK_BOARD),
    ] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Check your data: all problems of all files at once, and rows, classes, ranges, duplicates, gaps, windows.

    The exit code is 1 if there is a problem.

    tinymetafed check data --set task.label=activity
    """
    result = tmf.check(source, set_ or (), data=data, board=board)
    if json_:
        print(json.dumps(dataclasses.asdict(result)))
    else:
        _show_check(result)
    if not result.ok:
        raise typer.Exit(1)


MOST_CLASSES = 10  # classes that the table of clients shows
MOST_FILES = 8  # files that are listed for one cause of problems


def _others(cause: tmf.DataCause) -> str:
    """How often a cause occurs, and in which files."""
    if len(cause.files) == 1:
        return f"{cause.count - 1:,} more like it in this file"
    single = cause.count == len(cause.files)
    named = [file if single else f"{file} ({count:,})" for file, count in cause.files.items()]
    more = len(named) - MOST_FILES
    listed = ", ".join(named[:MOST_FILES]) + (f" and {more:,} more; --json lists all" if more > 0 else "")
    return f"{cause.count:,} like it in {len(named):,} files: {listed}"


def _show_check(result: tmf.DataCheck) -> None:
    console = results()

    def line(text: str) -> None:
        console.print(text, soft_wrap=True)

    facts = result.facts
    if facts is not None and facts.clients:
        classes = [] if facts.look_like_values else list(facts.classes)[:MOST_CLASSES]
        table = Table(title=f"{result.path}: clients", title_justify="left")
        table.add_column("client", overflow="fold")
        table.add_column("for")
        for heading in ("rows", "samples", *classes):
            table.add_column(heading, justify="right")
        for client in facts.clients:
            counts = (f"{client.classes.get(each, 0):,}" for each in classes)
            table.add_row(client.name, str(client.group), f"{client.rows:,}", f"{client.samples:,}", *counts)
        table.add_section()
        rows, samples = (sum(getattr(client, key) for client in facts.clients) for key in ("rows", "samples"))
        table.add_row("all", "", f"{rows:,}", f"{samples:,}", *(f"{facts.classes[each]:,}" for each in classes))
        console.print(table)
        if classes and len(facts.classes) > MOST_CLASSES:
            line(f"… and {len(facts.classes) - MOST_CLASSES:,} classes more; --json lists all")
    if facts is not None and facts.features:
        table = Table(title="Features", title_justify="left")
        table.add_column("feature")
        for heading in ("lowest", "highest", "mean", "standard deviation"):
            table.add_column(heading, justify="right")
        for each in facts.features[:40]:
            table.add_row(each.name, *(f"{value:.4g}" for value in (each.minimum, each.maximum, each.mean, each.deviation)))
        console.print(table)
        if len(facts.features) > 40:
            line(f"… and {len(facts.features) - 40} features more; --json lists all")
    for note in result.notes:
        line(f"note: {note}")
    if facts is not None:
        for gap in facts.gaps[:3]:
            where = f"{gap.file}" + (f", row {gap.row}" if gap.row is not None else "")
            line(f"gap: {gap.seconds:.3g} s before {where} (client {gap.client})")
        if facts.gap_count > 3:
            line(f"gap: {facts.gap_count - 3:,} more; windows do not cross them")
        for warning in facts.warnings:
            line(f"warning: {warning}")
    layer_choice.show(result.choice, console)
    if result.needs is not None:
        needs = result.needs
        line(
            f"{needs.board}: {needs.weights:,} weights, {needs.ram:,} of {needs.ram_available:,} bytes of RAM, about "
            f"{needs.flash:,} of {needs.flash_available:,} bytes of flash, {needs.sample:,} bytes for a sample on the line"
        )
    elif facts is not None and facts.sample_shape:
        shape = list(facts.sample_shape)
        last = ', loss = "mse", last layer with units = 1' if facts.look_like_values else ""
        if facts.units and not facts.look_like_values:
            last = f", last layer with units = {facts.units}"
        line(f"model: input = {shape}{last}")
    for cause in result.causes:
        line(f"problem: {cause.text}")
        if cause.count > 1:
            line(f"  {_others(cause)}")
    listed = (
        "no problems" if result.ok else f"{result.problem_count:,} problem(s); nothing can be trained on before they are solved"
    )
    line(f"{result.path}: {listed}")


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders that train or simulate wrote.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The page to write; default RUN/report.html, for several runs comparison.html."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Write a self-contained HTML page: the report of one run, or a comparison of several finished runs of one task.

    tinymetafed report runs/p10 runs/p25 runs/p100 -o ablation.html
    """
    if len(runs) == 1:
        results().write(tmf.open_run(runs[0], trust=trust).report(output))
        return
    page = output or Path("comparison.html")
    for line in tmf.compare(runs, page, trust=trust):
        notes.print(f"left out: {line}", soft_wrap=True)
    results().write(page)


def log(
    run: Annotated[Path, typer.Argument(help="Run folder that train or simulate wrote.")],
    log: LogOption = None,
    trust: TrustOption = False,
) -> None:
    """Write a run's rounds, keys and result into logs of other programs, as --log of train does; what is there stays.

    tinymetafed log runs/sine --log tensorboard
    """
    if not log:
        raise tmf.UsageError("--log: missing; give csv, tensorboard, mlflow, wandb or FILE.py:CLASS")
    tmf.open_run(run, trust=trust).log(log)


def export(
    run: Annotated[Path, typer.Argument(help="Run folder that train or simulate wrote, or is still writing.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="FILE.npz (NumPy), FILE.h (C header), FILE.keras or FILE.tflite; or a folder."),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="arduino or cpp for a library in the folder -o; header, keras, tflite or npz.",
            show_default="by the suffix",
        ),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(help="Adapt the weights to this client: the name of its file, or the number of an unseen client."),
    ] = None,
    adapt: Annotated[
        list[Path] | None,
        typer.Option(
            help="Adapt the weights to the samples of this CSV or NPZ file (for a run on images an NPZ file of pixels / 255). "
            "May be given several times."
        ),
    ] = None,
    outputs: Annotated[
        str, typer.Option(help="What a .keras or .tflite file ends in: logits or softmax.", metavar="[logits|softmax]")
    ] = "logits",
    data: DataOption = None,
    trust: TrustOption = False,
) -> None:
    """Write a trained model for other programs: a library for boards, its weights, or for TensorFlow the whole network.

    Without --client and --adapt, local layers have their initial weights. A library predicts, and learns with the host's bits.

    tinymetafed export runs/sine --client 0 --format arduino -o build/Sine
    """
    if outputs not in ("logits", "softmax"):
        raise tmf.ExportError(f"--outputs '{outputs}': unknown; expected logits or softmax")
    trained = tmf.open_run(run, trust=trust)
    path = trained.export(
        output,
        format=format,
        client=client,
        adapt=adapt or (),
        outputs="softmax" if outputs == "softmax" else "logits",
        data=data,
    )
    whose = f", adapted to client {client}" if client is not None else ", adapted to your samples" if adapt else ""
    if not whose and path.suffix not in (".npz", ".h"):  # these have no local weights
        whose = ", not adapted to a client"
    notes.print(f"{path}: the weights after {trained.kept_round} rounds{whose}", soft_wrap=True)


def verify(
    run: Annotated[Path, typer.Argument(help="Run folder that train or simulate wrote, or is still writing.")],
    data: DataOption = None,
    threads: ThreadsOption = None,
    trust: TrustOption = False,
    json_: JsonOption = False,
) -> None:
    """Repeat a run's rounds in a simulation, with the clients that took part in each, and compare the weights.

    The exit code is 1 if they are not the same after every round.

    tinymetafed verify runs/sine
    """
    found = tmf.open_run(run, trust=trust).verify(data=data, threads=threads)
    if json_:
        print(json.dumps({**dataclasses.asdict(found), "same": found.same}))
    elif found.same:
        left_out = f", without the {found.left_out:,} contributions that were skipped" if found.left_out else ""
        results().print(
            f"{run}: the same weights in a simulation of all {found.rounds:,} rounds{left_out}; sha256 {found.weights_sha256}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    else:
        results().print(
            f"{run}: a simulation has other weights from round {found.differs} on; sha256 {found.simulated_sha256} after it",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if not found.same:
        raise typer.Exit(1)


def listen(
    source: Annotated[str, typer.Argument(help="A serial line to read from, or a file that train --record wrote.")],
    baud: Annotated[int | None, typer.Option(help="Speed of the line.", show_default=str(tmf.DEFAULT_BAUD))] = None,
    insecure: InsecureOption = False,
) -> None:
    """Show every message on a serial line as a line of text, live or from a recording.

    tinymetafed monitor run.record
    """
    for line in tmf.monitor(source, baud, insecure=insecure):
        results().write(line)


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


def examine(json_: JsonOption = False) -> None:
    """Check this machine's toolchains, emulators, boards and attached serial devices, and say what to install."""
    findings = tmf.examine()
    if json_:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
        return
    table = Table(show_lines=False)
    for heading in ("", "what", "found", "what to do"):
        table.add_column(heading, overflow="fold")  # a long address is broken, not cut off
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            table.add_section()
            table.add_row("", Text(group, "bold"), "", "")
        mark = Text("✓", "green") if finding.ok else Text("–", "yellow")
        table.add_row(mark, finding.name, finding.detail, "" if finding.ok else finding.remedy)
    results().print(table)
