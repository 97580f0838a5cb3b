"""Rules of the normalisation of a model's input over the keys of an experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ops.running_statistics import LARGEST_INPUT, LEAST_VARIANCE
from ..section import SpecError
from .data import DataSpec
from .experiment import Experiment


def check_data(experiment: Experiment, source: str) -> None:
    """Checks that the numbers of the normalisation are complete, fit the model's input, and can be known."""
    data, task, channels = experiment.data, experiment.task, experiment.model.input[-1]
    _check_running(data, source)
    given = {key: values for key, values in (("shift", data.shift), ("scale", data.scale)) if values is not None}
    if given and not data.is_normalised:
        raise SpecError(
            f"{source}: data.{next(iter(given))} is set, but data.normalise = 'none'; set data.normalise = 'standard' to use it"
        )
    if len(given) == 1:
        there, lacking = ("shift", "scale") if "shift" in given else ("scale", "shift")
        neither = "start from 0 and 1" if data.is_running else "measure them in the training data"
        raise SpecError(f"{source}: data.{there} without data.{lacking}; give both, or neither to {neither}")
    for key, values in given.items():
        if len(values) != channels:
            raise SpecError(
                f"{source}: data.{key} has {len(values)} number(s), expected {channels}: one per channel, the last axis of "
                f"model.input = {list(experiment.model.input)}"
            )
    for i, (shift, scale) in enumerate(zip(data.shift or (), data.scale or (), strict=True)):
        if abs(shift * scale) > 1e38:
            raise SpecError(
                f"{source}: data.shift[{i}] * data.scale[{i}] = {shift * scale:.3g} does not fit float32; correct one of them"
            )
    if data.is_unmeasured and task.own_source is not None:
        raise SpecError(
            f"{source}: data.normalise = '{data.normalise}' is measured in the files of training clients, but boards make "
            "their samples (task.source); give data.shift and data.scale, a number per channel, or set data.normalise = "
            "'running', with which each board measures its own, or 'none'"
        )


def _check_running(data: DataSpec, source: str) -> None:
    """Checks the keys of data.normalise = 'running', and that its start fits float32 as mean and variance."""
    for key, value in (("start_count", data.start_count), ("largest_count", data.largest_count)):
        if value is not None and not data.is_running:
            raise SpecError(
                f"{source}: data.{key} works only with data.normalise = 'running', not '{data.normalise}'; leave it out"
            )
    if data.start_count is not None and data.shift is None and data.scale is None:
        raise SpecError(
            f"{source}: data.start_count is the number of samples that data.shift and data.scale count as; give these, or "
            "leave it out"
        )
    if not data.is_running:
        return
    if data.counted_from > data.counted_to:
        raise SpecError(
            f"{source}: data.start_count = {data.counted_from} is above data.largest_count = {data.counted_to}; lower the "
            "first, or raise the second"
        )
    steepest = 1 / math.sqrt(LEAST_VARIANCE)
    _check_start("shift", data.shift, -LARGEST_INPUT, LARGEST_INPUT, source)
    _check_start("scale", data.scale, 1 / steepest, steepest, source)


def _check_start(key: str, values: Sequence[float] | None, least: float, most: float, source: str) -> None:
    for i, value in enumerate(values or ()):
        if not least <= value <= most:
            raise SpecError(
                f"{source}: data.{key}[{i}] = {value:g}: statistics of data.normalise = 'running' start from {least:g} to "
                f"{most:g}; correct it"
            )
