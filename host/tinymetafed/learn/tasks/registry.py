"""From the experiment's ``[task]`` to a task with its data."""

from __future__ import annotations

from pathlib import Path

from tinymetafed_codegen.spec import Experiment, OmniglotTask, SineTask

from . import DataError, Task
from .omniglot import Omniglot
from .sine import Sine


def open_task(experiment: Experiment, data: Path | None) -> Task:
    """Reads the task's data. Raises DataError naming what is missing or damaged."""
    spec, seed = experiment.task, experiment.run.seed
    if isinstance(spec, SineTask):
        return Sine(seed)
    assert isinstance(spec, OmniglotTask)
    if data is None:
        raise DataError("task 'omniglot' reads the original archives: name their folder with --data PATH")
    return Omniglot(data, seed, spec.ways, spec.support, spec.query, spec.adapt)
