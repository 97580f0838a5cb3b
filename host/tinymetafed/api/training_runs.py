"""Trains on devices, and continues runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..devices.device_urls import require_secure, some
from ..devices.link import faults
from ..runs import foreign_parts, training
from ..runs.setup import set_up
from ..trackers.run_logs import logged
from ..trackers.trackers_by_name import LogOption, trackers
from .api_defaults import DEFAULT_DEVICES, TEST_DEVICE
from .continuing import Continuation, continue_run
from .gateway_runs import Gateways
from .loaded_experiment import Experiment, data_path
from .named_files import path_of
from .progress import ProgressOption, watching
from .run_handle import Run
from .whole_runs import new_run_folder, whole_run


def train(
    experiment: Experiment,
    devices: Sequence[str] = DEFAULT_DEVICES,
    *,
    test_device: str = TEST_DEVICE,
    out: str | Path | None = None,
    data: str | Path | None = None,
    fault: str = "",
    record: str | Path | None = None,
    instructions_per_step: dict[str, int] | None = None,
    insecure: bool = False,
    gateways: Gateways | None = None,
    log: LogOption = (),
    progress: ProgressOption = True,
) -> Run:
    """Meta-trains on boards, emulators or native processes, and tests on unseen clients.

    Args:
        experiment: An experiment from ``load``.
        devices: Device URLs, for instance ["native:4"], ["qemu:4", "/dev/ttyACM0"]. The result does not depend on them.
        test_device: URL of the devices on which unseen clients adapt in meta-tests.
        out: Run folder to create; None for a new one in runs/.
        data: Folder of the task's data; None for the usual place.
        fault: Faults to inject into the lines, for instance "flip=0.01,delay=20ms".
        record: File to record every byte of the lines in, for ``monitor``.
        instructions_per_step: Counted instructions by variant, for the report.
        insecure: Accept lines that leave this machine without TLS, such as socket://HOST:PORT, to boards that are not
            authenticated: anybody on the network may then answer in place of a board.
        gateways: Gateways with boards to train on, in place of ``devices``.
        log: As in ``simulate``.
        progress: As in ``simulate``.

    Returns:
        The finished run.

    Raises:
        Error: SpecError, DataError, BuildError, LinkError, LaunchError, DeltaError, StoreError, StrategyError, Collapsed.
        KeyboardInterrupt: The finished rounds are in the run folder, and ``resume`` continues after them.
    """
    if gateways is not None:
        return _train_behind(experiment, gateways, test_device, out, data, insecure, log, progress)
    urls = some(devices)
    require_secure([*urls, test_device], experiment.spec.run.security, insecure)
    foreign_parts.remember(foreign_parts.devices_of([*urls, test_device]))
    disturbance = faults.parse(fault) if fault else None
    logs = trackers(log)
    setup = set_up(experiment.spec, experiment.source, data_path(experiment.spec.task, data))
    folder = path_of(out) or new_run_folder(experiment.name)
    with whole_run(folder), watching(progress) as shown, logged(shown, logs, folder) as observer:
        training.train(
            setup,
            urls,
            [test_device],
            folder,
            observer,
            faults=disturbance,
            record=path_of(record),
            instructions_per_step=instructions_per_step,
        )
    return Run(folder)


def _train_behind(
    experiment: Experiment,
    gateways: Gateways,
    test_device: str,
    out: str | Path | None,
    data: str | Path | None,
    insecure: bool,
    log: LogOption,
    progress: ProgressOption,
) -> Run:
    require_secure([test_device], experiment.spec.run.security, insecure)
    foreign_parts.remember(foreign_parts.devices_of([test_device]))
    site, logs = gateways.site([test_device]), trackers(log)
    setup = set_up(experiment.spec, experiment.source, data_path(experiment.spec.task, data))
    folder = path_of(out) or new_run_folder(experiment.name)
    with whole_run(folder), watching(progress) as shown, logged(shown, logs, folder) as observer:
        training.train_behind(setup, site, folder, observer)
    return Run(folder)


def resume(
    path: str | Path,
    *,
    simulated: bool | None = None,
    devices: Sequence[str] = (),
    test_device: str | None = None,
    threads: int | None = None,
    data: str | Path | None = None,
    fault: str = "",
    record: str | Path | None = None,
    experiment: Experiment | None = None,
    rounds: int | None = None,
    insecure: bool = False,
    trust: bool = False,
    gateways: Gateways | None = None,
    log: LogOption = (),
    progress: ProgressOption = True,
) -> Run:
    """Continues a run after its last finished round; the weights are the same as without the interruption.

    Args:
        path: The run folder.
        simulated: True to continue in a simulation, False on devices, None as the run was begun.
        devices: Device URLs; empty for those that the run was begun with.
        test_device: URL of the devices to test on; None for the one that the run was begun with.
        threads: Threads to simulate on; None for all processors.
        data: Folder of the task's data; None for the one that the run was begun with.
        fault: As in ``train``.
        record: As in ``train``.
        experiment: If given, the run's experiment must be equal to it, up to run.rounds if these were changed.
        rounds: Rounds after which the run now ends, also of a finished run: run.rounds; None for the run's own number. Where
            the server's learning rate does not depend on it, the weights are those of a run begun with it.
        insecure: As in ``train``, also for the devices that the run was begun with.
        trust: As in ``open_run``.
        gateways: As in ``train``; a run behind gateways needs them again.
        log: As in ``simulate``; a log that has the first rounds already is continued.
        progress: As in ``simulate``.

    Returns:
        The finished run.

    Raises:
        UntrustedError: The run brings code, boards or devices that this user has not used.
        StoreError: The folder is not a run, is damaged, was made by another version, or has another experiment.
        Error: As ``train``.
    """
    how = Continuation(
        simulated=simulated,
        devices=devices,
        test_device=test_device,
        threads=threads,
        data=data,
        fault=fault,
        record=record,
        experiment=experiment,
        rounds=rounds,
        insecure=insecure,
        trust=trust,
        gateways=gateways,
        log=log,
    )
    continue_run(Path(path), how, progress)
    return Run(path)
