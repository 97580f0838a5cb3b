"""From the experiment's ``[task]`` to a task with its data, checked against the model."""

from __future__ import annotations

from pathlib import Path

from tinymetafed_codegen.graph import build
from tinymetafed_codegen.spec import Experiment, OmniglotTask, SineTask, SpecError

from . import DataError, Task
from .omniglot import Omniglot
from .sine import Sine


def open_task(experiment: Experiment, data: Path | None, source: str) -> Task:
    """Reads the task's data. Raises DataError (no or bad data) or SpecError (the model does not fit the task)."""
    task = _open(experiment, data)
    net = build(experiment.model, source)
    wanted = {
        "input": (list(task.input_shape), list(net.input.shape)),
        "outputs of the last layer": (task.output_size, net.output.size),
        "targets per sample": (task.target_size, net.target.size),
    }
    for what, (expected, given) in wanted.items():
        if expected != given:
            raise SpecError(f"{source}: task '{task.name}' needs {what} = {expected}, the model has {given}")
    if (task.metric == "accuracy") != net.loss.class_target:
        fitting = "softmax_cross_entropy" if task.metric == "accuracy" else "mse"
        raise SpecError(f"{source}: task '{task.name}' needs model.loss = '{fitting}', not '{experiment.model.loss}'")
    return task


def _open(experiment: Experiment, data: Path | None) -> Task:
    spec, seed = experiment.task, experiment.run.seed
    if isinstance(spec, SineTask):
        return Sine(seed)
    assert isinstance(spec, OmniglotTask)
    if data is None:
        raise DataError("task 'omniglot' reads the original archives: name their folder with --data PATH")
    return Omniglot(data, seed, spec.ways, spec.support, spec.query, spec.adapt)
