"""Commands that train and adapt: train, simulate, adapt, demo."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import tinymetafed as tmf

from .gateway_command import CertificatesOption, GatewaysOption, SecretOption, SuperlinkOption, gateways_of, words_of
from .live_commands import LiveAtOption, LiveOption, served
from .options import DataOption, DeviceOption, InsecureOption, JsonOption, LogOption, SetOption, ThreadsOption, TrustOption
from .output import notes, results


def train(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file, for instance examples/sine.toml; --resume needs none.")
    ] = None,
    device: DeviceOption = None,
    test_device: Annotated[
        str | None,
        typer.Option(
            help="Devices for meta-tests of unseen clients; the result does not depend on them. native needs g++.",
            show_default="native:2",
        ),
    ] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to create; default runs/NAME-DATE-TIME.")] = None,
    set_: SetOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Run folder to continue after its last finished round; ends with the same weights. --set run.rounds=N "
            "extends it."
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Faults on the lines of the training devices: flip=0.01,delay=20ms. May be given several times."),
    ] = None,
    record: Annotated[Path | None, typer.Option(help="File to record these lines in, for `monitor`.")] = None,
    superlink: SuperlinkOption = None,
    gateways: GatewaysOption = None,
    root_certificates: CertificatesOption = None,
    server_secret: SecretOption = None,
    log: LogOption = None,
    live: LiveOption = False,
    live_at: LiveAtOption = None,
    insecure: InsecureOption = False,
    trust: TrustOption = False,
    json_: JsonOption = False,
) -> None:
    """Meta-train an initialisation on boards, emulators or native processes, then test it on unseen clients.

    tinymetafed train examples/sine.toml --device qemu:4
    """
    disturbance = ",".join(fault or ())
    local = {"--device": bool(device), "--fault": bool(fault), "--record": record is not None}
    behind = gateways_of(superlink, gateways, root_certificates, server_secret, insecure, local)
    if resume is None:
        _refuse_trust(trust)
        chosen = _experiment(experiment, set_)
        folder = out or tmf.new_run_folder(chosen.name)
        with (
            _resumable(folder, device, test_device, insecure=insecure, gateways=behind, log=log),
            served(folder, live, live_at),
        ):
            run = tmf.train(
                chosen,
                device or tmf.DEFAULT_DEVICES,
                test_device=test_device or tmf.TEST_DEVICE,
                out=folder,
                data=data,
                fault=disturbance,
                record=record,
                insecure=insecure,
                gateways=behind,
                log=log or (),
            )
    else:
        rounds = _rounds_of_resumed(set_, out)
        _say_if_finished(resume, rounds)
        with (
            _resumable(resume, device, test_device, data, insecure=insecure, gateways=behind, log=log),
            served(resume, live, live_at),
        ):
            run = tmf.resume(
                resume,
                simulated=False,
                devices=device or (),
                test_device=test_device,
                data=data,
                fault=disturbance,
                record=record,
                experiment=None if experiment is None else tmf.load(experiment),
                rounds=rounds,
                insecure=insecure,
                trust=trust,
                gateways=behind,
                log=log or (),
            )
    _finish(run, json_)


def simulate(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file, for instance examples/sine.toml; --resume needs none.")
    ] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to create; default runs/NAME-DATE-TIME.")] = None,
    set_: SetOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Run folder to continue after its last finished round, of train too; ends with the same weights. "
            "--set run.rounds=N extends it."
        ),
    ] = None,
    threads: ThreadsOption = None,
    log: LogOption = None,
    live: LiveOption = False,
    live_at: LiveAtOption = None,
    trust: TrustOption = False,
    json_: JsonOption = False,
) -> None:
    """Meta-train in a simulation, many clients at once and without devices, with the same weights as train.

    tinymetafed simulate examples/sine.toml --set run.devices_per_round=16
    """
    if resume is None:
        _refuse_trust(trust)
        chosen = _experiment(experiment, set_)
        folder = out or tmf.new_run_folder(chosen.name)
        with _resumable(folder, command="simulate", log=log), served(folder, live, live_at):
            run = tmf.simulate(chosen, out=folder, threads=threads, data=data, log=log or ())
    else:
        rounds = _rounds_of_resumed(set_, out)
        _say_if_finished(resume, rounds)
        with _resumable(resume, data=data, command="simulate", log=log), served(resume, live, live_at):
            begun_as = None if experiment is None else tmf.load(experiment)
            run = tmf.resume(
                resume,
                simulated=True,
                threads=threads,
                data=data,
                experiment=begun_as,
                rounds=rounds,
                trust=trust,
                log=log or (),
            )
    _finish(run, json_)


def _experiment(file: Path | None, set_: Sequence[str] | None) -> tmf.Experiment:
    if file is None:
        raise tmf.UsageError("give an experiment file, for instance examples/sine.toml, or --resume RUN; see --help")
    return tmf.load(file, set_ or ())


def _refuse_trust(trust: bool) -> None:
    if trust:
        raise tmf.UsageError(
            "--trust is for a run of somebody else (--resume RUN); an experiment file that you name is your own"
        )


def _say_if_finished(folder: Path, rounds: int | None) -> None:
    run = tmf.open_run(folder)
    if run.finished and rounds in (None, run.rounds):
        notes.print(
            f"{folder}: finished already, with all of its {run.rounds} rounds; --set run.rounds=N extends it.",
            highlight=False,
            soft_wrap=True,
        )


def _rounds_of_resumed(set_: Sequence[str] | None, out: Path | None) -> int | None:
    """The run.rounds that a run is extended to, None for its own; UsageError for options that would change anything else."""
    rounds = None
    for given in set_ or ():
        key, _, text = given.partition("=")
        if key.strip() != "run.rounds":
            raise tmf.UsageError(
                f"--resume continues a run as it was begun; only run.rounds may change, to extend it; leave --set {given} out"
            )
        if not text.strip().isdecimal():
            raise tmf.UsageError(f"--set {given}: expected a whole number of rounds, for instance run.rounds=2000")
        rounds = int(text)
    if out is not None:
        raise tmf.UsageError("--resume continues a run as it was begun, in its own folder; leave --out out")
    return rounds


SAMPLES_HELP = (
    "Samples to adapt with, like task.adapt: of each class for omniglot, keywords and presence, in all for folder and sine; "
    "default: the run's own."
)


def adapt(
    run: Annotated[Path, typer.Argument(help="Run folder that train or simulate wrote.")],
    device: DeviceOption = None,
    data: DataOption = None,
    tasks: Annotated[int | None, typer.Option(help="Number of unseen clients.", show_default=str(tmf.ADAPTED_TASKS))] = None,
    first: Annotated[int | None, typer.Option(help="Number of the first unseen client.", show_default="0")] = None,
    samples: Annotated[
        int | None,
        typer.Option(help=SAMPLES_HELP),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(
            help="A client, instead of --tasks and --first: the name of its file, otherwise the number of an unseen client. "
            "May be given several times."
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Folder for the adapted weights, global and local: CLIENT.npz for each client.")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Each device keeps its client's weights over a reset; needs board.store = true."),
    ] = False,
    insecure: InsecureOption = False,
    trust: TrustOption = False,
    json_: JsonOption = False,
) -> None:
    """Adapt clients from a run's weights, show the score of each before and after, and keep their weights.

    tinymetafed adapt runs/sine --device qemu:1 --client 0 --client 7 --save adapted
    """
    adapted = tmf.open_run(run, trust=trust).adapt(
        devices=device or tmf.DEFAULT_DEVICES,
        tasks=tasks,
        first=first,
        clients=client or (),
        samples=samples,
        data=data,
        save=save,
        keep=keep,
        insecure=insecure,
    )
    whose = "Clients" if any(each.trained_on for each in adapted.clients) else "Unseen clients"
    _show_adaptation(adapted, whose, json_)
    if save is not None:
        kept = sum(each.file is not None for each in adapted.clients)
        notes.print(f"{save}: the adapted weights of {kept} client{'s' * (kept != 1)}", soft_wrap=True)


def _show_adaptation(adapted: tmf.Adaptation, whose: str, as_json: bool) -> None:
    """Prints the score of each client, their means and the results by class."""
    if as_json:
        print(json.dumps(asdict(adapted)))
        return
    how = f"each adapted with {adapted.samples} samples" if adapted.samples else "adapted already"
    table = Table(title=f"{whose}, {how}")
    for heading in ("client", "task", f"{adapted.metric} before", "after"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for each in adapted.clients:
        known = " (trained on)" if each.trained_on else ""
        table.add_row(str(each.client), each.task + known, _score(each.before), _score(each.after))
    table.add_section()
    table.add_row("mean", "", _score(adapted.before), _score(adapted.after))
    console = results()
    console.print(table)
    _show_classes(console, adapted.classes)
    for note in adapted.notes:
        console.print(f"note: {note}", soft_wrap=True)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder that train or simulate wrote.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="The data to score on, for instance other recordings.", show_default="held-out clients of the run"
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Adapted weights, as adapt --save writes them (the folder, or one file for all clients) or export; "
            "nothing trains. The samples that they were adapted with are left out where the file says which; otherwise a note "
            "says so."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help=SAMPLES_HELP),
    ] = None,
    threads: ThreadsOption = None,
    trust: TrustOption = False,
    json_: JsonOption = False,
) -> None:
    """Score a run's model on any data: by client, and by class with a confusion matrix, precision and recall.

    Each client adapts first with samples of its own and is scored on all others; with --weights it is scored as it is.

    tinymetafed evaluate runs/gestures --data recordings/may
    """
    whose = f"Clients of {data}" if data is not None else "Unseen clients" if weights is None else "Held-out clients"
    scored = tmf.open_run(run, trust=trust).evaluate(data=data, weights=weights, samples=samples, threads=threads)
    _show_adaptation(scored, whose, json_)


def demo(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of meta-training.")] = 350,
    out: Annotated[Path | None, typer.Option(help="Run folder to create; default runs/demo-DATE-TIME.")] = None,
) -> None:
    """Show a complete run in about a minute: four emulated boards meta-train on sine waves, and unseen clients adapt."""
    # So short a run needs larger server steps than the 3000 rounds that examples/sine.toml is tuned for.
    settings = {"run.rounds": rounds, "strategy.alpha_max": 0.8, "evaluation.every": 50, "evaluation.every_tasks": 50}
    experiment = tmf.load(tmf.example("sine.toml"), settings)
    lacking = tmf.missing_tools("mps2")
    emulated = not lacking
    if emulated:
        notes.print("Four emulated Cortex-M4F boards (QEMU) train over serial; unseen clients adapt in native processes.")
    else:
        missing = ", ".join(tool.name for tool in lacking)
        notes.print(
            f"No emulated boards on this machine ({missing} missing; see `tinymetafed doctor`): "
            "the same firmware runs as four native processes instead."
        )
    folder = out or tmf.new_run_folder("demo")
    devices = ["qemu:4" if emulated else "native:4"]
    counted = tmf.count_instructions(experiment) if emulated else None
    with _resumable(folder):
        run = tmf.train(experiment, devices, out=folder, instructions_per_step=counted)
    _finish(run, False)


@contextmanager
def _resumable(
    folder: Path,
    devices: Sequence[str] | None = None,
    test_device: str | None = None,
    data: Path | None = None,
    command: str = "train",
    insecure: bool = False,
    gateways: tmf.Gateways | None = None,
    log: Sequence[str] | None = None,
) -> Iterator[None]:
    """Prints how to continue a run that was interrupted or lost devices or recording; removes its folder if it is empty."""
    try:
        yield
    except (KeyboardInterrupt, tmf.LinkError, tmf.LaunchError, tmf.RecordingError):
        if (folder / "run.db").is_file():
            words = ["tinymetafed", command, "--resume", str(folder)]
            words += [word for url in devices or () for word in ("--device", url)]
            words += ["--test-device", test_device] if test_device else []
            words += ["--data", str(data)] if data else []
            words += words_of(gateways)
            words += ["--insecure"] if insecure else []
            words += [word for name in log or () for word in ("--log", name)]
            notes.print(f"The finished rounds are kept; continue with: {shlex.join(words)}", soft_wrap=True)
        raise
    finally:
        with suppress(OSError):
            folder.rmdir()  # fails unless it is empty


FEWEST_FOR_INTERVAL = 3  # independent units: an interval of two is wider than any use


def _score(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3f}"


def _finish(run: tmf.Run, as_json: bool) -> None:
    result, page = run.result, run.report()
    assert result is not None  # the run has finished
    if as_json:
        print(json.dumps({**result.as_json(), "run": str(run.path), "report": str(page)}, allow_nan=False))
        return
    test = result.meta_test
    rounds = max(result.rounds, 1)
    dense = result.bytes_up_dense / rounds
    table = Table(show_header=False, box=None, padding=(0, 2))
    unit = test.metric.caption
    clients = f"{test.n_clients:,} unseen client{'' if test.n_clients == 1 else 's'}"
    splits = "" if test.n_tasks == test.n_clients else f"{test.n_tasks} splits of "
    n = test.n_clients if test.n_independent is None else test.n_independent
    independent = f"{n:,} {test.unit}{'' if n == 1 else 's'}"
    of_units = "" if n == test.n_clients else f" of {independent}"
    group = ", for validation" if test.group == "validation" else ""
    table.add_row(f"meta-test {unit}, {splits}{clients}{of_units}{group}", f"{_score(test.before)} before adaptation")
    interval = "" if test.after_ci95 is None else f" ± {test.after_ci95:.3f}"
    if n < FEWEST_FOR_INTERVAL:
        interval = f" ({independent}, too few for an interval)"
    table.add_row("", Text.assemble((_score(test.after), "bold"), f"{interval} after"))
    table.add_row(
        "bytes per round on the wire",
        f"{result.bytes_down / rounds:,.0f} down, {result.bytes_up / rounds:,.0f} up",
    )
    if result.bytes_down_full is not None:
        share = result.bytes_down / max(result.bytes_down_full, 1)
        full = result.bytes_down_full / rounds
        table.add_row("with all weights in each round", f"{full:,.0f} down, of which differences took {share:.0%}")
    table.add_row("dense float32, values only", f"{dense:,.0f} down, {dense:,.0f} up")
    if result.bytes_samples:
        table.add_row("samples streamed per round", f"{result.bytes_samples / rounds:,.0f} bytes")
    if result.instructions_per_step is not None:
        counts = ", ".join(f"{result.instructions_per_step[v]:,} {v}" for v in ("local", "global", "full"))
        table.add_row("instructions per training step", counts)
    if result.redone or result.skipped:
        table.add_row("contributions", f"{result.redone:,} redone after a first attempt was lost, {result.skipped:,} skipped")
    if result.closed_early:
        late = ", ".join(f"{board.device} {board.rounds:,} times" for board in result.late_boards or ())
        table.add_row("rounds that ended early", f"{result.closed_early:,}{late and f'; late: {late}'}")
    if result.privacy is not None:
        table.add_row("privacy", result.privacy.text)
    table.add_row("time", f"{result.seconds:.1f} s for {result.rounds} rounds and the meta-test")
    best = "" if result.kept_round is None else f", the best of those compared, after {result.kept_round:,} rounds"
    mean = "" if result.averaged is None else f", mean of {result.averaged:,} rounds"
    table.add_row("weights", f"sha256 {result.weights_sha256[:16]}…{best}{mean}")
    console = results()
    console.print(table)
    _show_classes(console, test.classes)
    console.print(f"  report  {page}", soft_wrap=True)
    if _is_worse(test):
        console.print(
            Text.assemble(
                ("  Adaptation made the score worse: there are too few rounds for this schedule.", "yellow"),
                " Increase run.rounds or, for a short run, strategy.alpha_max.",
            ),
            highlight=False,
            soft_wrap=True,
        )


MANY_CLASSES = 12  # of more the confusion matrix is too wide for a terminal; the report and --json have it


def _show_classes(console: Console, classes: tmf.ClassScores | None) -> None:
    """Prints precision and recall by class, and the confusion matrix of a few classes."""
    if classes is None:
        return
    few = len(classes.names) <= MANY_CLASSES
    table = Table(title="Test samples by class after adaptation", title_justify="left")
    table.add_column("true class")
    for name in ("precision", "recall"):
        table.add_column(name, justify="right")
    for name in classes.names if few else ():
        table.add_column(f"as {name}", justify="right")
    for name, counts, precision, recall in zip(
        classes.names, classes.confusion, classes.precision, classes.recall, strict=True
    ):
        shares = ["–" if share is None else f"{100 * share:.1f} %" for share in (precision, recall)]
        table.add_row(name, *shares, *(f"{number:,}" for number in (counts[:-1] if few else ())))
    console.print(table)


def _is_worse(test: tmf.FinalScores) -> bool:
    """Whether unseen clients had a better score before adaptation."""
    if test.before is None or test.after is None:
        return False
    return test.metric.is_better(test.before, test.after)
