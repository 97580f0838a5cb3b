"""Commands that train and adapt: train, simulate, adapt, demo."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

import tinymetafed as tmf

from .gateway_command import CertificatesOption, GatewaysOption, SecretOption, SuperlinkOption, gateways_of, words_of
from .live_commands import LiveAtOption, LiveOption, served
from .options import DataOption, DeviceOption, InsecureOption, JsonOption, LogOption, SetOption, ThreadsOption, TrustOption
from .output import notes
from .run_results import show_adaptation, show_result


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
    show_result(run, json_)


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
    show_result(run, json_)


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
        if not re.fullmatch(r"\s*[0-9]{1,18}\s*", text):
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
    show_adaptation(adapted, whose, json_)
    if save is not None:
        kept = sum(each.file is not None for each in adapted.clients)
        notes.print(f"{save}: the adapted weights of {kept} client{'s' * (kept != 1)}", soft_wrap=True)


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
    show_adaptation(scored, whose, json_)


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
    show_result(run, False)


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
