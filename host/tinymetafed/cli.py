"""The command line: arguments in, progress and results out, one clear line for every failure."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tinymetafed_codegen import __main__ as codegen_command
from tinymetafed_codegen import boards, spec
from tinymetafed_codegen.locate import find

from . import __version__, bench, doctor, firmware, runner, store
from . import export as weights_file
from . import report as report_page
from .evaluate import Collapsed
from .learn.delta import DeltaError
from .learn.strategy import StrategyError
from .learn.tasks import DataError
from .link import faults, monitor
from .link.errors import LaunchError, LinkError, TrainingFailed
from .link.launch import DeviceUrlError
from .link.transport import DEFAULT_BAUD
from .progress import notes, watching

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
FAILURES = (
    LinkError,
    LaunchError,
    firmware.FirmwareError,
    DataError,
    DeltaError,
    StrategyError,
    Collapsed,
    store.StoreError,
    report_page.ReportError,
    bench.BenchError,
    OSError,
)


class UsageError(Exception):
    """Arguments that do not go together."""


USAGE = (UsageError, spec.SpecError, boards.BoardError, DeviceUrlError, faults.FaultError, weights_file.ExportError)

app = typer.Typer(
    name="tinymetafed",
    help="Federated meta-learning on microcontrollers: boards learn an initialisation together, over serial, "
    "that a new board adapts to with a few samples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench_app = typer.Typer(help="Measure: exact instructions, bytes and memory.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

ExperimentArgument = Annotated[Path, typer.Argument(help="Experiment file, for instance examples/sine.toml.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: run.rounds=50. May be given several times.")
]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder (or file) with the task's original archives.")]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        "-d",
        help="Where clients run: native:4, qemu:4, qemu:4@mps2, /dev/ttyACM0, COM5, socket://host:port. "
        "May be given several times. [default: native:2]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else.")]


def main() -> None:
    """Runs the command line; every known failure becomes one line on standard error and exit code 1 or 2."""
    try:
        code = app(standalone_mode=False)
    except typer.Exit as done:
        code = done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        code = _explain(error)
    if code == INTERRUPTED:
        notes.print("Interrupted.")
    sys.exit(code or 0)


def _explain(error: Exception) -> int:
    usage = getattr(error, "exit_code", None) == WRONG_USAGE and hasattr(error, "format_message")
    if usage:
        if text := error.format_message():  # type: ignore[attr-defined]  # empty when the help was the answer
            notes.print(f"[bold red]Error:[/] {text} See --help.", highlight=False, soft_wrap=True)
        return WRONG_USAGE
    if isinstance(error, USAGE + FAILURES):
        notes.print("[bold red]Error:[/]", end=" ")
        notes.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return WRONG_USAGE if isinstance(error, USAGE) else FAILED
    raise error


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def train(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file, for instance examples/sine.toml; --resume needs none.")
    ] = None,
    device: DeviceOption = None,
    test_device: Annotated[
        str | None,
        typer.Option(
            help="Where unseen clients adapt in meta-tests; the result does not depend on it. native needs g++ here. "
            "[default: native:2]"
        ),
    ] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to create; default runs/NAME-DATE-TIME.")] = None,
    set_: SetOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to continue after its last finished round; ends with the same weights.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Disturb the lines to the training devices: flip=0.01,delay=20ms. May be given several times."),
    ] = None,
    record: Annotated[Path | None, typer.Option(help="File that keeps every byte on those lines, for `monitor`.")] = None,
    json_: JsonOption = False,
) -> None:
    """Meta-train an initialisation on boards, emulators or native processes, then test it on unseen clients.

    tinymetafed train examples/sine.toml --device qemu:4
    """
    disturbance = faults.parse(",".join(fault)) if fault else None
    if resume is None:
        if experiment is None:
            raise UsageError("give an experiment file, for instance examples/sine.toml, or --resume RUN; see --help")
        chosen = spec.load(experiment, set_ or ())
        setup = runner.set_up(chosen, str(experiment), data)
        folder = out or _new_run(experiment.stem)
        urls, test_urls = device or ["native:2"], [test_device or "native:2"]
        with store.claimed(folder), _resumable(folder, device, test_device), watching() as watch:
            result = runner.train(setup, urls, test_urls, folder, watch, faults=disturbance, record=record)
    else:
        folder = resume
        _refuse_with_resume(set_, out)
        run = store.read_run(folder)
        if experiment is not None and spec.load(experiment) != run.experiment():
            raise store.StoreError(
                f"{experiment}: not the experiment of {folder}, which cannot change on the way; leave it out to continue that "
                "run, or leave --resume out to begin another"
            )
        if run.result is not None:
            notes.print(f"{folder}: finished already, with all of its {run.trained} rounds.", highlight=False, soft_wrap=True)
        with _resumable(folder, device, test_device, data), watching() as watch:
            result = runner.resume(
                folder,
                watch,
                urls=device or (),
                test_urls=[test_device] if test_device else (),
                data=data,
                faults=disturbance,
                record=record,
            )
    _finish(result, folder, json_)


def _refuse_with_resume(set_: Sequence[str] | None, out: Path | None) -> None:
    """What would make another run of the one that is to be continued."""
    given = "--set" if set_ else "--out" if out else None
    if given is not None:
        raise UsageError(f"--resume continues a run as it was begun, in its own folder; leave {given} out")


@app.command()
def adapt(
    run: Annotated[Path, typer.Argument(help="Run folder that train wrote.")],
    device: DeviceOption = None,
    data: DataOption = None,
    tasks: Annotated[int, typer.Option(min=1, max=100_000, help="How many unseen clients adapt.")] = 10,
    first: Annotated[int, typer.Option(min=0, max=1 << 30, help="The first unseen client's number.")] = 0,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Samples to adapt with (Omniglot: per class); default: the run's own.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Adapt unseen clients from a run's initialisation and show each one before and after.

    tinymetafed adapt runs/sine --device qemu:1 --tasks 3
    """
    trained = store.read_run(run)
    experiment = trained.experiment() if samples is None else trained.experiment(adapt=samples)
    setup = runner.set_up(experiment, str(run / "experiment.toml"), data or trained.data)
    runner.same_model(setup, trained)
    with watching() as watch:
        scores = runner.adapt(setup, device or ["native:2"], trained.weights, range(first, first + tasks), watch)
    if json_:
        print(json.dumps(scores))
        return
    table = Table(title=f"Unseen clients, each adapted with {scores['samples']} samples")
    for heading in ("client", "task", f"{scores['metric']} before", "after"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for client in scores["clients"]:
        table.add_row(str(client["client"]), client["task"], _score(client["before"]), _score(client["after"]))
    table.add_section()
    table.add_row("mean", "", _score(scores["before"]), _score(scores["after"]))
    Console().print(table)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Run folder that train wrote.")]) -> None:
    """Write RUN/report.html: one self-contained page with curves, bytes, devices and the experiment."""
    print(report_page.write(run))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder that train wrote, also while it is being written.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.npz (NumPy) or FILE.h (C header).")],
) -> None:
    """Write the weights of a run's latest round to a file for other programs.

    tinymetafed export runs/sine -o weights.h
    """
    trained = store.read_run(run)
    weights_file.write(trained, output)
    notes.print(f"{output}: the weights after {trained.trained} rounds", highlight=False, soft_wrap=True)


