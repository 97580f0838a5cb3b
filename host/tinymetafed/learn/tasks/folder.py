"""The task ``folder``: clients from the user's CSV and NPZ files; the host streams their samples."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import Experiment, FolderTask, RunSpec, TaskShapes

from .. import prng
from . import HELD_OUT, DataError, Floats, Samples, Task, is_held_out
from .adaptation_record import AdaptationRecord, samples_sha256

if TYPE_CHECKING:
    from .own_data.folder_content import Reading

MOST_NAMES = 100  # columns that a line about the features names
TEST_ROWS = 100  # largest number of test samples of a client


@dataclass(frozen=True, slots=True)
class Client:
    """A client's samples.

    Attributes:
        name: The client.
        inputs: float32 [samples, *input_shape].
        targets: float32 [samples, target_size].
        origin: The files of the samples, in this order, and the number of samples of each.
    """

    name: str
    inputs: Floats
    targets: Floats
    origin: tuple[tuple[Path, int], ...] = ()


class Folder(Task):
    """A task of one client per file; training client i is the i-th file, by name, that is not held out.

    Held-out client t is the held-out file number t modulo their count; every t splits its rows in another way. The last of
    these files are for validation: those that ``task.validation`` takes from training, otherwise a third of three or more.

    Rows are shuffled for every client and round. Samples are drawn from the classes in turn, 0, 1, …, until a class has no rows
    left.
    """

    spec: FolderTask

    def __init__(
        self,
        spec: FolderTask,
        shapes: TaskShapes,
        seed: int,
        trained: Sequence[Client],
        unseen: Sequence[Client],
        clients: int | None = None,
    ) -> None:
        """Takes the rows that have been read.

        Args:
            spec: The experiment's [task].
            shapes: Shapes and loss of the model.
            seed: ``run.seed``.
            trained: Training clients; empty if boards make their own samples.
            unseen: Held-out clients.
            clients: Number of training clients if boards make their own samples; None for the number of ``trained``.
        """
        super().__init__(spec, shapes, seed, len(trained) if clients is None else clients)
        self.trained = trained
        self.unseen = unseen
        self.unseen_clients = len(unseen)
        self.data_sha256 = _digest((*trained, *unseen))
        self.sends_bytes = spec.bytes_per_input == 1
        self.scale = 1.0  # the input value of level 1, if inputs are sent as bytes

    @classmethod
    def open(cls, spec: FolderTask, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Reads the folder. Raises DataError, which names the file, row and column at fault."""
        path = data or Path(spec.path)
        return cls.from_files(path, spec, shapes, run.seed, run.clients)

    @classmethod
    def open_to_score(
        cls, spec: FolderTask, run: RunSpec, shapes: TaskShapes, data: Path | None, class_names: Sequence[str]
    ) -> Self:
        """Reads a folder to score a trained model on it: every client is unseen, and classes keep their indices.

        Args:
            spec: The experiment's [task].
            run: Its [run].
            shapes: Shapes and loss of the model.
            data: The folder; None for that of the experiment.
            class_names: The names of the classes that the model was trained with; () for values.

        Raises:
            DataError: A file cannot be used, or has a class that the model does not know.
        """
        from .own_data.reading import read_folder  # imported here because other tasks start sooner without it

        reading = read_folder(data or Path(spec.path), spec, shapes, run.seed, class_names)
        task = cls.of_reading(reading, spec, shapes, run.seed, None)
        task.class_names, task.validation_clients = class_names, 0
        return task

    @classmethod
    def from_files(cls, path: Path, spec: FolderTask, shapes: TaskShapes, seed: int, clients: int | None) -> Self:
        """Reads and checks every file of a folder.

        Args:
            path: The folder.
            spec: The experiment's [task].
            shapes: Shapes and loss of the model.
            seed: ``run.seed``.
            clients: ``run.clients``, the number of training clients if ``task.source`` makes their samples.

        Raises:
            DataError: A file cannot be used; the message names the file, row and column at fault, and the remedy.
        """
        from .own_data.reading import read_folder  # imported here because other tasks start sooner without it

        return cls.of_reading(read_folder(path, spec, shapes, seed), spec, shapes, seed, clients)

    @classmethod
    def of_reading(cls, reading: Reading, spec: FolderTask, shapes: TaskShapes, seed: int, clients: int | None) -> Self:
        """The task of a folder that has been read; arguments as for ``from_files``. Raises DataError for its first problem."""
        reading.require()
        read = [(each.is_held_out, Client(each.name, each.inputs, each.targets, each.origin)) for each in reading.clients]
        trained = [client for is_held_out, client in read if not is_held_out and spec.source is None]
        unseen = [client for is_held_out, client in read if is_held_out]
        unseen.sort(key=lambda client: client.name in reading.validation)  # stable: those for validation come last
        task = cls(spec, shapes, seed, trained, unseen, None if spec.source is None else clients or 0)
        task.names_to_hold_out = () if spec.source else [client.name for client in reading.clients]
        if spec.validation is not None:
            task.validation_clients = len(reading.validation)
        task.notes = (*reading.notes, *reading.warnings)
        task.scale = reading.scale
        task.sends_bytes |= spec.dtype is None and reading.media is not None
        task.column_names = next((each.table.names for each in reading.recordings if each.table.names), ())
        task.feature_note = _feature_note(reading, spec, shapes)
        if reading.classes is not None:
            names = {number: label for label, number in reversed([*reading.classes.items()])}
            task.class_names = tuple(names.get(i, str(i)) for i in range(max(2, shapes.outputs)))
        return task

    def on_device(self, sample_set: SampleSet) -> bool:
        """With ``task.source`` the board makes support and query set; held-out clients adapt to the rows of their files."""
        return self.spec.source is not None and sample_set in (SampleSet.SUPPORT, SampleSet.QUERY)

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """Rows in the shuffled order of the round: the first for SUPPORT, the next for QUERY. ADAPT has a separate order.

        Raises ValueError for more samples than the experiment sets, and for TEST (see ``test_samples``).
        """
        if sample_set is SampleSet.TEST or count > self.spec.count(sample_set):
            raise ValueError(f"{count} {sample_set.name} samples; the experiment sets fewer")
        if sample_set is SampleSet.ADAPT:
            return self._rows(client, round, Stream.ADAPT, 0, count)
        return self._rows(client, round, Stream.SUPPORT, 0 if sample_set is SampleSet.SUPPORT else self.spec.support, count)

    def test_samples(self, client: int, round: int) -> Samples:
        """Up to 100 rows after the first ``task.adapt`` rows of the adaptation's order."""
        return self._rows(client, round, Stream.ADAPT, self.spec.adapt, TEST_ROWS)

    def training_inputs(self) -> Iterator[Floats]:
        """All samples of each training client."""
        return (client.inputs for client in self.trained)

    def inputs_by_origin(self) -> Iterator[tuple[str, Floats]]:
        """All samples of each file, of training clients and of held-out ones."""
        for client in (*self.trained, *self.unseen):
            start = 0
            for file, count in client.origin:
                yield str(file), client.inputs[start : start + count]
                start += count

    def samples_to_score(self, client: int, adapted: int) -> Samples:
        """All rows after the first ``adapted`` rows of the adaptation's order."""
        return self._rows(client, 0, Stream.ADAPT, adapted, len(self._client(client).inputs))

    def samples_not_adapted_with(self, client: int, record: AdaptationRecord | None) -> Samples | None:
        """All rows but those of the record; None if the client's rows are not those of the record."""
        if record is None:
            return None
        rows = len(self._client(client).inputs)
        adapted = self._rows(client, 0, Stream.ADAPT, 0, record.samples, record.number)
        if samples_sha256(adapted) != record.sha256:
            return None
        return self._rows(client, 0, Stream.ADAPT, record.samples, rows, record.number)

    def trained_with(self, client: int, other: Task) -> bool:
        """Whether a training client of ``other`` has the same samples, whatever the name of its file."""
        own = self._client(client)
        return isinstance(other, Folder) and any(
            np.array_equal(own.inputs, each.inputs) and np.array_equal(own.targets, each.targets) for each in other.trained
        )

    def units(self, client: int) -> Sequence[str]:
        """The client's name: splits of its rows are no independent tests."""
        return (self._client(client).name,)

    def describe(self, client: int) -> str:
        """The file's name without its suffix; for a held-out client also the number of the split."""
        split = f", split {(client - HELD_OUT) // len(self.unseen) + 1}" if is_held_out(client) else ""
        return self._client(client).name + split

    def client_name(self, client: int) -> str:
        """The file's name without its suffix; of a held-out client's later splits with their number."""
        split = (client - HELD_OUT) // len(self.unseen) + 1 if is_held_out(client) else 1
        return self._client(client).name + (f"-split-{split}" if split > 1 else "")

    def find(self, name: str) -> int:
        """The number of a client by the name of its file, held out or not. Raises DataError."""
        names = {own.name: i for i, own in enumerate(self.trained)}
        names |= {own.name: HELD_OUT + i for i, own in enumerate(self.unseen)}
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise DataError(
                f"client '{name}': no such client in these data; "
                + (f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(sorted(names))}")
            )
        if len(self._client(names[name]).inputs) <= self.spec.adapt:
            raise DataError(
                f"client '{name}': too few samples to adapt with {self.spec.adapt} and be tested on others; adapt with fewer "
                "(task.adapt, or --samples of `tinymetafed adapt`)"
            )
        return names[name]

    def _client(self, client: int) -> Client:
        return self.unseen[(client - HELD_OUT) % len(self.unseen)] if is_held_out(client) else self.trained[client]

    def _rows(self, client: int, round: int, stream: Stream, start: int, count: int, shuffled_as: int | None = None) -> Samples:
        """Some of a client's rows, in the order of the client ``shuffled_as``; None for the order of the client itself."""
        own = self._client(client)
        number = client if shuffled_as is None else shuffled_as
        order = prng.permutation(self.seed, number, round, stream, len(own.inputs))
        if self.shapes.is_classification:
            classes = own.targets[order, 0]
            turn = np.zeros(len(order), np.int64)
            for each in np.unique(classes):
                turn[classes == each] = np.arange(np.count_nonzero(classes == each))
            order = order[np.lexsort((classes, turn))]
        chosen = order[start : start + count]
        inputs, targets = own.inputs[chosen], own.targets[chosen]
        if not self.sends_bytes:
            return Samples(inputs, targets)
        return Samples.from_levels(np.rint(inputs / np.float32(self.scale)).astype(np.uint8), self.scale, targets)


