"""A user's own task, a class in a Python file: checks every value that it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, Self, TypeVar

import numpy as np

from tinymetafed_codegen import own_class
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import TARGETS, OwnTaskSpec, RunSpec, SpecError, TaskShapes

from . import ANY_NUMBER, HELD_OUT, DataError, Samples, Task

_Answer = TypeVar("_Answer")
MANY = 100_000  # checked number of held-out clients if the data do not limit it; a meta-test takes fewer
MOST_SHOTS = 32  # checked number of ADAPT samples, per class if the task counts per class


class TaskError(DataError):
    """A user's task fails or returns an invalid value; the message names the file and line and what was expected."""


class OwnTask(Task):
    """Wraps the task that ``kind = "FILE.py:CLASS"`` names and checks what it returns.

    An exception of the user's code becomes a TaskError with its file and line; a DataError is not changed.
    """

    spec: OwnTaskSpec

    def __init__(self, spec: OwnTaskSpec, shapes: TaskShapes, run: RunSpec, data: Path | None) -> None:
        super().__init__(spec, shapes, run.seed, run.clients or 0)
        self._class = _task_class(spec)
        self._own = self._asked("read()", lambda: self._class.open(spec, run, shapes, data))
        self.code_sha256 = own_class.code_sha256(self._class)
        self.data_sha256 = self._own.data_sha256 or self._digest(data)
        self.clients = self._number("clients", 1, HELD_OUT)
        self.unseen_clients = self._number("unseen_clients", 1, ANY_NUMBER)
        if self._own.validation_clients is not None:
            most = ANY_NUMBER if self.unseen_clients == ANY_NUMBER else self.unseen_clients - 1
            self.validation_clients = self._number("validation_clients", 0, most)
        self.adapt_limit = self._number("adapt_limit", spec.count(SampleSet.ADAPT), 1 << 32)
        self.class_names = self._class_names()
        self.unit = self._unit()
        self._scale: float | None = None  # scale of all byte samples; set by the first samples

    @classmethod
    def open(cls, spec: OwnTaskSpec, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Reads the task's data and checks samples of a few clients. Raises DataError; SpecError if the class is not a task."""
        path = data or (None if spec.path is None else Path(spec.path))
        if path is not None and not path.exists():
            raise DataError(f"{path}: no such file or folder; task.path or --data says where the task's data are")
        task = cls(spec, shapes, run, path)
        _try(task)
        return task

    def _class_names(self) -> tuple[str, ...]:
        """The user's names of the classes, checked; by default their numbers. Raises TaskError."""
        if not self.shapes.is_classification:
            return ()
        size, given = max(2, self.shapes.outputs), self._own.class_names
        if not given:
            return tuple(map(str, range(size)))
        if isinstance(given, str) or not all(isinstance(name, str) for name in given) or len(given) != size:
            self._refuse(f"class_names is {given!r}, expected {size} names (str)")
        return tuple(given)

    def _unit(self) -> str:
        """The user's name of an independent unit, checked. Raises TaskError."""
        given: object = self._own.unit
        if not isinstance(given, str) or not given.strip():
            self._refuse(f"unit is {given!r}, expected what is independent among unseen clients, in one word such as 'person'")
        return given

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """The user's samples, checked. Raises TaskError."""
        what = f"samples(client={client}, round={round}, sample_set={sample_set.name}, count={count})"
        given = self._asked(what, lambda: self._own.samples(client, round, sample_set, count))
        self._check(what, given, count)
        if self.spec.facts.per_class:
            share, found = count // self.spec.classes, np.bincount(given.targets[:, 0].astype(np.int64))
            if len(found) != self.spec.classes or (found != share).any():
                self._refuse(f"{what} gives {found.tolist()} samples by class, expected {share} of each (per_class = True)")
        return given

    def test_samples(self, client: int, round: int) -> Samples:
        """The user's samples, checked. Raises TaskError."""
        what = f"test_samples(client={client}, round={round})"
        given = self._asked(what, lambda: self._own.test_samples(client, round))
        self._check(what, given, None)
        return given

    def units(self, client: int) -> Sequence[str]:
        """The user's independent units, checked. Raises TaskError."""
        given: object = self._asked(f"units(client={client})", lambda: self._own.units(client))
        samples = len(self.test_samples(client, 0))
        if not isinstance(given, Sequence) or len(given) not in (1, samples) or not all(isinstance(n, str) for n in given):
            self._refuse(
                f"units(client={client}) gives {given!r}, expected names (str): one, or one for each of {samples} samples"
            )
        return given

    def describe(self, client: int) -> str:
        """The user's description, checked. Raises TaskError."""
        given: object = self._asked(f"describe(client={client})", lambda: self._own.describe(client))
        if not isinstance(given, str) or not given.strip() or "\n" in given:
            self._refuse(f"describe(client={client}) gives {given!r}, expected a line of text")
        return given

    def refuse_shared(self, these: str, first: Samples, those: str, second: Samples, why: str) -> None:
        """Raises TaskError if two sets that must be disjoint share a sample, unless the class sets ``may_repeat``."""
        if self.spec.facts.may_repeat:
            return
        if shared := len(_rows(first) & _rows(second)):
            self._refuse(
                f"{these} and {those} share {shared} sample(s); {why}. Draw disjoint sets, or, if equal samples can occur "
                "in the data, say may_repeat = True in facts()"
            )

    def refuse_changed(self, what: str, first: Samples, second: Samples) -> None:
        """Raises TaskError if two calls with equal arguments returned samples that are not bit-identical."""
        if not (np.array_equal(first.inputs, second.inputs) and np.array_equal(first.targets, second.targets)):
            self._refuse(
                f"{what} gives other samples when it is called again; the same call must return the same samples: draw with "
                "self.uniform() and self.order(), and keep no state in the object"
            )

    def _asked(self, what: str, call: Callable[[], _Answer]) -> _Answer:
        try:
            return call()
        except DataError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's code raises
            raise TaskError(own_class.explain_call(error, self._class, what)) from error

    def _refuse(self, why: str) -> NoReturn:
        raise TaskError(f"{own_class.place_of(self._class)}: {self._class.__name__}: {why}")

    def _number(self, name: str, least: int, most: int) -> int:
        value: object = self._asked(name, lambda: getattr(self._own, name))
        if not isinstance(value, int) or not least <= value <= most:
            self._refuse(f"{name} is {value!r}, expected a whole number from {least} to {most}; set it in read()")
        return value

    def _check(self, what: str, given: object, count: int | None) -> None:
        """Checks shapes, types and values of returned samples; ``count`` None allows any number of samples but 0."""
        if not isinstance(given, Samples):
            self._refuse(f"{what} gives {type(given).__name__}, expected tinymetafed.Samples")
        inputs, targets, facts = given.inputs, given.targets, self.spec.facts
        n = count
        if n is None:
            n = len(inputs) if isinstance(inputs, np.ndarray) and inputs.ndim else 1
            if n == 0:
                self._refuse(f"{what} gives no samples, expected at least one")
        self._check_array(what, "inputs", inputs, np.float32, (n, *self.input_shape))
        self._check_array(what, "targets", targets, np.float32, (n, self.target_size))
        if facts.bytes_per_input == 1:
            self._check_array(what, "levels", given.levels, np.uint8, (n, *self.input_shape))
            self._check_levels(what, given)
        elif given.levels is not None:
            self._refuse(f"{what} has levels, expected none; say bytes_per_input = 1 in facts() to send bytes")
        for name, array in (("inputs", inputs), ("targets", targets)):
            for at in np.argwhere(~np.isfinite(array))[:1]:
                self._refuse(f"{what}: {name}[{', '.join(map(str, at))}] is {array[tuple(at)]}, expected a finite number")
        if TARGETS[self.shapes.loss] != "values":
            most = max(self.output_size, 2) - 1
            for at in np.argwhere((targets < 0) | (targets > most) | (targets != np.floor(targets)))[:1]:
                where = ", ".join(map(str, at))
                self._refuse(f"{what}: targets[{where}] is {targets[tuple(at)]:g}, expected a class from 0 to {most}")

    def _check_array(self, what: str, name: str, array: object, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            remedy = ""
            if isinstance(array, np.ndarray) and array.shape == shape:
                remedy = f"; end with .astype(numpy.{dtype.__name__})"
            self._refuse(f"{what}: {name} are {found}, expected {dtype.__name__} {list(shape)}{remedy}")

    def _check_levels(self, what: str, given: Samples) -> None:
        scale, levels = given.scale, given.levels
        assert levels is not None
        if not (isinstance(scale, float) and 0 < scale < float("inf")):
            self._refuse(f"{what}: scale is {scale!r}, expected a float above 0")
        if self._scale is None:
            self._scale = scale
        if scale != self._scale:
            self._refuse(f"{what}: scale is {scale:g}, expected {self._scale:g} as in other samples; all share one")
        if not np.array_equal(given.inputs, levels.astype(np.float32) * np.float32(scale)):
            self._refuse(f"{what}: inputs are not levels times scale; make them with Samples.from_levels()")

    def _digest(self, data: Path | None) -> str:
        """SHA-256 over names and contents of the task's data files, hexadecimal; "" where there are none."""
        files: Sequence[Path] = [Path(file) for file in self._asked("data_files()", lambda: self._own.data_files(data))]
        if not files:
            return ""
        base = data if data is not None and data.is_dir() else Path()
        digest = hashlib.sha256()
        for file in files:
            try:
                content = file.read_bytes()
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror}); data_files() of the task names it") from None
            name = file.relative_to(base).as_posix() if file.is_relative_to(base) else file.name
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()


