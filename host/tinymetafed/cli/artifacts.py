"""Commands that show or convert something: check, report, verify, log, export, monitor, doctor."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import tinymetafed as tmf

from . import layer_choice
from .options import (
    DataOption,
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
