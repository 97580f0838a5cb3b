"""Trains in a simulation; a file of its own, because it starts sooner without all that devices need."""

from __future__ import annotations

from pathlib import Path

from ..runs import training
from ..runs.setup import set_up
from ..trackers.run_logs import logged
from ..trackers.trackers_by_name import LogOption, trackers
from .api_defaults import threads_of
from .loaded_experiment import Experiment, data_path
from .named_files import path_of
from .progress import ProgressOption, watching
from .run_handle import Run
from .whole_runs import new_run_folder, whole_run


def simulate(
    experiment: Experiment,
    *,
    out: str | Path | None = None,
    threads: int | None = None,
    data: str | Path | None = None,
    log: LogOption = (),
    progress: ProgressOption = True,
) -> Run:
    """Meta-trains in a simulation in this process, many clients at once, and tests on unseen clients.

    Args:
        experiment: An experiment from ``load``.
        out: Run folder to create; None for a new one in runs/.
        threads: Threads to simulate on; None for all processors. The result does not depend on it.
        data: Folder of the task's data; None for the usual place.
        log: Where to log rounds, keys and result besides the run folder: "csv", "tensorboard", "mlflow", "wandb", or
            "FILE.py:CLASS" or an object with the functions of ``Tracker``; or several of these. A log that fails is a warning.
        progress: True for bars in a terminal or notebook and lines elsewhere, False for nothing; or a function that is called
            with a ProgressEvent, or an observer.

    Returns:
        The finished run; its weights are the same as with devices.

    Raises:
        TrackerError: A tracker is unknown, or its library is not installed.
        Error: SpecError, DataError, BuildError, StoreError, StrategyError, TrainingFailed, Collapsed.
        KeyboardInterrupt: The finished rounds are in the run folder, and ``resume`` continues after them.
    """
    logs, workers = trackers(log), threads_of(threads)
    setup = set_up(experiment.spec, experiment.source, data_path(experiment.spec.task, data))
    folder = path_of(out) or new_run_folder(experiment.name)
    with whole_run(folder), watching(progress) as shown, logged(shown, logs, folder) as observer:
        training.simulate(setup, workers, folder, observer)
    return Run(folder)
