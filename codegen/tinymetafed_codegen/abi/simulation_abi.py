"""The interface (ABI) of the compiled simulation: all structs and functions, from which C++ and ctypes are made.

A field is declared as ``name: Annotated[type, kind, "explanation"]``. ``emit.simulation_abi_header`` renders the structs with
the sizes and offsets of ctypes, so that compilation fails if the compiler's layout differs. ``abi_hash`` recognises a library
that was built from another version of this table.
"""

from __future__ import annotations

import ctypes
import hashlib
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray


class AbiError(ValueError):
    """A value cannot be passed to the compiled simulation; the text names struct and field."""


class Kind(ABC):
    """The type of a field: in C++, in ctypes, and the conversion from Python."""

    @property
    @abstractmethod
    def cpp_type(self) -> str:
        """The C++ type."""

    @property
    @abstractmethod
    def c_type(self) -> Any:
        """The ctypes type."""

    @abstractmethod
    def convert(self, value: Any) -> Any:
        """The value for ctypes. Raises AbiError."""


@dataclass(frozen=True)
class Number(Kind):
    """A number; a whole number must be at least 0 and less than ``limit``."""

    scalar: str  # the C++ type
    number: Any  # the ctypes type
    limit: int | None = None

    @property
    def cpp_type(self) -> str:
        """The C++ type."""
        return self.scalar

    @property
    def c_type(self) -> Any:
        """The ctypes type."""
        return self.number

    def convert(self, value: Any) -> Any:
        """The number. Raises AbiError for a number beyond ``limit``, which ctypes would truncate."""
        if self.limit is not None and not 0 <= value < self.limit:
            raise AbiError(f"{value} does not fit {self.scalar}")
        return value


@dataclass(frozen=True)
class Array(Kind):
    """The address of a NumPy array, null for None and for an empty array; ``written``: the library writes into it."""

    element: str  # the C++ type of a number
    dtype: np.dtype[Any]
    written: bool = False

    @property
    def cpp_type(self) -> str:
        """A pointer, to const unless the library writes into the array."""
        return f"{self.element}*" if self.written else f"const {self.element}*"

    @property
    def c_type(self) -> Any:
        """An address."""
        return ctypes.c_void_p

    def convert(self, value: Any) -> int | None:
        """The address of the array. Raises AbiError for another dtype or memory layout."""
        if value is None:
            return None
        if value.dtype is self.dtype:  # the same address in a quarter of the time, which matters in short rounds
            try:
                return ctypes.addressof(_FIRST_BYTE(value))
            except (TypeError, ValueError):  # it is empty, not contiguous or not writeable
                pass
        if value.size == 0:
            return None
        if value.dtype != self.dtype or not value.flags.c_contiguous or (self.written and not value.flags.writeable):
            raise AbiError(f"an array of {value.dtype}; expected one of {self.dtype}, C-contiguous, and writeable if written")
        address: int = value.ctypes.data
        return address


_FIRST_BYTE = ctypes.c_char.from_buffer


@dataclass(frozen=True)
class Nested(Kind):
    """Another struct by value."""

    struct: type[Struct]

    @property
    def cpp_type(self) -> str:
        """The name of the struct."""
        return self.struct.__name__

    @property
    def c_type(self) -> Any:
        """The ctypes class of the struct."""
        return self.struct.c_type()

    def convert(self, value: Any) -> Any:
        """The struct for ctypes. Raises AbiError."""
        return value.to_c()


@dataclass(frozen=True)
class Several(Kind):
    """The address of an array of structs."""

    struct: type[Struct]

    @property
    def cpp_type(self) -> str:
        """A pointer to const."""
        return f"const {self.struct.__name__}*"

    @property
    def c_type(self) -> Any:
        """A ctypes pointer, which keeps the structs alive."""
        return ctypes.POINTER(self.struct.c_type())

    def convert(self, value: Any) -> Any:
        """The structs in a ctypes array. Raises AbiError."""
        return (self.struct.c_type() * len(value))(*(each.to_c() for each in value))


@dataclass(frozen=True)
class Field:
    """A field of a struct: its name, its type and a text that explains it."""

    name: str
    kind: Kind
    doc: str


