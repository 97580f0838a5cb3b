"""A whole run: firmware built, devices started, rounds trained, unseen clients tested, everything written down."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tomli_w

from tinymetafed_codegen import boards, generate
from tinymetafed_codegen.emit import write_if_changed
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.protocol import PROTOCOL_VERSION, SampleSet
from tinymetafed_codegen.spec import Experiment, OmniglotTask, dump

from . import evaluate, firmware, server
from .evaluate import Collapsed, MetaTest
from .firmware import Firmware
from .learn.strategy import TinyMetaFed
from .learn.tasks import HELD_OUT, Task
from .learn.tasks.registry import open_task
from .learn.weights import Floats, initial, sha256
from .link.exchange import Traffic
from .link.launch import Device, DeviceUrlError, launch, parse
from .link.session import Session
from .store import RunFolder

SHOTS = (1, 2, 4, 8, 16)  # samples per class of the accuracy curve (paper, Table 5)
SAVE_SECONDS = 2.0  # weights on disk are at most this old


class Observer(Protocol):
    """Who watches a run; the command line draws progress from this."""

    def stage(self, text: str, total: int = 0) -> None:
        """A new part of the run begins; ``total`` steps long, 0 when that is not known."""

    def advance(self) -> None:
        """One step of the current part is done."""

    def note(self, text: str) -> None:
        """Something to show beside the progress, for instance the latest score."""


@dataclass(frozen=True)
class Setup:
    """An experiment made ready: its task's data, its strategy, its manifest on the native board."""

    experiment: Experiment
    source: str
    task: Task
    manifest: dict[str, Any]
    strategy: TinyMetaFed


def set_up(experiment: Experiment, source: str, data: Path | None) -> Setup:
    """Reads data and settles the model. Raises SpecError, DataError."""
    manifest = manifest_of(experiment, source, "native")
    task = open_task(experiment, data)
    return Setup(experiment, source, task, manifest, TinyMetaFed(experiment, manifest))


def manifest_of(experiment: Experiment, source: str, board: str) -> dict[str, Any]:
    """The experiment's manifest on a board. Raises SpecError, BoardError."""
    return generate.design(experiment, boards.load(board), source).manifest


def build(experiment: Experiment, source: str, board: str) -> Firmware:
    """Builds the experiment's firmware for a board, in a folder of its model's own. Raises FirmwareError, SpecError."""
    manifest_of(experiment, source, board)  # refuses a model that is too large before anything is compiled
    settled = settle(experiment, source)
    return firmware.build(settled, board, key=settled.parent.name)


def settle(experiment: Experiment, source: str) -> Path:
    """Writes the complete experiment where its model's builds go, for PlatformIO to read."""
    key: str = manifest_of(experiment, source, "native")["model_hash"]
    settled = firmware.build_root() / key / "experiment.toml"
    write_if_changed(settled, tomli_w.dumps(dump(experiment)))
    return settled


@contextmanager
def running(
    experiment: Experiment, source: str, urls: Sequence[str], observer: Observer, *, icount: bool = False
) -> Iterator[list[Device]]:
    """Builds firmware where needed, starts or opens the devices and checks what is on them; stops them at the end."""

    specs = parse(urls)
    programs: dict[str, Path] = {}
    for board in dict.fromkeys(spec.board for spec in specs if spec.board is not None):
        observer.stage(f"building firmware for {board}")
        programs[board] = build(experiment, source, board).program
    observer.stage(f"starting {', '.join(urls)}")
    with launch(specs, programs.__getitem__, icount=icount) as devices:
        for device in devices:
            remedy = f"TINYMETAFED_EXPERIMENT={settle(experiment, source)} pio run -d {root()} -e {device.board} -t upload"
            device.session.check(device.hello, manifest_of(experiment, source, device.board), remedy)
        yield devices


