"""Continues runs after their last finished round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..devices.device_urls import require_secure, several
from ..devices.link import faults
from ..runs import foreign_parts, store, training
from ..runs.gateway_site import SCHEME
from ..runs.run_data import RunData, StoreError
from ..runs.setup import design_of
from ..trackers.run_logs import logged
from ..trackers.trackers_by_name import LogOption, trackers
from .api_defaults import threads_of
from .gateway_runs import Gateways
from .loaded_experiment import Experiment, data_path
from .named_files import path_of
from .progress import ProgressOption, watching
from .whole_runs import whole_run


@dataclass(frozen=True)
class Continuation:
    """How a run is continued; each field is the argument of ``resume`` that has its name."""

    simulated: bool | None = None
    devices: Sequence[str] = ()
    test_device: str | None = None
    threads: int | None = None
    data: str | Path | None = None
    fault: str = ""
    record: str | Path | None = None
    experiment: Experiment | None = None
    rounds: int | None = None
    insecure: bool = False
    trust: bool = False
    gateways: Gateways | None = None
    log: LogOption = ()


def continue_run(folder: Path, how: Continuation, progress: ProgressOption) -> None:
    """Continues a run to its end. Raises as ``resume``.

    Args:
        folder: The run folder.
        how: Where and with what it is continued.
        progress: As in ``simulate``.
    """
    how = replace(how, devices=several(how.devices))
    logs = trackers(how.log)
    begun = store.read_run(folder)
    if how.trust:
        begun.trust()
    experiment = how.experiment
    if experiment is not None:
        foreign_parts.remember(foreign_parts.of_experiment(experiment.spec, experiment.source))
    begun_with = begun.experiment()
    own = data_path(begun_with.task, how.data)
    if experiment is not None and not _is_of(experiment, begun, any_rounds=how.rounds is not None):
        raise StoreError(
            f"{experiment.source}: not the experiment of {folder}, which cannot change during a run; leave it out to continue "
            "that run, or leave --resume out to begin another"
        )
    asked = begun.header.asked
    if how.gateways is not None:
        _continue_behind(folder, how, how.gateways, begun, own, progress)
        return
    if how.simulated is not True and not how.devices and asked.devices and asked.devices[0].startswith(SCHEME):
        raise StoreError(
            f"{folder}: this run was begun behind gateways; give --superlink and --gateways again, or devices with --device"
        )
    here = not (how.devices or asked.devices) if how.simulated is None else how.simulated
    if not here:
        testers = asked.test_devices if how.test_device is None else (how.test_device,)
        require_secure([*(how.devices or asked.devices), *testers], begun_with.run.security, how.insecure)
        foreign_parts.remember(foreign_parts.devices_of([*how.devices, *([how.test_device] if how.test_device else [])]))
        remedy = "give the command again with --trust, or with devices of your own (--device, --test-device)"
        foreign_parts.require_known(foreign_parts.devices_of([*(how.devices or asked.devices), *testers]), folder, remedy)
    with whole_run(folder, begun=True), watching(progress) as shown, logged(shown, logs, folder) as observer:
        if here:
            training.resume_simulated(folder, threads_of(how.threads), observer, data=own, rounds=how.rounds)
        else:
            training.resume(
                folder,
                observer,
                urls=list(how.devices),
                test_urls=[how.test_device] if how.test_device else (),
                data=own,
                faults=faults.parse(how.fault) if how.fault else None,
                record=path_of(how.record),
                rounds=how.rounds,
            )


def _continue_behind(
    folder: Path, how: Continuation, gateways: Gateways, begun: RunData, data: Path | None, progress: ProgressOption
) -> None:
    testers = begun.header.asked.test_devices if how.test_device is None else (how.test_device,)
    require_secure(testers, begun.experiment().run.security, how.insecure)
    if how.test_device is not None:
        foreign_parts.remember(foreign_parts.devices_of(testers))
    remedy = "give the command again with --trust, or with a device of your own (--test-device)"
    foreign_parts.require_known(foreign_parts.devices_of(testers), folder, remedy)
    site, logs = gateways.site(testers), trackers(how.log)
    with whole_run(folder, begun=True), watching(progress) as shown, logged(shown, logs, folder) as observer:
        training.resume_behind(folder, site, observer, data=data, rounds=how.rounds)


def _is_of(experiment: Experiment, run: RunData, *, any_rounds: bool) -> bool:
    """Whether a run was begun with this experiment; its rounds may differ where the run is or was extended."""
    given = experiment.spec
    if given.model.ram_budget is not None:  # the run names the layers that it picked
        given = design_of(given, experiment.source).experiment
    if any_rounds or run.extended is not None:
        own = run.experiment().run.rounds
        given = given.model_copy(update={"run": given.run.model_copy(update={"rounds": own})})
    return given == run.experiment().as_asked(given)
