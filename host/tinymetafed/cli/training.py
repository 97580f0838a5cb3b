"""Commands that train and adapt: train, simulate, adapt, demo."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tinymetafed_codegen import boards, spec
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.locate import find

from ..api.progress import notes, watching
from ..bench import kernel_cost
from ..devices.link import faults
from ..devices.link.errors import LaunchError, LinkError
from ..federation.clients import TrainingFailed
from ..federation.meta_test import Collapsed
from ..federation.result import Score, Scores
from ..runs import report as report_page
from ..runs import store, training
from ..runs.journal import RunResult
from ..runs.run_data import StoreError
from ..runs.setup import set_up
from .options import DataOption, DeviceOption, JsonOption, SetOption, ThreadsOption


def train(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file, for instance examples/sine.toml; --resume needs none.")
    ] = None,
    device: DeviceOption = None,
    test_device: Annotated[
        str | None,
        typer.Option(
            help="Where unseen clients adapt in meta-tests; the result does not depend on it. native needs g++ here.",
            show_default="native:2",
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
        setup = set_up(chosen, str(experiment), data)
        folder = out or _new_run(experiment.stem)
        urls, test_urls = device or ["native:2"], [test_device or training.TEST_URL]
        with store.claimed(folder), _resumable(folder, device, test_device), watching() as watch:
            result = training.train(setup, urls, test_urls, folder, watch, faults=disturbance, record=record)
    else:
        folder = resume
        _refuse_with_resume(set_, out)
        _same_experiment(experiment, folder)
        with _resumable(folder, device, test_device, data), watching() as watch:
            result = training.resume(
                folder,
                watch,
                urls=device or (),
                test_urls=[test_device] if test_device else (),
                data=data,
                faults=disturbance,
                record=record,
            )
    _finish(result, folder, json_)


def simulate(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file, for instance examples/sine.toml; --resume needs none.")
    ] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to create; default runs/NAME-DATE-TIME.")] = None,
    set_: SetOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Run folder, also of train, to continue after its last finished round; ends with the same weights."),
    ] = None,
    threads: ThreadsOption = None,
    json_: JsonOption = False,
) -> None:
    """Meta-train in this process, many clients at once, without devices: the same run folder and the very weights of train.

    tinymetafed simulate examples/sine.toml --set run.devices_per_round=16
    """
    count = threads or os.cpu_count() or 1
    if resume is None:
        if experiment is None:
            raise UsageError("give an experiment file, for instance examples/sine.toml, or --resume RUN; see --help")
        setup = set_up(spec.load(experiment, set_ or ()), str(experiment), data)
        folder = out or _new_run(experiment.stem)
        with store.claimed(folder), _resumable(folder, command="simulate"), watching() as watch:
            result = training.simulate(setup, count, folder, watch)
    else:
        folder = resume
        _refuse_with_resume(set_, out)
        _same_experiment(experiment, folder)
        with _resumable(folder, data=data, command="simulate"), watching() as watch:
            result = training.resume_simulated(folder, count, watch, data=data)
    _finish(result, folder, json_)


def _same_experiment(experiment: Path | None, folder: Path) -> None:
    """Checks what is said beside --resume; says so where there is nothing left to do."""
    run = store.read_run(folder)
    if experiment is not None and spec.load(experiment) != run.experiment():
        raise StoreError(
            f"{experiment}: not the experiment of {folder}, which cannot change on the way; leave it out to continue that "
            "run, or leave --resume out to begin another"
        )
    if run.result is not None:
        notes.print(f"{folder}: finished already, with all of its {run.trained} rounds.", highlight=False, soft_wrap=True)


def _refuse_with_resume(set_: Sequence[str] | None, out: Path | None) -> None:
    """What would make another run of the one that is to be continued."""
    given = "--set" if set_ else "--out" if out else None
    if given is not None:
        raise UsageError(f"--resume continues a run as it was begun, in its own folder; leave {given} out")


def adapt(
    run: Annotated[Path, typer.Argument(help="Run folder that train wrote.")],
    device: DeviceOption = None,
    data: DataOption = None,
    tasks: Annotated[int, typer.Option(min=1, max=100_000, help="How many unseen clients adapt.")] = 10,
    first: Annotated[int, typer.Option(min=0, max=1 << 30, help="The first unseen client's number.")] = 0,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Samples to adapt with (per class where the task counts so); default: the run's own."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Adapt unseen clients from a run's initialisation and show each one before and after.

    tinymetafed adapt runs/sine --device qemu:1 --tasks 3
    """
    trained = store.read_run(run)
    experiment = trained.experiment(adapt=samples)
    setup = set_up(experiment, str(run / "experiment.toml"), data or trained.data)
    training.same_model(setup, trained)
    with watching() as watch:
        adapted = training.adapt(setup, device or ["native:2"], trained.weights, range(first, first + tasks), watch)
    if json_:
        print(json.dumps(asdict(adapted)))
        return
    table = Table(title=f"Unseen clients, each adapted with {adapted.samples} samples")
    for heading in ("client", "task", f"{adapted.metric} before", "after"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for client in adapted.clients:
        table.add_row(str(client.client), client.task, _score(client.before), _score(client.after))
    table.add_section()
    table.add_row("mean", "", _score(adapted.before), _score(adapted.after))
    Console().print(table)


def demo(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of meta-training.")] = 350,
    out: Annotated[Path | None, typer.Option(help="Run folder to create; default runs/demo-DATE-TIME.")] = None,
) -> None:
    """Four emulated boards meta-train on sine waves over serial, and unseen clients adapt: about a minute."""
    # A run this short has to take larger server steps than the 3000 rounds that examples/sine.toml is tuned for.
    experiment = find("examples") / "sine.toml"
    chosen = spec.load(
        experiment, [f"run.rounds={rounds}", "strategy.alpha_max=0.8", "evaluation.every=50", "evaluation.every_tasks=50"]
    )
    emulated = not boards.missing_tools("mps2")
    if emulated:
        notes.print("Four emulated Cortex-M4F boards (QEMU) train over serial; unseen clients adapt in native processes.")
    else:
        missing = ", ".join(tool.name for tool in boards.missing_tools("mps2"))
        notes.print(
            f"No emulated boards here ({missing} missing; see `tinymetafed doctor`): "
            "the same firmware runs as four native processes instead."
        )
    folder = out or _new_run("demo")
    setup = set_up(chosen, str(experiment), None)
    with store.claimed(folder), _resumable(folder), watching() as watch:
        counted = kernel_cost.instructions(chosen, str(experiment), "mps2", watch) if emulated else None
        urls = ["qemu:4" if emulated else "native:4"]
        result = training.train(setup, urls, ["native:2"], folder, watch, instructions_per_step=counted)
    _finish(result, folder, False)


@contextmanager
def _resumable(
    folder: Path,
    devices: Sequence[str] | None = None,
    test_device: str | None = None,
    data: Path | None = None,
    command: str = "train",
) -> Iterator[None]:
    """Says how to continue a run that was interrupted, or whose devices went away; a collapsed one gets its page."""
    try:
        yield
    except (KeyboardInterrupt, LinkError, LaunchError) as end:
        if (folder / "run.db").is_file() and not isinstance(end, TrainingFailed):  # which would fail again
            words = ["tinymetafed", command, "--resume", str(folder)]
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


def _score(value: Score) -> str:
    return "diverged" if value is None else f"{value:.3f}"


def _finish(result: RunResult, folder: Path, as_json: bool) -> None:
    page = report_page.write(folder)
    if as_json:
        print(json.dumps({**result.as_json(), "run": str(folder), "report": str(page)}, allow_nan=False))
        return
    test = result.meta_test
    rounds = max(result.rounds, 1)
    dense = result.bytes_up_dense / rounds
    table = Table(show_header=False, box=None, padding=(0, 2))
    unit = "MSE" if test.metric == "mse" else test.metric
    clients = f"{test.n_clients:,} unseen client{'' if test.n_clients == 1 else 's'}"
    splits = "" if test.n_tasks == test.n_clients else f"{test.n_tasks} splits of "
    table.add_row(f"meta-test {unit}, {splits}{clients}", f"{_score(test.before)} before adaptation")
    interval = "" if test.after_ci95 is None else f" ± {test.after_ci95:.3f}"
    table.add_row("", f"[bold]{_score(test.after)}[/]{interval} after")
    table.add_row(
        "bytes per round on the wire",
        f"{result.bytes_down / rounds:,.0f} down, {result.bytes_up / rounds:,.0f} up",
    )
    table.add_row("dense float32, values alone", f"{dense:,.0f} down, {dense:,.0f} up")
    if result.bytes_samples:
        table.add_row("samples streamed per round", f"{result.bytes_samples / rounds:,.0f} bytes")
    if result.instructions_per_step is not None:
        counts = ", ".join(f"{result.instructions_per_step[v]:,} {v}" for v in ("local", "global", "full"))
        table.add_row("instructions per training step", counts)
    if result.redone or result.skipped:
        table.add_row("contributions", f"{result.redone:,} redone after a first attempt was lost, {result.skipped:,} skipped")
    table.add_row("time", f"{result.seconds:.1f} s for {result.rounds} rounds and the meta-test")
    table.add_row("weights", f"sha256 {result.weights_sha256[:16]}…")
    console = Console()
    console.print(table, highlight=False)
    console.print(f"  report  {page}", highlight=False, soft_wrap=True)
    if _is_worse(test):
        console.print(
            "  [yellow]Adaptation made it worse: the rounds were too few for this schedule.[/] Set run.rounds higher, or, "
            "for a short run, strategy.alpha_max.",
            highlight=False,
            soft_wrap=True,
        )


def _is_worse(test: Scores) -> bool:
    """Whether unseen clients did better before they adapted."""
    if test.before is None or test.after is None:
        return False
    return test.after > test.before if test.metric == "mse" else test.after < test.before
