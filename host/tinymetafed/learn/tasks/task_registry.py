"""Opens the task of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen import graph
from tinymetafed_codegen.class_table import ClassTable
from tinymetafed_codegen.spec import (
    Experiment,
    FolderTask,
    KeywordsTask,
    OmniglotTask,
    OwnTaskSpec,
    PresenceTask,
    SineTask,
    TaskBase,
)

from . import Task

_PLACES: dict[type[TaskBase], str] = {
    SineTask: "sine.Sine",
    OmniglotTask: "omniglot.Omniglot",
    KeywordsTask: "keywords.Keywords",
    PresenceTask: "presence.Presence",
    FolderTask: "folder.Folder",
    OwnTaskSpec: "own_task.OwnTask",
}
_TASKS: ClassTable[type[TaskBase], type[Task]] = ClassTable(__package__, _PLACES)


def task_class(spec: TaskBase) -> type[Task]:
    """The class that reads the data of a ``[task]`` section."""
    return _TASKS[type(spec)]


def open_to_score(experiment: Experiment, data: Path | None, class_names: Sequence[str]) -> Task:
    """Creates the experiment's task to score a trained model on data; see Task.open_to_score. Raises DataError, SpecError."""
    spec = experiment.task
    shapes = spec.shapes or graph.build(experiment.model, "model").shapes
    return task_class(spec).open_to_score(spec, experiment.run, shapes, data, class_names)


def open_task(experiment: Experiment, data: Path | None) -> Task:
    """Creates the experiment's task and reads its data.

    Args:
        experiment: The experiment.
        data: Path of the data; None for the path in the experiment or the default place.

    Returns:
        The task, ready to draw samples.

    Raises:
        DataError: The data cannot be used.
        SpecError: The class of a user's own task cannot be used.
        TooFewClients: There are fewer training clients than a round needs.
    """
    spec = experiment.task
    shapes = spec.shapes or graph.build(experiment.model, "model").shapes
    task = task_class(spec).open(spec, experiment.run, shapes, data)
    task.chooses = experiment.run.chooses
    if task.clients:  # 0: each board is a client
        experiment.require_clients(task.clients, str(data or getattr(spec, "path", None) or spec.kind))
    return task
