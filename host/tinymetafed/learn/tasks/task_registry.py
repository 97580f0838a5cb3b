"""From the experiment's ``[task]`` to a task with its data."""

from __future__ import annotations

from pathlib import Path

from tinymetafed_codegen import graph
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
from .folder import Folder
from .keywords import Keywords
from .omniglot import Omniglot
from .own_task import OwnTask
from .presence import Presence
from .sine import Sine

_TASKS: dict[type[TaskBase], type[Task]] = {
    SineTask: Sine,
    OmniglotTask: Omniglot,
    KeywordsTask: Keywords,
    PresenceTask: Presence,
    FolderTask: Folder,
    OwnTaskSpec: OwnTask,
}


def task_class(spec: TaskBase) -> type[Task]:
    """The class that reads the data of a ``[task]`` section."""
    return _TASKS[type(spec)]


def open_task(experiment: Experiment, data: Path | None) -> Task:
    """Reads the task's data; ``data`` is where they are if not where the experiment says. Raises DataError, SpecError."""
    spec = experiment.task
    shapes = spec.shapes or graph.build(experiment.model, "model").shapes
    return task_class(spec).open(spec, experiment.run, shapes, data)