class Struct:
    """A struct that the host fills and the library reads."""

    @classmethod
    @cache
    def fields(cls) -> tuple[Field, ...]:
        """The fields in the order of the declaration."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return tuple(Field(name, *hint.__metadata__) for name, hint in hints.items())

    @classmethod
    @cache
    def c_type(cls) -> type[ctypes.Structure]:
        """The ctypes class of the same layout."""
        layout = [(field.name, field.kind.c_type) for field in cls.fields()]
        return type(cls.__name__, (ctypes.Structure,), {"_fields_": layout})

    def to_c(self) -> ctypes.Structure:
        """The struct for ctypes, which does not keep the arrays alive. Raises AbiError, which names struct and field."""
        c_type, values_of, converters = self._converters()
        values = values_of(self)
        try:
            return c_type(*[convert(value) for convert, value in zip(converters, values, strict=True)])
        except AbiError:
            for field, value in zip(self.fields(), values, strict=True):
                try:
                    field.kind.convert(value)
                except AbiError as error:
                    raise AbiError(f"{type(self).__name__}.{field.name}: {error}") from None
            raise

    @classmethod
    @cache
    def _converters(cls) -> tuple[type[ctypes.Structure], Callable[[Any], tuple[Any, ...]], list[Callable[[Any], Any]]]:
        """The ctypes class, a function that reads all fields, and one per field that converts it; cached for speed."""
        fields = cls.fields()
        return cls.c_type(), attrgetter(*(field.name for field in fields)), [field.kind.convert for field in fields]


class Filled:
    """A struct for ctypes of which single fields are filled again, with the same checks: in short rounds, all take too long."""

    def __init__(self, struct: Struct, to: ctypes.Structure | None = None) -> None:
        """Fills a struct.

        Args:
            struct: The first values.
            to: The struct, which has them already; None for a new one.
        """
        self.to = struct.to_c() if to is None else to
        self._name = type(struct).__name__
        self._convert = {field.name: field.kind.convert for field in struct.fields()}

    def fill(self, **values: object) -> None:
        """Fills fields. Raises AbiError, which names struct and field."""
        for name, value in values.items():
            try:
                setattr(self.to, name, self._convert[name](value))
            except AbiError as error:
                raise AbiError(f"{self._name}.{name}: {error}") from None


U32 = Annotated[int, Number("uint32_t", ctypes.c_uint32, 1 << 32)]
F32 = Annotated[float, Number("float", ctypes.c_float)]
_BYTE, _WORD, _FLOAT = np.dtype(np.uint8), np.dtype(np.uint32), np.dtype(np.float32)
_READ_BYTES, _WRITTEN_BYTES = Array("uint8_t", _BYTE), Array("uint8_t", _BYTE, written=True)
_READ_WORDS, _WRITTEN_WORDS = Array("uint32_t", _WORD), Array("uint32_t", _WORD, written=True)
_READ_FLOATS, _WRITTEN_FLOATS = Array("float", _FLOAT), Array("float", _FLOAT, written=True)
_WRITTEN_INDICES = Array("int64_t", np.dtype(np.int64), written=True)

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint32]
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Samples(Struct):
    """Samples of all clients in client order; inputs are bytes or floats."""

    levels: Annotated[Bytes | None, _READ_BYTES, "[clients][rows][kInputSize], in units of `scale`; null: `inputs` has them"]
    inputs: Annotated[Floats | None, _READ_FLOATS, "[clients][rows][kInputSize]; null: `levels` has them"]
    targets: Annotated[Floats, _READ_FLOATS, "[clients][rows][kTargetSize]"]
    scale: Annotated[F32, "the value of a level of 1; not used for `inputs`"]
    passes_sent: Annotated[U32, "in how many passes of the phase they are sent to a board that does not make them"]


@dataclass(frozen=True)
class RunClients(Struct):
    """The clients of one run in a call, and the weights that they start from."""

    global_weights: Annotated[Floats, _READ_FLOATS, "[kGlobalCount], as every client of the run receives them"]
    client_count: Annotated[U32, "number of the run's clients"]
    seed: Annotated[U32, "as in Train"]
    round: Annotated[U32, "as in Train"]


@dataclass(frozen=True)
class Training(Struct):
    """What the clients train, on which samples and from which weights."""

    runs: Annotated[Sequence[RunClients], Several(RunClients), "the runs, in the order of their clients"]
    recipe: Annotated[Bytes, _READ_BYTES, "protocol::Recipe in its wire format: what each client trains and sends"]
    samples: Annotated[Sequence[Samples], Several(Samples), "one per phase of the recipe, with `count` rows of each client"]
    clients: Annotated[Words, _READ_WORDS, "[client_count], the number of each client as in Train"]
    client_count: Annotated[U32, "number of clients in this call, of all runs"]
    threads: Annotated[U32, "most threads to use"]
    lanes: Annotated[U32, "clients per vector: kLanes, or 1 for one client after the other"]
    local_weights: Annotated[
        Floats | None,
        _WRITTEN_FLOATS,
        "[client_count][kLocalCount], before training, overwritten with those after it; or null",
    ]
    statuses: Annotated[Bytes, _WRITTEN_BYTES, "[client_count], the Status of each client's training"]


@dataclass(frozen=True)
class Updates(Struct):
    """The updates of a round, and their size on the wire."""

    indices: Annotated[Indices, _WRITTEN_INDICES, "[clients][top_k]"]
    values: Annotated[Floats, _WRITTEN_FLOATS, "[clients][top_k], as the host decodes them"]
    residuals: Annotated[
        Floats | None,
        _WRITTEN_FLOATS,
        "[clients][kGlobalCount], changes not sent before the round, overwritten with those after it; or null",
    ]
    messages: Annotated[Words, _WRITTEN_WORDS, "[clients], number of messages of each update"]
    message_bytes: Annotated[Words, _WRITTEN_WORDS, "[clients], bytes of these messages on the wire"]
    sample_bytes: Annotated[
        Words | None, _WRITTEN_WORDS, "[clients], bytes of each client's samples on the wire; null: samples are not sent"
    ]
    total: Annotated[
        Floats | None,
        _WRITTEN_FLOATS,
        "[kGlobalCount], to which all updates are added in client order; null: they are not",
    ]


@dataclass(frozen=True)
class Evaluation(Struct):
    """Inputs of all clients, and the outputs before and after training."""

    samples: Annotated[Samples, Nested(Samples), "`rows` samples of each client; targets are not read"]
    rows: Annotated[U32, "number of samples of each client"]
    before: Annotated[Floats, _WRITTEN_FLOATS, "[clients][rows][kOutputSize]"]
    after: Annotated[Floats, _WRITTEN_FLOATS, "[clients][rows][kOutputSize]"]
    weights: Annotated[Floats | None, _WRITTEN_FLOATS, "[clients][kParameterCount], after training; null: not asked for"]
    start: Annotated[
        Floats | None, _READ_FLOATS, "[clients][kParameterCount], all weights before training; null: the start of a round"
    ]


@dataclass(frozen=True)
class OwnSamples(Struct):
    """Samples that boards make themselves."""

    clients: Annotated[Words, _READ_WORDS, "[client_count], the number of each client"]
    client_count: Annotated[U32, "number of clients"]
    seed: Annotated[U32, "as in Train"]
    round: Annotated[U32, "as in Train"]
    sample_set: Annotated[U32, "protocol::SampleSet"]
    rows: Annotated[U32, "number of samples of each client"]
    inputs: Annotated[Floats, _WRITTEN_FLOATS, "[client_count][rows][kInputSize]"]
    targets: Annotated[Floats, _WRITTEN_FLOATS, "[client_count][rows][kTargetSize]"]


@dataclass(frozen=True)
class LoadedLevels(Struct):
    """Weights that travel as levels, and what it takes to bring them to one board."""

    levels: Annotated[Bytes, _READ_BYTES, "[kGlobalCount], int8"]
    scales: Annotated[Floats, _READ_FLOATS, "that of each tensor"]
    sent: Annotated[Words, _WRITTEN_WORDS, "[2], to which the number of messages and their bytes on the wire are added"]


@dataclass(frozen=True)
class Function:
    """A function of the library; its arguments are passed by address."""

    name: str
    arguments: tuple[type[Struct], ...]
    doc: str


MAKE_SAMPLES = Function("make_samples", (OwnSamples,), "Makes the samples of clients as boards would, on one thread.")
TRAIN_ROUND = Function("train_round", (Training, Updates), "Trains every client for one round and encodes its update.")
ADAPT = Function("adapt", (Training, Evaluation), "Computes every client's outputs, trains it, and computes its outputs again.")
MEASURE_LOAD = Function("measure_load", (LoadedLevels,), "Counts the messages that bring levels; nothing for other weights.")
STRUCTS: tuple[type[Struct], ...] = (Samples, RunClients, Training, Updates, Evaluation, OwnSamples, LoadedLevels)
FUNCTIONS = (MAKE_SAMPLES, TRAIN_ROUND, ADAPT, MEASURE_LOAD)
HASH_SYMBOL = "simulation_abi_hash"  # the function of the library that returns its hash


def abi_hash(structs: Sequence[type[Struct]] = STRUCTS, functions: Sequence[Function] = FUNCTIONS) -> int:
    """64 bits of SHA-256 over names, types and order of all fields and arguments; explaining texts do not count."""
    parts = [f"{struct.__name__}.{field.name} {field.kind.cpp_type}" for struct in structs for field in struct.fields()]
    parts += [f"{each.name}({', '.join(argument.__name__ for argument in each.arguments)})" for each in functions]
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:8], "little")