def train(setup: Setup, urls: Sequence[str], test_urls: Sequence[str], out: Path, observer: Observer) -> dict[str, Any]:
    """Runs an experiment into the folder ``out`` and returns its result.

    Raises LinkError, FirmwareError, DeltaError, StoreError; Collapsed when the network no longer depends on its input.
    Whatever ends it early, Ctrl-C included, the weights of the last finished round are on disk.
    """
    experiment, strategy = setup.experiment, setup.strategy
    if shared := {spec.url for spec in parse(urls) if spec.kind == "serial"} & set(test_urls):
        raise DeviceUrlError(f"{', '.join(sorted(shared))}: given both to train and to test on; a port serves one session")
    every = experiment.evaluation.every
    started = time.monotonic()
    weights = initial(setup.manifest, experiment.run.seed, experiment.model.init)
    traffic, trained, saved = Traffic(), 0, started
    with (
        running(experiment, setup.source, urls, observer) as devices,
        running(experiment, setup.source, test_urls, observer) as testers,
        RunFolder.create(out, experiment, manifest_of(experiment, setup.source, devices[0].board)) as folder,
    ):
        sessions = [device.session for device in devices]
        test_sessions = [device.session for device in testers]
        served = [0] * len(devices)
        ready = time.monotonic()
        training_seconds = 0.0
        try:
            observer.stage("meta-training", experiment.run.rounds)
            for done in server.rounds(strategy, setup.task, sessions, weights):
                weights, trained = done.weights, done.index + 1
                traffic += done.traffic
                training_seconds += done.seconds
                for place in done.devices:
                    served[place] += 1
                folder.append(
                    kind="round",
                    round=done.index,
                    alpha=done.alpha,
                    clients=done.clients,
                    devices=[devices[place].url for place in done.devices],
                    bytes_down=done.traffic.down - done.traffic.samples_down,
                    bytes_up=done.traffic.up - done.traffic.samples_up,
                    bytes_samples=done.traffic.samples_down + done.traffic.samples_up,
                    retries=done.traffic.retries,
                    seconds=round(done.seconds, 6),
                    update_norm=done.change,
                )
                if time.monotonic() - saved > SAVE_SECONDS:
                    folder.save_weights(weights, trained)
                    saved = time.monotonic()
                observer.advance()
                if every and trained % every == 0 and trained < experiment.run.rounds:
                    check = evaluate.meta_test(test_sessions, strategy, setup.task, weights, experiment.evaluation.every_tasks)
                    _journal(folder, trained, check)
                    observer.note(f"after {trained} rounds: {check.metric} {np.mean(check.after):.3f}")
                    _refuse_collapse(strategy, check, trained, out)
        finally:
            folder.save_weights(weights, trained)
        observer.stage("meta-test on unseen clients", experiment.evaluation.tasks)
        final = evaluate.meta_test(
            test_sessions, strategy, setup.task, weights, experiment.evaluation.tasks, on_task=observer.advance
        )
        _journal(folder, trained, final)
        result = {
            "task": setup.task.name,
            "rounds": trained,
            "seed": experiment.run.seed,
            "weights_sha256": sha256(weights),
            "bytes_down": traffic.down - traffic.samples_down,
            "bytes_up": traffic.up - traffic.samples_up,
            "bytes_up_dense": 4 * strategy.n_global * trained * experiment.run.devices_per_round,
            "bytes_samples": traffic.samples_down + traffic.samples_up,
            "retries": traffic.retries,
            "seconds": round(time.monotonic() - ready, 3),
            "training_seconds": round(training_seconds, 3),
            "start_seconds": round(ready - started, 3),
            "meta_test": final.summary(),
            "collapsed": final.collapsed,
            "devices": [_describe(device, rounds) for device, rounds in zip(devices, served, strict=True)],
            "showcase": showcase(setup, test_sessions, weights, observer),
            "versions": versions(),
        }
        folder.finish(result)
        _refuse_collapse(strategy, final, trained, out)
    return result