def _task_class(spec: OwnTaskSpec) -> type[Task]:
    """The user's class. Raises SpecError if it does not implement ``tinymetafed.Task``."""
    try:
        return own_class.require(spec.own_task, Task, "tinymetafed.Task")  # type: ignore[type-abstract]
    except own_class.OwnClassError as error:
        raise SpecError(f"task.kind = '{spec.kind}': {error}") from None


def _rows(samples: Samples) -> set[bytes]:
    """The set of samples, each as the bytes of its input and target."""
    return {x.tobytes() + y.tobytes() for x, y in zip(samples.inputs, samples.targets, strict=True)}


def _try(task: OwnTask) -> None:
    """Draws samples of a few clients and compares them. Raises TaskError for sets that overlap or samples that change.

    The training clients are the first, the last, and number HELD_OUT modulo the number of clients. A class that takes every
    number modulo the number of clients gives the last of these the data of the first held-out client.
    """
    spec = task.spec
    unseen, beyond = HELD_OUT, HELD_OUT + min(task.unseen_clients, MANY)

    def drawn(client: int, sample_set: SampleSet) -> Samples:
        return task.samples(client, 0, sample_set, spec.count(sample_set))

    drawn(beyond, SampleSet.ADAPT)
    task.test_samples(beyond, 0)
    most = min(task.adapt_limit // spec.classes, MOST_SHOTS) * spec.classes
    adapt = task.samples(unseen, 0, SampleSet.ADAPT, max(most, spec.count(SampleSet.ADAPT)))
    test = task.test_samples(unseen, 0)
    task.refuse_shared("ADAPT samples", adapt, "test samples", test, "a client is scored on samples that it has not adapted to")
    for client in sorted({0, HELD_OUT % task.clients, task.clients - 1}):
        support, query = drawn(client, SampleSet.SUPPORT), drawn(client, SampleSet.QUERY)
        task.refuse_shared(
            f"SUPPORT samples of client {client}",
            support,
            "its QUERY samples",
            query,
            "support and query set of a round must be disjoint",
        )
        for name, trained in (("SUPPORT", support), ("QUERY", query)):
            for other, held_out in (("ADAPT", adapt), ("test", test)):
                task.refuse_shared(
                    f"{name} samples of client {client}",
                    trained,
                    f"{other} samples of held-out client {unseen}",
                    held_out,
                    "data of held-out clients must not be trained on",
                )
        task.refuse_changed(f"samples(client={client}, round=0, sample_set=QUERY)", query, drawn(client, SampleSet.QUERY))
        task.refuse_changed(f"samples(client={client}, round=0, sample_set=SUPPORT)", support, drawn(client, SampleSet.SUPPORT))
        task.describe(client)
    task.refuse_changed(f"test_samples(client={unseen}, round=0)", test, task.test_samples(unseen, 0))
    again = task.samples(unseen, 0, SampleSet.ADAPT, len(adapt))
    task.refuse_changed(f"samples(client={unseen}, round=0, sample_set=ADAPT)", adapt, again)
    task.describe(unseen)
