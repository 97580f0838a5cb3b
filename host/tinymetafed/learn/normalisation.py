"""The numbers of ``[data] normalise``: measured in the samples of training clients, never in those of held-out clients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinymetafed_codegen.design import kernel_and_bias
from tinymetafed_codegen.spec import DataSpec, Experiment

from .tasks import DataError, Task

_LARGEST = 1e18  # its square is finite in float32
LARGE = 10.0  # inputs beyond it, in a column that is not normalised, are the likely cause of a training that diverges


@dataclass(frozen=True, slots=True)
class Channel:
    """The values of one channel, the last axis of the model's input, in all training samples; ``deviation`` of all of them."""

    name: str
    minimum: float
    maximum: float
    mean: float
    deviation: float

    @property
    def is_constant(self) -> bool:
        """Whether all its values are equal."""
        return self.minimum == self.maximum

    @property
    def span(self) -> str:
        """Its name and range, for messages."""
        return f"{self.name} spans {self.minimum:.6g} to {self.maximum:.6g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """The section [data] with its numbers, and notes on channels that have no scale of their own."""

    data: DataSpec
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnfitValue:
    """A value of a sample that the model cannot compute with.

    Attributes:
        file: Its file; "" if it is in none.
        what: What is wrong; names the column.
        remedy: What to do.
    """

    file: str
    what: str
    remedy: str


def measure(experiment: Experiment, task: Task, source: str) -> Measured:
    """Measures the numbers of ``data.normalise``, or takes those of the experiment.

    Args:
        experiment: The complete experiment.
        task: Its task, with the data read.
        source: The experiment's name in errors.

    Returns:
        ``standard``: shift = mean, scale = 1 / standard deviation. ``range``: shift = minimum, scale = 1 / (maximum - minimum).
        A constant channel has the scale 1. ``running``: what the experiment has, as boards measure for themselves.

    Raises:
        DataError: There are no training samples to measure.
    """
    data, notes = experiment.data, tuple[str, ...]()
    if not data.is_normalised:
        return Measured(data, notes)
    if data.is_running:
        notes = (data.running_note,)
    if data.is_unmeasured:
        found = channels(task)
        if not found:
            raise DataError(
                f"{source}: data.normalise = '{data.normalise}': there are no training clients with samples to measure; give "
                "data.shift and data.scale, or set data.normalise = 'none'"
            )
        numbers = [_numbers(each, data.normalise == "standard") for each in found]
        update = {"shift": tuple(shift for shift, _ in numbers), "scale": tuple(scale for _, scale in numbers)}
        data = DataSpec.model_validate(data.model_dump() | update)
        notes = tuple(
            f"{each.name} is {each.minimum:.6g} in all samples of the training clients, so its scale is 1; leave it out if it "
            "carries no information"
            for each in found
            if each.is_constant
        )
    return Measured(data, notes)


def require_fit(data: DataSpec, task: Task, source: str) -> None:
    """Checks that the model can compute with all samples that are known.

    Args:
        data: The section [data], with numbers if it asks for any.
        task: The task, with the data read.
        source: The experiment's name in errors about samples that are in no file.

    Raises:
        DataError: A value is NaN, infinite or too large once it is normalised; the text names file and column.
    """
    for each in unfit_values(data, task):
        raise DataError(f"{each.file or source}: {each.what}; {each.remedy}")


def unfit_values(data: DataSpec, task: Task) -> Iterator[UnfitValue]:
    """Finds values that are NaN, infinite or too large once they are normalised in float32, as the model does it.

    Samples that are not normalised by numbers of the experiment are checked as they are, and only where they come from the
    user's files.

    Args:
        data: The section [data], with numbers if it asks for any.
        task: The task, with the data read.

    Yields:
        The first such value of each file.
    """
    known = None if data.shift is None or data.scale is None or data.is_running else (data.shift, data.scale)
    if known is None and task.spec.own_files is None:
        return
    kernel, bias = kernel_and_bias(*(known or ((0.0,), (1.0,))))
    for file, inputs in task.inputs_by_origin():
        with np.errstate(over="ignore", invalid="ignore"):
            normalised = inputs * kernel + bias
        for at in np.argwhere(~(np.abs(normalised) <= _LARGEST))[:1]:
            channel, value, given = int(at[-1]), inputs[tuple(at)], normalised[tuple(at)]
            became = "NaN or infinite" if not np.isfinite(given) else "too large to compute with"
            what, remedy = f"{channel_name(task, channel)} = {value:.6g} is {became}", "correct the value"
            if known is not None:
                shift, scale = known
                numbers = f"data.shift = {shift[channel]:.6g}, data.scale = {scale[channel]:.6g}"
                what, remedy = f"{what} once it is normalised ({numbers})", "correct the value, or the two numbers"
            yield UnfitValue(file, what, remedy)


def channels(task: Task) -> tuple[Channel, ...]:
    """The channels of all training samples; empty without samples."""
    parts = [part for part in task.training_inputs() if len(part)]
    if not parts:
        return ()
    count = parts[0].shape[-1]
    values = np.concatenate([part.reshape(-1, count) for part in parts]).astype(np.float64)
    return tuple(_channel(channel_name(task, i), values[:, i]) for i in range(count))


def channel_name(task: Task, channel: int) -> str:
    """What a message calls a channel: by the column's name where the data have one."""
    names, count = task.column_names, task.input_shape[-1]
    if names and count % len(names) == 0:
        row = f" of row {channel // len(names) + 1}" if count > len(names) else ""
        return f"'{names[channel % len(names)]}'{row}"
    return f"input {channel + 1}" if len(task.input_shape) == 1 else f"channel {channel + 1}"


def unscaled(experiment: Experiment, task: Task) -> str | None:
    """Says which column is far from the values that networks train on, if the input is not normalised; None if none is."""
    if experiment.data.is_normalised:
        return None
    found = channels(task)
    if not found:
        return None
    widest = max(found, key=lambda each: max(abs(each.minimum), abs(each.maximum)))
    if max(abs(widest.minimum), abs(widest.maximum)) <= LARGE:
        return None
    return f"{widest.span}, and the model gets it as it is; set data.normalise = 'standard'"


def _channel(name: str, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Channel:
    # fsum is exact, so neither the order of rows nor the machine changes a bit.
    mean = math.fsum(values.tolist()) / len(values)
    variance = math.fsum(((values - mean) ** 2).tolist()) / len(values)
    return Channel(name, float(values.min()), float(values.max()), mean, math.sqrt(variance))


def _numbers(channel: Channel, is_standard: bool) -> tuple[float, float]:
    """Shift and scale as the shortest decimals of float32."""
    if channel.is_constant:
        return _short(channel.minimum), 1.0
    shift, width = (channel.mean, channel.deviation) if is_standard else (channel.minimum, channel.maximum - channel.minimum)
    return _short(shift), _short(min(1 / max(width, 1e-30), 1e30))


def _short(value: float) -> float:
    return float(str(np.float32(value)))