@app.command("monitor")
def monitor_command(
    source: Annotated[str, typer.Argument(help="A serial line to listen on, or a file that train --record wrote.")],
    baud: Annotated[int, typer.Option(min=1, help="Speed of the line.")] = DEFAULT_BAUD,
) -> None:
    """Show every message on a line, one per line of text, live or from a recording.

    tinymetafed monitor run.record
    """
    for line in monitor.lines(source, baud):
        print(line, flush=True)


@app.command()
def codegen(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="A board of boards/, for instance mps2.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the generated files.")],
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Generate an experiment's C++ and its manifest, and show what it takes of the board.

    tinymetafed codegen examples/sine.toml --board mps2 -o build/sine
    """
    design, changed = codegen_command.run(experiment, board, output, set_ or ())
    if json_:
        print(json.dumps(design.manifest))
        return
    manifest = design.manifest
    table = Table(title=f"{experiment} on {design.board.title}", title_justify="left")
    table.add_column("RAM")
    table.add_column("bytes", justify="right")
    for name, size in manifest["ram_bytes"].items():
        table.add_row(name, f"{size:,}")
    table.add_section()
    table.add_row("together", f"{manifest['ram_total']:,}")
    table.add_row("available", f"{manifest['ram_available']:,}")
    table.add_section()
    table.add_row("flash (estimate)", f"{manifest['flash_estimate']:,}")
    console = Console()
    console.print(table)
    console.print(
        f"{manifest['n_global']:,} global and {manifest['n_parameters'] - manifest['n_global']:,} local weights, "
        f"model {manifest['model_hash']}, {len(changed)} files changed in {output}",
        highlight=False,
    )


@app.command("doctor")
def doctor_command(json_: JsonOption = False) -> None:
    """Check this machine: toolchains, emulators, boards and attached serial devices, and what to install."""
    findings = doctor.examine()
    if json_:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
        return
    table = Table(show_lines=False)
    for heading in ("", "what", "found", "what to do"):
        table.add_column(heading)
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            table.add_section()
            table.add_row("", f"[bold]{group}[/]", "", "")
        mark = "[green]✓[/]" if finding.ok else "[yellow]–[/]"
        table.add_row(mark, finding.name, finding.detail, "" if finding.ok else finding.remedy)
    Console().print(table)


@bench_app.command("kernels")
def bench_kernels(
    experiment: ExperimentArgument,
    board: Annotated[str, typer.Option(help="An emulated board with an exact instruction counter.")] = "mps2",
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Count the exact instructions of a training step in the emulator, and the firmware's flash and RAM."""
    with watching() as watch:
        figures = bench.kernels(spec.load(experiment, set_ or ()), str(experiment), board, watch)
    if json_:
        print(json.dumps(figures))
        return
    table = Table(title=f"{experiment} on {board}", title_justify="left")
    table.add_column("one training step")
    table.add_column("instructions", justify="right")
    for variant, count in figures["instructions_per_step"].items():
        table.add_row(variant, f"{count:,}")
    table.add_section()
    table.add_row("flash, bytes", f"{figures['flash_bytes']:,}")
    table.add_row("static RAM, bytes", f"{figures['ram_bytes']:,}")
    Console().print(table)


