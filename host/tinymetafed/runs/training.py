"""Starts runs and continues interrupted ones, on devices or in simulation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import Experiment, SpecError

from ..federation.clients import DeviceFacts
from ..federation.observer import Observer
from ..learn.strategies import code_sha256
from ..learn.weights import initial
from . import TEST_URL, store
from .collapse import refuse_collapse
from .journal import Asked, RunResult
from .rest_of_run import RestOfRun
from .run_data import RunData, StoreError
from .run_status import published
from .setup import Setup, set_up
from .sites import InSimulation, Site
from .unchanged import same_code, same_data, same_model

if TYPE_CHECKING:  # a simulation starts sooner without the devices
    from ..devices.link.faults import FaultPlan
    from .gateway_site import BehindGateways


def train(
    setup: Setup,
    urls: Sequence[str],
    test_urls: Sequence[str],
    out: Path,
    observer: Observer,
    *,
    faults: FaultPlan | None = None,
    record: Path | None = None,
    instructions_per_step: Mapping[str, int] | None = None,
) -> RunResult:
    """Runs an experiment on devices.

    If it ends early for any reason, all finished rounds are in the store and ``resume`` continues after them.

    Args:
        setup: The experiment's set-up.
        urls: URLs of the devices to train on.
        test_urls: URLs of the devices to test on.
        out: The run folder.
        observer: Is told of progress.
        faults: Faults to inject between host and training devices.
        record: File to record the training lines in.
        instructions_per_step: Counted instructions by variant, to be part of the result.

    Returns:
        The run's result.

    Raises:
        Error: LinkError, BuildError, DeltaError or StoreError.
        Collapsed: The network no longer depends on its input.
    """
    from .device_site import OnDevices

    asked = replace(_asked(setup), devices=tuple(urls), test_devices=tuple(test_urls))
    if instructions_per_step is not None:
        asked = replace(asked, instructions_per_step=dict(instructions_per_step))
    return _begin(setup, OnDevices(urls, test_urls, faults, record), asked, out, observer)


def train_behind(setup: Setup, site: BehindGateways, out: Path, observer: Observer) -> RunResult:
    """As ``train``, on boards behind gateways. Raises BackhaulError if they cannot be reached."""
    asked = replace(_asked(setup), devices=(site.url,), test_devices=tuple(site.test_urls))
    return _begin(setup, site, asked, out, observer)


def resume_behind(
    path: Path, site: BehindGateways, observer: Observer, *, data: Path | None = None, rounds: int | None = None
) -> RunResult:
    """As ``resume``, on boards behind gateways; for every run."""
    return _continue(path, lambda asked: site, data, observer, rounds)


def simulate(setup: Setup, threads: int, out: Path, observer: Observer) -> RunResult:
    """As ``train``, but simulated in this process on ``threads`` threads."""
    return simulate_at(InSimulation(threads), setup, out, observer)


def simulate_at(place: InSimulation, setup: Setup, out: Path, observer: Observer) -> RunResult:
    """As ``simulate``, with the kernels or threads of a place."""
    return _begin(setup, place, _asked(setup), out, observer)


def resume(
    path: Path,
    observer: Observer,
    *,
    urls: Sequence[str] = (),
    test_urls: Sequence[str] = (),
    data: Path | None = None,
    faults: FaultPlan | None = None,
    record: Path | None = None,
    rounds: int | None = None,
) -> RunResult:
    """Continues a run on devices after its last finished round.

    Args:
        path: The run folder.
        observer: Is told of progress.
        urls: Devices to train on; by default those that the run began with.
        test_urls: Devices to test on; by default those that the run began with.
        data: Folder of the task's data; None for the one that the run began with.
        faults: Faults to inject between host and training devices.
        record: File to record the training lines in.
        rounds: Rounds after which the run now ends, also of a finished run; None for the run's own number.

    Returns:
        The result of the whole run.

    Raises:
        Error: As ``train``.
    """
    from .device_site import OnDevices

    def site(asked: Asked) -> Site:
        if not urls and not asked.devices:
            raise StoreError(
                f"{path}: this run was begun as a simulation; continue it with tinymetafed simulate --resume {path}, or give "
                "devices with --device"
            )
        return OnDevices(urls or asked.devices, test_urls or asked.test_devices, faults, record)

    return _continue(path, site, data, observer, rounds)


def resume_simulated(
    path: Path, threads: int, observer: Observer, *, data: Path | None = None, rounds: int | None = None
) -> RunResult:
    """As ``resume``, but simulated in this process on ``threads`` threads; for runs on devices too."""
    return resume_at(InSimulation(threads), path, observer, data=data, rounds=rounds)


def resume_at(
    place: InSimulation, path: Path, observer: Observer, *, data: Path | None = None, rounds: int | None = None
) -> RunResult:
    """As ``resume_simulated``, with the kernels or threads of a place."""
    return _continue(path, lambda asked: place, data, observer, rounds)


def _asked(setup: Setup) -> Asked:
    """The journal's options of a simulation, which has no training devices."""
    data = None if setup.data is None else str(setup.data)
    return Asked(
        devices=(),
        test_devices=(TEST_URL,),
        data=data,
        data_sha256=setup.task.data_sha256,
        strategy_sha256=code_sha256(setup.experiment),
        task_sha256=setup.task.code_sha256,
        class_names=tuple(setup.task.class_names),
        feature_note=setup.task.feature_note,
    )


