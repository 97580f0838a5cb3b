"""From the experiment's ``[task]`` to a task with its data."""

from __future__ import annotations

from pathlib import Path

from tinymetafed_codegen import graph
from tinymetafed_codegen.spec import CLIENTS, Experiment, FolderTask, KeywordsTask, PresenceTask, SineTask, TaskShapes

from . import DataError, Task
from .folder import read_folder
from .keywords import Keywords
from .omniglot import Omniglot
from .presence import Presence
from .sine import Sine


def open_task(experiment: Experiment, data: Path | None) -> Task:
    """Reads the task's data; ``data`` is where they are if not where the experiment says. Raises DataError, SpecError."""
    spec, run = experiment.task, experiment.run
    if isinstance(spec, SineTask):
        return Sine(run.seed, run.clients or CLIENTS)
    if isinstance(spec, PresenceTask):
        return Presence(run.seed, run.clients or CLIENTS)
    if isinstance(spec, FolderTask):
        net = graph.build(experiment.model, "model")
        shapes = TaskShapes(net.input.shape, net.output.size, net.loss.name)
        task = read_folder(data or Path(spec.path), spec, shapes, run.seed, run.clients)
        if 0 < task.clients < run.devices_per_round:
            raise DataError(
                f"{data or spec.path}: {task.clients} client(s) to train on, too few for run.devices_per_round = "
                f"{run.devices_per_round}"
            )
        return task
    if isinstance(spec, KeywordsTask):
        return Keywords(spec, data, run.seed, run.clients or CLIENTS)
    return Omniglot(spec, data, run.seed, run.clients or CLIENTS)