@bench_app.command("wire")
def bench_wire(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file; default: a presence detector of the paper's size.")
    ] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure what a serial line at 115200 baud carries, and estimate what a round takes on it with a 64 MHz board."""
    chosen = None if experiment is None else spec.load(experiment, set_ or ())
    if chosen is None and set_:
        raise UsageError("--set overrides keys of an experiment file; give one, for instance examples/sine.toml")
    with watching() as watch:
        figures = bench.wire(chosen, "" if experiment is None else str(experiment), watch)
    if json_:
        print(json.dumps(figures))
        return
    console = Console()
    for title, headings, rows in (
        (
            f"Bulk transfers at {figures['baud']:,} baud",
            ("receive window, bytes", "of the line, down", "up"),
            [(f"{each['window']:,}", f"{each['down']:.1%}", f"{each['up']:.1%}") for each in figures["bulk"]],
        ),
        (
            "Framing",
            ("chunk, bytes", "adds"),
            [(f"{each['chunk']:,}", f"{each['share']:.2%}") for each in figures["framing"]],
        ),
        (
            f"One round: {figures['source']}",
            ("wire types", "bytes down", "bytes up", "seconds on the wire", "with training (estimate)"),
            [
                (
                    each["types"],
                    f"{each['bytes_down']:,}",
                    f"{each['bytes_up']:,}",
                    f"{each['wire_seconds']:.3f}",
                    f"{each['seconds']:.3f}",
                )
                for each in figures["rounds"]
            ],
        ),
    ):
        table = Table(title=title, title_justify="left")
        for heading in headings:
            table.add_column(heading, justify="left" if heading == "wire types" else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"  Estimate: {figures['estimate']}", highlight=False)


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of meta-training.")] = 350,
    out: Annotated[Path | None, typer.Option(help="Run folder to create; default runs/demo-DATE-TIME.")] = None,
) -> None:
    """Four emulated boards meta-train on sine waves over serial, and unseen clients adapt: well under a minute."""
    # A run this short has to take larger server steps than the 3000 rounds that examples/sine.toml is tuned for.
    experiment = find("examples") / "sine.toml"
    chosen = spec.load(
        experiment, [f"run.rounds={rounds}", "strategy.alpha_max=0.8", "evaluation.every=50", "evaluation.every_tasks=50"]
    )
    emulated = not firmware.missing_tools("mps2")
    if emulated:
        notes.print("Four emulated Cortex-M4F boards (QEMU) train over serial; unseen clients adapt in native processes.")
    else:
        missing = ", ".join(tool.name for tool in firmware.missing_tools("mps2"))
        notes.print(
            f"No emulated boards here ({missing} missing; see `tinymetafed doctor`): "
            "the same firmware runs as four native processes instead."
        )
    folder = out or _new_run("demo")
    setup = runner.set_up(chosen, str(experiment), None)
    with store.claimed(folder), _resumable(folder), watching() as watch:
        facts = {"instructions_per_step": bench.instructions(chosen, str(experiment), "mps2", watch)} if emulated else {}
        result = runner.train(setup, ["qemu:4" if emulated else "native:4"], ["native:2"], folder, watch, facts=facts)
    _finish(result, folder, False)


@contextmanager
def _resumable(
    folder: Path, devices: Sequence[str] | None = None, test_device: str | None = None, data: Path | None = None
) -> Iterator[None]:
    """Says how to continue a run that was interrupted, or whose devices went away; a collapsed one gets its page."""
    try:
        yield
    except (KeyboardInterrupt, LinkError, LaunchError) as end:
        if (folder / "run.db").is_file() and not isinstance(end, TrainingFailed):  # which would fail again
            words = ["tinymetafed", "train", "--resume", str(folder)]
            words += [word for url in devices or () for word in ("--device", url)]
            words += ["--test-device", test_device] if test_device else []
            words += ["--data", str(data)] if data else []
            notes.print(f"The finished rounds are kept; continue with: {shlex.join(words)}", highlight=False, soft_wrap=True)
        raise
    except Collapsed:
        report_page.write(folder)
        raise


def _new_run(name: str) -> Path:
    """A folder below runs/ that no other run has, though several may start in the same second."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in itertools.count(1):
        folder = Path("runs") / (stem if suffix == 1 else f"{stem}.{suffix}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


def _score(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3f}"


def _finish(result: dict[str, Any], folder: Path, as_json: bool) -> None:
    page = report_page.write(folder)
    if as_json:
        print(json.dumps({**result, "run": str(folder), "report": str(page)}, allow_nan=False))
        return
    test = result["meta_test"]
    rounds = max(result["rounds"], 1)
    dense = result["bytes_up_dense"] / rounds
    table = Table(show_header=False, box=None, padding=(0, 2))
    unit = "MSE" if test["metric"] == "mse" else test["metric"]
    table.add_row(f"meta-test {unit}, {test['n_tasks']} unseen clients", f"{_score(test['before'])} before adaptation")
    interval = "" if test["after_ci95"] is None else f" ± {test['after_ci95']:.3f}"
    table.add_row("", f"[bold]{_score(test['after'])}[/]{interval} after")
    table.add_row(
        "bytes per round on the wire",
        f"{result['bytes_down'] / rounds:,.0f} down, {result['bytes_up'] / rounds:,.0f} up",
    )
    table.add_row("dense float32, values alone", f"{dense:,.0f} down, {dense:,.0f} up")
    if result["bytes_samples"]:
        table.add_row("samples streamed per round", f"{result['bytes_samples'] / rounds:,.0f} bytes")
    if "instructions_per_step" in result:
        counts = ", ".join(f"{result['instructions_per_step'][v]:,} {v}" for v in ("local", "global", "full"))
        table.add_row("instructions per training step", counts)
    if result["redone"] or result["skipped"]:
        table.add_row(
            "contributions", f"{result['redone']:,} redone after a first attempt was lost, {result['skipped']:,} skipped"
        )
    table.add_row("time", f"{result['seconds']:.1f} s for {result['rounds']} rounds and the meta-test")
    table.add_row("weights", f"sha256 {result['weights_sha256'][:16]}…")
    console = Console()
    console.print(table, highlight=False)
    console.print(f"  report  {page}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
