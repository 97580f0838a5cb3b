"""The base class of tasks: the samples of every client, and the score of a model on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import RunSpec, StatesFacts, TaskBase, TaskShapes
from tinymetafed_codegen.whole_numbers import whole_number

from .. import prng
from ..client_groups import ClientGroup, validation_share
from ..metric import Metric
from .samples import DataError, Floats, Samples

if TYPE_CHECKING:
    from .adaptation_record import AdaptationRecord

HELD_OUT = 1 << 20  # the first held-out client; held-out clients are never trained on
VALIDATION = HELD_OUT + 1_000_000_000  # the first validation client, where every number is a client
MEASURED_CLIENTS = 100  # training clients whose samples are measured for a normalisation, where samples are drawn
UNLIMITED = 1 << 16  # adapt_limit where every sample is a new draw; above the largest count of a phase
ANY_NUMBER = (1 << 32) - HELD_OUT  # unseen_clients where every number is a client with its own data


class Task(StatesFacts, ABC):
    """Base class of tasks: a client's samples are a pure function of (seed, client, round), so any device can run any client.

    Training clients are numbered from 0, held-out clients (for the meta-test) from HELD_OUT. Several threads may call
    ``samples`` at once. A user's own task defines ``facts``, ``samples`` and ``test_samples``, and ``read`` if it reads files.

    Attributes:
        spec: The experiment's [task]: numbers of samples, options.
        shapes: Input shape, number of outputs and loss that a model must have.
        options: ``task.options`` of a user's own task, an object of its ``options_class``.
        seed: ``run.seed``.
        clients: Number of training clients; 0 where every board is one client.
        unseen_clients: Number of held-out clients with data of their own; higher numbers are new splits of the same data.
        validation_clients: Number of the last of these that are for validation; None: a third, or, where every number is a
            client, those from VALIDATION on. 0: there are none.
        unit: What is independent of each other among unseen clients, as "speaker": an interval is over these, see ``units``.
        chooses: Whether the run chooses its weights by validation clients (``run.keep = "best"``).
        adapt_limit: Largest number of ADAPT samples, over all classes, that every held-out client has and that leaves its test
            samples unchanged. Default: the number that the experiment sets. With a larger limit, the meta-test after training
            also tries larger numbers.
        data_sha256: SHA-256 of data that the user may change, hexadecimal; "" where the data are fixed.
        class_names: The names of the classes, in the order of their indices, where a class means the same to every client;
            otherwise (), and results are not shown by class.
        names_to_hold_out: Names that ``task.held_out`` may have, of clients or speakers; () where the task takes none.
        code_sha256: SHA-256 of the Python file of a user's own task, hexadecimal; "" for a built-in task.
        column_names: Names of the features of a row of the user's data; empty where they have none.
        feature_note: One line about the numbers of a sample of the user's data and their order; "" where the task makes them.
        notes: What was decided by what the data look like, a line each, to be said once when a run begins.

    Source: clients as tasks with support and query sets, Ren et al., arXiv 2307.06822, Algorithm 1.
    """

    unseen_clients: int = ANY_NUMBER
    validation_clients: int | None = None
    unit: str = "client"
    chooses: bool = False
    data_sha256: str = ""
    code_sha256: str = ""
    names_to_hold_out: Sequence[str] = ()
    class_names: Sequence[str] = ()
    column_names: Sequence[str] = ()
    feature_note: str = ""
    notes: Sequence[str] = ()
    options: Any

    def __init__(self, spec: TaskBase, shapes: TaskShapes, seed: int, clients: int) -> None:
        self.spec = spec
        self.shapes = shapes
        self.seed = seed
        self.clients = clients
        self.adapt_limit = spec.count(SampleSet.ADAPT)

    @classmethod
    def open(cls, spec: Any, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Creates the task and reads its data.

        Args:
            spec: The experiment's [task], of the section class for this task.
            run: The experiment's [run], with the seed and the number of clients.
            shapes: The task's requirements for a model; the model's own shapes if the task takes any model.
            data: Path of the data; None for the path in the experiment or the default place.

        Returns:
            The task, ready to draw samples.

        Raises:
            DataError: The data are missing, damaged or too few.
        """
        task = cls(spec, shapes, run.seed, run.clients or 0)
        task.options = spec.options
        task.read(data)
        return task

    def read(self, data: Path | None) -> None:
        """Reads the data of a user's own task, once per run. The default reads nothing.

        Sets ``clients`` if ``facts`` has ``counts_clients``, and ``unseen_clients`` and ``adapt_limit`` if the data limit them.

        Args:
            data: The path from ``--data``, otherwise from ``task.path``; None if neither is set.

        Raises:
            DataError: The data cannot be used; the message names the file at fault and the remedy.
        """

    def data_files(self, data: Path | None) -> Sequence[Path]:
        """The data files of a user's own task; a run continues only if their SHA-256 is unchanged.

        Args:
            data: The same path as for ``read``.

        Returns:
            By default the file ``data``, or all files in the folder ``data`` and its subfolders; empty for None.
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
        """Number of outputs that the model must have."""
        return self.shapes.outputs

    @property
    def target_size(self) -> int:
        """Numbers in the target of one sample; 1 for a class index."""
        return self.shapes.target_size

    @property
    def metric(self) -> Metric:
        """The metric that scores a model."""
        return Metric.of(self.shapes.loss)

    def on_device(self, sample_set: SampleSet) -> bool:
        """Whether the board computes the samples of a set itself; otherwise the host streams them.

        Args:
            sample_set: The set.
        """
        return self.spec.sample_source != "streamed"

    @abstractmethod
    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """A client's samples of one set in one round; equal arguments return equal samples.

        Args:
            client: Number of the client.
            round: The round, from 0; 0 for the adaptation of a held-out client.
            sample_set: SUPPORT or QUERY for a training client, two disjoint sets; ADAPT for a held-out client.
            count: Number of samples, over all classes.

        Returns:
            The first ``count`` samples of the set: inputs float32 [count, *input_shape], targets float32 [count, target_size].

        Source: support and query set, Ren et al., arXiv 2307.06822, Algorithm 1.
        """

    @abstractmethod
    def test_samples(self, client: int, round: int) -> Samples:
        """The samples that a held-out client is scored on; disjoint from its ADAPT samples of the same round.

        Args:
            client: Number of the held-out client.
            round: The round, from 0.

        Returns:
            One or more samples: inputs float32 [any, *input_shape], targets float32 [any, target_size].
        """

    def training_inputs(self) -> Iterator[Floats]:
        """The inputs that normalisation is measured on: by default what training clients get in round 0, of the first 100.

        Yields:
            float32 [samples, *input_shape] of one training client.
        """
        for client in range(min(self.clients, MEASURED_CLIENTS)):
            for sample_set in (SampleSet.SUPPORT, SampleSet.QUERY):
                yield self.samples(client, 0, sample_set, self.spec.count(sample_set)).inputs

    def inputs_by_origin(self) -> Iterator[tuple[str, Floats]]:
        """The inputs that are checked before a model computes with them: by default those of ``training_inputs``.

        Yields:
            The file of some inputs, "" if they are in none; and these inputs, float32 [samples, *input_shape].
        """
        for inputs in self.training_inputs():
            yield "", inputs

    def describe(self, client: int) -> str:
        """One line about a client, for tables and reports.

        Args:
            client: Number of a training client or of a held-out client.
        """
        return f"held-out client {client - HELD_OUT}" if is_held_out(client) else f"client {client}"

    def units(self, client: int) -> Sequence[str]:
        """The independent units that a held-out client's test samples in round 0 are of: one for each, or one for all.

        Tasks that share a unit are no independent tests, however many there are. By default each client with data of its own
        is a unit.

        Args:
            client: Number of the held-out client.

        Returns:
            Names of units, each a ``unit``.
        """
        return (str((client - HELD_OUT) % self.unseen_clients),)

    def classes_of(self, client: int) -> Sequence[str]:
        """The names of a client's classes in the order of their indices; () where they have none."""
        del client  # only some tasks draw classes for each
        return self.class_names

    @classmethod
    def open_to_score(cls, spec: Any, run: RunSpec, shapes: TaskShapes, data: Path | None, class_names: Sequence[str]) -> Self:
        """Creates the task to score a trained model on data that may be others than those of its run.

        Args:
            spec: The experiment's [task].
            run: The experiment's [run].
            shapes: The task's requirements for a model.
            data: Path of the data; None for the path in the experiment or the default place.
            class_names: The names of the classes that the model was trained with; () where classes have none.

        Returns:
            The task; its held-out clients are those to score.

        Raises:
            DataError: The data cannot be used.
        """
        return cls.open(spec, run, shapes, data)

    def samples_to_score(self, client: int, adapted: int) -> Samples:
        """All samples of a held-out client that a model can be scored on; by default its test samples.

        Args:
            client: Number of the client.
            adapted: Number of its first ADAPT samples that the model was adapted with; they are left out.

        Returns:
            The samples.
        """
        return self.test_samples(client, 0)

    def samples_not_adapted_with(self, client: int, record: AdaptationRecord | None) -> Samples | None:
        """The samples of a client to score adapted weights on; by default its test samples, which no client adapts with.

        Args:
            client: Number of the client.
            record: The samples that the weights were adapted with; None if that is not known.

        Returns:
            All samples but those of the record; None if the client's data are not those of the record.
        """
        return self.test_samples(client, 0)

    def trained_with(self, client: int, other: Task) -> bool:
        """Whether the samples of a client are those of a training client of ``other``; by default they never are.

        Args:
            client: Number of a held-out client of this task.
            other: A task of the same class, on other or the same data.

        Returns:
            Whether a model that was trained with ``other`` has seen them.
        """
        return False

    def client_name(self, client: int) -> str:
        """A short name of a held-out client, for instance for a file; ``find`` takes it.

        Args:
            client: Number of a held-out client.
        """
        return str(client - HELD_OUT)

    def find(self, name: str) -> int:
        """The number of the client with this name; by default the name is that of a held-out client, counted from 0.

        Args:
            name: The name, as from ``client_name``.

        Raises:
            DataError: There is no such client.
        """
        number = whole_number(name)
        if number is None or number >= ANY_NUMBER:
            raise DataError(f"client '{name}': this task numbers its unseen clients; give a number from 0 on")
        return HELD_OUT + number

    @final
    @property
    def n_validation(self) -> int:
        """Number of validation clients; ANY_NUMBER where every number is a client."""
        if self.validation_clients is not None:
            return self.validation_clients
        return ANY_NUMBER if self.unseen_clients == ANY_NUMBER else validation_share(self.unseen_clients, self.chooses)

    @final
    def group_of(self, client: int) -> ClientGroup:
        """What a client is for.

        Args:
            client: Number of a training client or of a held-out client.
        """
        if not is_held_out(client):
            return ClientGroup.TRAINING
        if self.unseen_clients == ANY_NUMBER:
            is_for_validation = bool(self.n_validation) and client >= VALIDATION
        else:
            is_for_validation = (client - HELD_OUT) % self.unseen_clients >= self.unseen_clients - self.n_validation
        return ClientGroup.VALIDATION if is_for_validation else ClientGroup.TEST

    @final
    def uniform(self, client: int, round: int, stream: SampleSet | Stream, count: int) -> Floats:
        """Uniform random numbers that depend only on the seed and the arguments; equal on every machine.

        Args:
            client: Number of the client.
            round: The round; 0 for values that are constant over all rounds.
            stream: A sample set for its samples, ``Stream.CLIENT_TASK`` for a client's properties; streams are independent.
            count: Number of values.

        Returns:
            float32 [count] in [0, 1); a smaller count returns a prefix of a larger one.
        """
        words, _ = prng.draw(self.seed, client, round, Stream(stream), np.arange(count))
        return prng.uniform(words)

    @final
    def order(self, client: int, round: int, stream: SampleSet | Stream, count: int) -> NDArray[np.int64]:
        """A random permutation that depends only on the seed and the arguments; equal on every machine.

        Args:
            client: Number of the client.
            round: The round; 0 for an order that is constant over all rounds.
            stream: The random stream, as for ``uniform``.
            count: Length of the permutation.

        Returns:
            The numbers 0 to ``count`` - 1, int64 [count].
        """
        return prng.permutation(self.seed, client, round, Stream(stream), count)

    @final
    def score(self, outputs: Floats, test: Samples) -> float:
        """The metric of a model on test samples.

        Args:
            outputs: The model's outputs, float32 [count, output_size].
            test: The samples that belong to them.

        Returns:
            Accuracy from 0 to 1, or mean squared error in the square of the targets' unit.

        Raises:
            ValueError: ``outputs`` has another shape.
        """
        if outputs.shape != (len(test), self.output_size):
            raise ValueError(f"outputs have shape {outputs.shape}, expected ({len(test)}, {self.output_size})")
        return self.metric.score(outputs, test.targets)


def is_held_out(client: int) -> bool:
    """Whether a client is held out for the meta-test."""
    return client >= HELD_OUT
