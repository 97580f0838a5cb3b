"""What clients learn: where their samples come from and how a model is scored on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import SampleSet

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Metric = Literal["mse", "accuracy"]

HELD_OUT = 1 << 20  # clients from here on are meta-test clients: nothing of theirs is ever meta-trained on
UNLIMITED = 1 << 16  # samples, where each is a new draw; more than a device can be asked to train
ANY_NUMBER = (1 << 32) - HELD_OUT  # of unseen clients, where each number is one with data of its own


class DataError(Error):
    """A data set that cannot be used; the text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled samples in training order.

    ``inputs`` float32 [count, *input_shape], ``targets`` float32 [count, target_size] (a class: its index).
    Of byte data, ``levels`` uint8 [count, *input_shape] are the bytes: inputs == levels * float32(scale) exactly.
    """

    inputs: Floats
    targets: Floats
    levels: Bytes | None = None
    scale: float = 1.0

    @classmethod
    def from_levels(cls, levels: Bytes, scale: float, targets: Floats) -> Self:
        """Samples whose inputs are ``levels * float32(scale)``, the device's own arithmetic."""
        return cls(levels.astype(np.float32) * np.float32(scale), targets, levels, scale)

    def __len__(self) -> int:
        return len(self.inputs)


class Task(Protocol):
    """A family of client tasks, each a pure function of (seed, client, round), so any device may run any client."""

    @property
    def name(self) -> str:
        """The experiment file's ``task.kind``."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @property
    def output_size(self) -> int:
        """Outputs that the model must have."""

    @property
    def target_size(self) -> int:
        """Numbers per target: 1 for a class index."""

    @property
    def metric(self) -> Metric:
        """``mse`` (lower is better) or ``accuracy`` (a fraction, higher is better)."""

    @property
    def clients(self) -> int:
        """Clients to meta-train on, numbered from 0; 0 where every board is one."""

    @property
    def unseen_clients(self) -> int:
        """Held-out clients with data of their own; numbers beyond are new draws of the same data."""

    @property
    def data_sha256(self) -> str:
        """Of data that the user may change, hexadecimal; empty where they are always the same."""

    @property
    def per_class(self) -> bool:
        """Whether the experiment counts support, query and adapt by class; otherwise all samples together."""

    @property
    def adapt_limit(self) -> int:
        """ADAPT samples that every unseen client has, at most; its test samples stay the same up to there."""

    def on_device(self, sample_set: SampleSet) -> bool:
        """Whether the board makes a set's samples itself; otherwise the host streams them."""

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """A client's first ``count`` samples of one set in one round; support and query never share a sample."""

    def test_samples(self, client: int, round: int) -> Samples:
        """What the client is scored on; shares nothing with the ADAPT samples of the same round."""

    def score(self, outputs: Floats, test: Samples) -> float:
        """The metric in float64 over ``outputs`` [count, output_size]; a diverged model scores inf or 0, never well."""

    def describe(self, client: int) -> str:
        """The client's own task in one line."""


def is_held_out(client: int) -> bool:
    """Whether a client is for meta-testing."""
    return client >= HELD_OUT


def predicted(outputs: Floats) -> NDArray[np.int64]:
    """Classes [count] by the largest of each row's logits; a lone one's sigmoid tells 1 from 0, being above a half or not."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).astype(np.int64)
    largest: NDArray[np.int64] = outputs.argmax(axis=1)
    return largest


def accuracy(outputs: Floats, test: Samples, output_size: int) -> float:
    """Fraction of rows whose predicted class is the target; a row with NaN or infinity counts as wrong."""
    _check_outputs(outputs, test, output_size)
    right = (predicted(outputs) == test.targets[:, 0]) & np.isfinite(outputs).all(axis=1)
    return float(np.mean(right, dtype=np.float64))


def mean_squared_error(outputs: Floats, test: Samples) -> float:
    """Over all outputs; inf where the model diverged."""
    _check_outputs(outputs, test, test.targets.shape[1])
    error = float(np.mean((outputs.astype(np.float64) - test.targets) ** 2))
    return error if np.isfinite(error) else float("inf")


def _check_outputs(outputs: Floats, test: Samples, output_size: int) -> None:
    if outputs.shape != (len(test), output_size):
        raise ValueError(f"outputs have shape {outputs.shape}, expected ({len(test)}, {output_size})")