def with_dtype(experiment: Experiment, data: Path | None) -> Experiment:
    """The experiment with ``task.dtype = "uint8"`` where it names no dtype and its folder has images or sounds.

    Args:
        experiment: The complete experiment.
        data: A folder in place of ``task.path``; None for that.
    """
    own = experiment.task.own_files
    if own is None or not own.lacks_dtype:
        return experiment
    from .own_data.media_files import find_media  # imported here because other tasks start sooner without it

    try:
        found = find_media(data or Path(own.path))
    except DataError:  # reading the data reports it
        found = None
    return experiment if found is None else experiment.model_copy(update={"task": experiment.task.sent_as("uint8")})


def _feature_note(reading: Reading, spec: FolderTask, shapes: TaskShapes) -> str:
    """One line about the numbers of a sample: what they are, and in which order."""
    size = math.prod(shapes.input)
    if reading.media == "images":
        return f"pixels / 255, from 0 to 1, row by row, in the shape {list(shapes.input)}"
    if reading.media == "sounds":
        return f"levels / 255 of a log-mel spectrogram, from 0 to 1, band by band, in the shape {list(shapes.input)}"
    columns = size // (spec.window or 1)
    names = next((each.table.names for each in reading.recordings if len(each.table.names) == columns), ())
    if names:
        rest = f", … {names[-1]}" if columns > MOST_NAMES else ""
        row = f"{', '.join(names[:MOST_NAMES])}{rest}"
    else:
        row = f"{columns} number{'s' * (columns != 1)} in the order of the data files"
    if spec.window is None:
        return row
    rate = f" at {spec.rate:g} Hz" if spec.rate else ""
    return f"{spec.window} rows over time{rate}, one after the other, the oldest first; in each row: {row}"


def _digest(clients: Sequence[Client]) -> str:
    """SHA-256 over names and samples, hexadecimal."""
    digest = hashlib.sha256()
    for client in clients:
        digest.update(f"{client.name} {client.inputs.shape}\n".encode())
        digest.update(np.ascontiguousarray(client.inputs).data)
        digest.update(np.ascontiguousarray(client.targets).data)
    return digest.hexdigest()
