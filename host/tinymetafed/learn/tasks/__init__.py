"""What clients learn: where their samples come from and how a model is scored on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import RunSpec, TaskBase, TaskShapes

from ..metric import Metric

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

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


class Task(ABC):
    """A family of client tasks, each a pure function of (seed, client, round), so any device may run any client.

    What the experiment says of it, ``spec`` has, and ``shapes`` what it asks of a model. ``clients``: how many to meta-train
    on, numbered from 0; 0 where every board is one. ``unseen_clients``: held-out clients with data of their own; numbers
    beyond are new draws of the same data. ``adapt_limit``: ADAPT samples that every unseen client has, at most; its test
    samples stay the same up to there. ``data_sha256``: of data that the user may change, hexadecimal; "" where they are always
    the same.
    """

    unseen_clients: int = ANY_NUMBER
    adapt_limit: int = UNLIMITED
    data_sha256: str = ""

    def __init__(self, spec: TaskBase, shapes: TaskShapes, seed: int, clients: int) -> None:
        self.spec = spec
        self.shapes = shapes
        self.seed = seed
        self.clients = clients

    @classmethod
    @abstractmethod
    def open(cls, spec: Any, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Reads the task's data.

        Args:
            spec: The experiment's [task], of the class that belongs to this one.
            run: The experiment's [run]: the seed, how many clients.
            shapes: What the task asks of a model; of a task that takes any model, what this one has.
            data: Where the data are, None for where the experiment says or the usual place.

        Raises DataError.
        """

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.shapes.input

    @property
    def output_size(self) -> int:
        """Outputs that the model must have."""
        return self.shapes.outputs

    @property
    def target_size(self) -> int:
        """Numbers per target: 1 for a class index."""
        return self.shapes.target_size

    @property
    def metric(self) -> Metric:
        """What a model is scored by."""
        return Metric.of(self.shapes.loss)

    def on_device(self, sample_set: SampleSet) -> bool:
        """Whether the board makes a set's samples itself; otherwise the host streams them."""
        return self.spec.sample_source != "streamed"

    @abstractmethod
    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """A client's first ``count`` samples of one set in one round; support and query never share a sample."""

    @abstractmethod
    def test_samples(self, client: int, round: int) -> Samples:
        """What the client is scored on; shares nothing with the ADAPT samples of the same round."""

    @abstractmethod
    def describe(self, client: int) -> str:
        """The client's own task in one line."""

    def score(self, outputs: Floats, test: Samples) -> float:
        """The metric over ``outputs`` float32 [count, output_size]. Raises ValueError for outputs of another shape."""
        if outputs.shape != (len(test), self.output_size):
            raise ValueError(f"outputs have shape {outputs.shape}, expected ({len(test)}, {self.output_size})")
        return self.metric.score(outputs, test.targets)


def is_held_out(client: int) -> bool:
    """Whether a client is for meta-testing."""
    return client >= HELD_OUT
