"""Facts of samples that change and of predictions that are means: what firmware has of [augment] and [predict]."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..protocol import SampleSet
from ..spec import Experiment

# Of the random numbers; no Stream of the wire table has this number, which is not sent.
STREAM = 32
# Standard deviation of the sum of four random bytes.
DEVIATION = math.sqrt(4 * (256**2 - 1) / 12)
# Code, measured for mps2: of moves and masks, of rotation, scale and jitter, and of averaging.
MOVING_FLASH_BYTES = 400
COMPUTING_FLASH_BYTES = 650
AVERAGING_FLASH_BYTES = 350
_ALIGNMENT = 16  # bytes


@dataclass(frozen=True)
class AugmentFacts:
    """The changes of an image, all at most: of rows and columns moved either way, and of those set to 0."""

    rows: int
    columns: int
    channels: int
    shift_rows: int
    shift_columns: int
    mask_rows: int
    mask_columns: int


@dataclass(frozen=True)
class AverageFacts:
    """Of how many inputs a prediction is the mean, and the places by which they are moved.

    ``edge``: the most values that a move takes out of the input.
    """

    views: int
    shift: int
    along_columns: bool
    rows: int
    columns: int
    channels: int
    edge: int

    def ram_bytes(self, outputs: int, *, bytes_per_input: int) -> int:
        """Bytes of RAM: of what a move takes out of the input, and of the sums; the arena behind them is aligned."""
        return -(-(bytes_per_input * self.edge + 4 * outputs) // _ALIGNMENT) * _ALIGNMENT


def _shape(experiment: Experiment) -> tuple[int, int, int]:
    """Rows, columns and channels of an image; 0 each of any other input."""
    shape = experiment.model.input
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (0, 0, 0)


def augment_facts(experiment: Experiment) -> AugmentFacts | None:
    """How samples change; None if they do not."""
    keys = experiment.augment
    if not keys.is_on:
        return None
    return AugmentFacts(
        *_shape(experiment),
        shift_rows=keys.shift,
        shift_columns=keys.shift or keys.time_shift,
        mask_rows=keys.frequency_mask,
        mask_columns=keys.time_mask,
    )


def average_facts(experiment: Experiment) -> AverageFacts | None:
    """Of which inputs a prediction is the mean; None if it is that of one."""
    keys = experiment.predict
    if not keys.averages:
        return None
    rows, columns, channels = _shape(experiment)
    along_columns = experiment.input_is_of_time
    farthest = keys.shift * (2 if along_columns and keys.average > 3 else 1)
    edge = channels * max(rows * farthest, 0 if along_columns or keys.average == 3 else columns * keys.shift)
    return AverageFacts(keys.average, keys.shift, along_columns, rows, columns, channels, edge)


def changes(experiment: Experiment, sample_set: SampleSet) -> bool:
    """Whether samples of this set change, so that nothing of them can be kept from pass to pass."""
    keys = experiment.augment
    return keys.is_on and (keys.adaptation if sample_set is SampleSet.ADAPT else keys.training)


def changed_sets(experiment: Experiment) -> tuple[str, ...]:
    """The names of the sets whose samples change, as in the manifest."""
    return tuple(each.name.lower() for each in SampleSet if changes(experiment, each))


def jitter(experiment: Experiment) -> tuple[float, ...]:
    """By channel, the factor of a random number of DEVIATION: in units of the normalised input. () without jitter."""
    keys, data = experiment.augment, experiment.data
    if not keys.jitter:
        return ()
    scales = data.scale if data.is_normalised and not data.is_running and data.scale else (1.0,)
    return tuple(keys.jitter / scale / DEVIATION for scale in scales)


def tangent(experiment: Experiment) -> float:
    """The tangent of half of the largest angle, which quaternions take."""
    return math.tan(math.radians(experiment.augment.rotation) / 2)


def description(experiment: Experiment) -> list[object] | None:
    """What the model's hash covers of both sections; None where they change nothing."""
    found: list[object] = []
    if experiment.augment.is_on:
        found.append(["augment", *sorted(experiment.augment.model_dump().items()), list(jitter(experiment))])
    if experiment.predict.averages:
        found.append(["predict", experiment.predict.average, experiment.predict.shift, experiment.input_is_of_time])
    return found or None


def flash_bytes(experiment: Experiment) -> int:
    """Bytes of code."""
    keys = experiment.augment
    moving = MOVING_FLASH_BYTES * (keys.is_on and keys.moves)
    computing = COMPUTING_FLASH_BYTES * (keys.is_on and keys.computes)
    return moving + computing + AVERAGING_FLASH_BYTES * experiment.predict.averages