def _begin(setup: Setup, site: Site, asked: Asked, out: Path, observer: Observer) -> RunResult:
    experiment = setup.experiment
    weights = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    started = time.monotonic()
    with published(out, observer) as watched:
        for note in setup.task.notes:
            watched.event(note)
        with site.open(setup, watched) as (trainers, testers):
            watched.watch(trainers)
            with store.create(out, experiment, _manifest_of(setup, trainers.devices), weights, asked) as run:
                run.hold_seconds = site.hold_seconds
                return RestOfRun(setup, run, trainers, testers, watched).complete(time.monotonic() - started)


def _manifest_of(setup: Setup, devices: Sequence[DeviceFacts]) -> ModelManifest:
    """The model on the board of the first device that can run it; gateways may name boards that are not known here."""
    for name in dict.fromkeys(device.board for device in devices):
        with suppress(Error):
            return setup.design.on(setup.design.boards.named(name)).manifest
    return setup.design.manifest


def _continue(
    path: Path, site: Callable[[Asked], Site], data: Path | None, observer: Observer, rounds: int | None
) -> RunResult:
    started = time.monotonic()
    with store.reopen(path) as run, published(path, observer) as watched:
        past = run.read()
        experiment = past.experiment() if rounds is None else _extended(past, rounds)
        rounds = None if experiment == past.experiment() else rounds
        if past.result is not None and rounds is None:
            refuse_collapse(past)
            return past.result
        if run.warning:
            watched.event(run.warning)
        setup = set_up(experiment, str(path / "experiment.toml"), data or past.data)
        same_model(setup, past)
        same_code(setup, past)
        same_data(setup, past)
        place = site(past.header.asked)
        if setup.strategy.kept and 0 < past.trained < setup.experiment.run.rounds:
            what = f"{path}: the state that clients keep between rounds ({', '.join(setup.strategy.kept)})"
            if place.has_stores(setup):
                watched.event(f"{what} continues from the stores of the boards")
            else:
                watched.event(f"{what} was lost when the run stopped after {past.trained} rounds; clients continue without it")
        if rounds is not None and any(entry.alpha != float(setup.strategy.alpha(entry.round)) for entry in past.rounds):
            watched.event(
                f"{path}: strategy.schedule = '{experiment.strategy.schedule}' is now spread over {rounds} rounds, but the "
                f"{past.trained} finished ones followed another one; the weights will not be those of a run begun with "
                f"run.rounds = {rounds}"
            )
        averaged_from = experiment.strategy.averages_from(experiment.run.rounds)
        if rounds is not None and averaged_from < past.trained:
            watched.event(
                f"{path}: strategy.average_last = {experiment.strategy.average_last:g} asks for the mean of weights from round "
                f"{averaged_from} on, of which those before round {past.trained} were not kept one by one; the mean begins "
                f"anew with round {past.trained}"
            )
        with place.open(setup, watched) as (trainers, testers):
            watched.watch(trainers)
            run.hold_seconds = place.hold_seconds
            training = RestOfRun(setup, run, trainers, testers, watched)
            return training.complete(time.monotonic() - started, rounds)


def _extended(past: RunData, rounds: int) -> Experiment:
    """The experiment of a run that is to end after ``rounds`` rounds. Raises SpecError if it cannot."""
    if rounds < past.trained:
        raise SpecError(
            f"{past.path}: run.rounds = {rounds}, but {past.trained} rounds are trained already; give {past.trained} or more"
        )
    experiment = past.experiment(rounds=rounds)
    if experiment.run.rounds != rounds:
        raise SpecError(f"{past.path}: strategy.kind = '{experiment.strategy.kind}' has no rounds; leave run.rounds out")
    return experiment
