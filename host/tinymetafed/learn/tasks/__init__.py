"""What clients learn: where their samples come from and how a model is scored on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import RunSpec, StatesFacts, TaskBase, TaskShapes

from .. import prng
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


class Task(StatesFacts, ABC):
    """A family of client tasks, each a pure function of (seed, client, round), so any device may run any client.

    Clients to train on are numbered from 0, held-out clients from HELD_OUT. ``samples`` may be called from several threads at
    once. A task of a user's own defines ``facts``, ``samples`` and ``test_samples``, and ``read`` where it has data in files.

    Attributes:
        spec: The experiment's [task]: numbers of samples, options.
        shapes: What the task asks of a model.
        options: ``task.options`` of a user's own task, an object of its ``options_class``.
        seed: ``run.seed``.
        clients: How many clients to meta-train on; 0 where every board is one.
        unseen_clients: How many held-out clients have data of their own; numbers beyond are new draws of the same data.
        adapt_limit: ADAPT samples that every held-out client has, all classes together; its test samples stay the same up to
            there. At first what the experiment asks for; a task with more sets it, so that more are tried after training.
        data_sha256: SHA-256 of data that the user may change, hexadecimal; "" where they are always the same.
        code_sha256: SHA-256 of the Python file of a user's own task, hexadecimal; "" for ours.
    """

    unseen_clients: int = ANY_NUMBER
    data_sha256: str = ""
    code_sha256: str = ""
    options: Any

    def __init__(self, spec: TaskBase, shapes: TaskShapes, seed: int, clients: int) -> None:
        self.spec = spec
        self.shapes = shapes
        self.seed = seed
        self.clients = clients
        self.adapt_limit = spec.count(SampleSet.ADAPT)

    @classmethod
    def open(cls, spec: Any, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Makes the task and reads its data.

        Args:
            spec: The experiment's [task], of the class that belongs to this one.
            run: The experiment's [run]: the seed, how many clients.
            shapes: What the task asks of a model; of a task that takes any model, what this one has.
            data: Where the data are, None for where the experiment says or the usual place.

        Raises DataError.
        """
        task = cls(spec, shapes, run.seed, run.clients or 0)
        task.options = spec.options
        task.read(data)
        return task

    def read(self, data: Path | None) -> None:
        """Reads the data of a user's own task, once; without a definition there are none.

        It sets ``clients`` where ``facts`` say that the data count them, and ``unseen_clients`` and ``adapt_limit`` where the
        data limit them.

        Args:
            data: ``--data``, or else ``task.path``; None without either.

        Raises DataError, which names the file at fault and what to do.
        """

    def data_files(self, data: Path | None) -> Sequence[Path]:
        """The files that ``data_sha256`` of a user's own task covers; a run is continued only while they are the same.

        Args:
            data: As for ``read``.

        Returns:
            The file ``data``, or every file in the folder ``data`` and below; none without it.
        """
        if data is None or data.is_file():
            return [data] if data else []
        return sorted(path for path in data.rglob("*") if path.is_file())

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
        """A client's samples of one set in one round; the same call always gives the same ones.

        Args:
            client: Its number.
            round: The round, from 0; 0 where an unseen client adapts.
            sample_set: SUPPORT or QUERY, which share no sample, of a client to train on; ADAPT of a held-out client.
            count: How many, all classes together.

        Returns:
            The set's first ``count`` samples: inputs float32 [count, *input_shape], targets float32 [count, target_size].
        """

    @abstractmethod
    def test_samples(self, client: int, round: int) -> Samples:
        """What a client is scored on; shares nothing with the ADAPT samples of the same round.

        Args:
            client: The number of a held-out client.
            round: The round.

        Returns:
            Any number of samples, of shapes as in ``samples``.
        """

    def describe(self, client: int) -> str:
        """The client's own task in one line."""
        return f"held-out client {client - HELD_OUT}" if is_held_out(client) else f"client {client}"

    @final
    def uniform(self, client: int, round: int, stream: SampleSet | Stream, count: int) -> Floats:
        """Random numbers that depend on the seed and the arguments alone, and are the same on every machine.

        Args:
            client: The client whose numbers they are.
            round: The round; 0 for what stays the same over all rounds.
            stream: A sample set for its samples, ``Stream.CLIENT_TASK`` for what a client is like; others draw other numbers.
            count: How many.

        Returns:
            float32 [count], even in [0, 1); fewer are the first of more.
        """
        words, _ = prng.draw(self.seed, client, round, Stream(stream), np.arange(count))
        return prng.uniform(words)

    @final
    def order(self, client: int, round: int, stream: SampleSet | Stream, count: int) -> NDArray[np.int64]:
        """0 to ``count`` - 1 in an order that depends on the seed and the arguments alone, int64 [count]; see ``uniform``."""
        return prng.permutation(self.seed, client, round, Stream(stream), count)

    @final
    def score(self, outputs: Floats, test: Samples) -> float:
        """The metric over ``outputs`` float32 [count, output_size]. Raises ValueError for outputs of another shape."""
        if outputs.shape != (len(test), self.output_size):
            raise ValueError(f"outputs have shape {outputs.shape}, expected ({len(test)}, {self.output_size})")
        return self.metric.score(outputs, test.targets)


def is_held_out(client: int) -> bool:
    """Whether a client is for meta-testing."""
    return client >= HELD_OUT