def adapt(setup: Setup, urls: Sequence[str], weights: Floats, clients: Sequence[int], observer: Observer) -> dict[str, Any]:
    """Adapts unseen clients one by one and returns each one's scores before and after. Raises LinkError, SpecError."""
    strategy, task = setup.strategy, setup.task
    count = setup.experiment.task.count(SampleSet.ADAPT)
    rows: list[dict[str, Any]] = []
    with running(setup.experiment, setup.source, urls, observer) as devices:
        sessions = [device.session for device in devices]
        evaluate.configure(sessions, strategy, count)
        observer.stage("adapting unseen clients", len(clients))
        for place, client in enumerate(clients):
            shown = evaluate.adapt(sessions[place % len(sessions)], strategy, task, weights, HELD_OUT + client, count)
            rows.append(
                {
                    "client": client,
                    "task": task.describe(HELD_OUT + client),
                    "before": evaluate.finite(task.score(shown.before, shown.test)),
                    "after": evaluate.finite(task.score(shown.after, shown.test)),
                }
            )
            observer.advance()
    return {
        "metric": task.metric,
        "samples": count,
        "before": evaluate.mean([row["before"] for row in rows]),
        "after": evaluate.mean([row["after"] for row in rows]),
        "clients": rows,
    }


def showcase(setup: Setup, sessions: Sequence[Session], weights: Floats, observer: Observer) -> dict[str, Any]:
    """What the report draws of new clients: the first one's curves, or accuracy over the samples it adapts with."""
    strategy, task, spec = setup.strategy, setup.task, setup.experiment.task
    if isinstance(spec, OmniglotTask):
        tasks = setup.experiment.evaluation.every_tasks
        observer.stage("accuracy over samples per class", len(SHOTS) * tasks)
        tests = [
            evaluate.meta_test(sessions, strategy, task, weights, tasks, shots * spec.ways, observer.advance) for shots in SHOTS
        ]
        scores = [tests[0].before, *(test.after for test in tests)]
        return {
            "d": [0, *SHOTS],
            "accuracy": [evaluate.mean(s) for s in scores],
            "ci95": [evaluate.confidence(s) for s in scores],
            "n_tasks": tasks,
        }
    count = spec.count(SampleSet.ADAPT)
    evaluate.configure(sessions[:1], strategy, count)
    shown = evaluate.adapt(sessions[0], strategy, task, weights, HELD_OUT, count)
    samples = task.samples(HELD_OUT, 0, SampleSet.ADAPT, count)
    return {
        "client": task.describe(HELD_OUT),
        "x": shown.test.inputs[:, 0].tolist(),
        "truth": shown.test.targets[:, 0].tolist(),
        "before": shown.before[:, 0].tolist(),
        "after": shown.after[:, 0].tolist(),
        "samples_x": samples.inputs[:, 0].tolist(),
        "samples_y": samples.targets[:, 0].tolist(),
    }


def versions() -> dict[str, str]:
    """What this result was made with."""
    return {
        "tinymetafed": version("tinymetafed"),
        "protocol": str(PROTOCOL_VERSION),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "pyserial": version("pyserial"),
        "platformio": version("platformio"),
        "system": platform.platform(),
    }


def _journal(folder: RunFolder, rounds: int, test: MetaTest) -> None:
    folder.append(
        kind="evaluation",
        round=rounds,
        before=evaluate.mean(test.before),
        after=evaluate.mean(test.after),
        n_tasks=len(test.after),
    )


def _refuse_collapse(strategy: TinyMetaFed, test: MetaTest, rounds: int, out: Path) -> None:
    if not test.collapsed:
        return
    remedy = "lower strategy.global_learning_rate or strategy.alpha_max"
    if test.metric == "mse" and not 0 < strategy.spec.output_clamp <= 1:
        remedy = f"set strategy.output_clamp = 1.0, or {remedy}"
    raise Collapsed(
        f"{out}: training collapsed: after {rounds} rounds {test.constant} of {len(test.after)} adapted networks give the "
        f"same answer whatever their input; {remedy}"
    )


def _describe(device: Device, rounds: int) -> dict[str, Any]:
    return {
        "url": device.url,
        "board": device.board,
        "unique_id": device.hello.unique_id.hex(),
        "receive_window": device.hello.receive_window,
        "rounds": rounds,
    }
