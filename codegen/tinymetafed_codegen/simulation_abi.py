"""What Python hands the compiled simulation: every struct and function once; C++ and ctypes are both made from this table.

A field is declared as ``name: Annotated[type, kind, "what it holds"]``. ``emit.simulation_abi_header`` renders the structs
with the sizes and offsets that ctypes has for them, so that a compiler that lays them out otherwise fails; ``abi_hash``
tells a library of another table before it is called.
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
    """A value that cannot be handed to the compiled simulation; the text names struct and field."""


class Kind(ABC):
    """How one field is declared in C++, laid out by ctypes and filled from its Python value."""

    @property
    @abstractmethod
    def cpp(self) -> str:
        """The C++ type."""

    @property
    @abstractmethod
    def c_type(self) -> Any:
        """The ctypes type."""

    @abstractmethod
    def convert(self, value: Any) -> Any:
        """The value as ctypes takes it. Raises AbiError."""


@dataclass(frozen=True)
class Number(Kind):
    """A number by value, of a whole one those from 0 to below ``limit``."""

    cpp_type: str
    number: Any  # of ctypes
    limit: int | None = None

    @property
    def cpp(self) -> str:
        """The C++ type."""
        return self.cpp_type

    @property
    def c_type(self) -> Any:
        """The ctypes type."""
        return self.number

    def convert(self, value: Any) -> Any:
        """The number; ctypes cuts off what does not fit, so that is refused here. Raises AbiError."""
        if self.limit is not None and not 0 <= value < self.limit:
            raise AbiError(f"{value} does not fit {self.cpp_type}")
        return value


@dataclass(frozen=True)
class Array(Kind):
    """The address of a NumPy array's first number, null for None and for an empty one; ``written``: the library writes it."""

    cpp_type: str
    dtype: np.dtype[Any]
    written: bool = False

    @property
    def cpp(self) -> str:
        """A pointer, to constants unless the library writes them."""
        return f"{self.cpp_type}*" if self.written else f"const {self.cpp_type}*"

    @property
    def c_type(self) -> Any:
        """An address."""
        return ctypes.c_void_p

    def convert(self, value: Any) -> int | None:
        """The address of an array that lies in memory as C++ reads it. Raises AbiError for any other."""
        if value is None or value.size == 0:
            return None
        if value.dtype != self.dtype or not value.flags.c_contiguous or (self.written and not value.flags.writeable):
            raise AbiError(f"an array of {value.dtype}; expected one of {self.dtype}, C-contiguous, and writeable if written")
        if value.flags.writeable:  # the same address in a quarter of the time; short rounds notice
            return ctypes.addressof(_FIRST_BYTE(value))
        address: int = value.ctypes.data
        return address


_FIRST_BYTE = ctypes.c_char.from_buffer


@dataclass(frozen=True)
class Nested(Kind):
    """Another struct by value."""

    struct: type[Struct]

    @property
    def cpp(self) -> str:
        """The struct's name."""
        return self.struct.__name__

    @property
    def c_type(self) -> Any:
        """The struct's ctypes class."""
        return self.struct.c_type()

    def convert(self, value: Any) -> Any:
        """The struct as ctypes has it. Raises AbiError."""
        return value.to_c()


@dataclass(frozen=True)
class Several(Kind):
    """The address of structs that lie one behind the other."""

    struct: type[Struct]

    @property
    def cpp(self) -> str:
        """A pointer to constants."""
        return f"const {self.struct.__name__}*"

    @property
    def c_type(self) -> Any:
        """A pointer of ctypes, which keeps the structs alive."""
        return ctypes.POINTER(self.struct.c_type())

    def convert(self, value: Any) -> Any:
        """The structs in an array of ctypes. Raises AbiError."""
        return (self.struct.c_type() * len(value))(*(each.to_c() for each in value))


@dataclass(frozen=True)
class Field:
    """A field of a struct: its kind, and in words what it holds."""

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
        """The values as C++ reads them; arrays must outlive it. Raises AbiError naming struct and field."""
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
        """The ctypes class, what reads all fields, and what converts each; looked up once, for every round needs them."""
        fields = cls.fields()
        return cls.c_type(), attrgetter(*(field.name for field in fields)), [field.kind.convert for field in fields]


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
    """Samples of all clients in client order, the inputs as bytes or as floats."""

    levels: Annotated[Bytes | None, _READ_BYTES, "[clients][rows][kInputSize], in units of `scale`; null: `inputs` has them"]
    inputs: Annotated[Floats | None, _READ_FLOATS, "[clients][rows][kInputSize]; null: `levels` has them"]
    targets: Annotated[Floats, _READ_FLOATS, "[clients][rows][kTargetSize]"]
    scale: Annotated[F32, "what a level of 1 stands for; not read for `inputs`"]


@dataclass(frozen=True)
class Training(Struct):
    """Which clients train what, from which weights."""

    global_weights: Annotated[Floats, _READ_FLOATS, "[kGlobalCount], as every client receives them"]
    recipe: Annotated[Bytes, _READ_BYTES, "protocol::Recipe as it travels: what each client trains and sends"]
    samples: Annotated[Sequence[Samples], Several(Samples), "of each phase of the recipe, `count` rows of each client"]
    clients: Annotated[Words, _READ_WORDS, "[client_count], each one's number as in Train"]
    client_count: Annotated[U32, "clients of this call"]
    seed: Annotated[U32, "as in Train"]
    round: Annotated[U32, "as in Train"]
    threads: Annotated[U32, "that share the clients, at most"]
    lanes: Annotated[U32, "kLanes, or 1: one client after the other"]
    local_weights: Annotated[
        Floats | None,
        _WRITTEN_FLOATS,
        "[client_count][kLocalCount], where each starts, then where it ended; or null",
    ]
    statuses: Annotated[Bytes, _WRITTEN_BYTES, "[client_count], the Status of each one's training"]


@dataclass(frozen=True)
class Updates(Struct):
    """A round's updates, and what they would take on a line."""

    indices: Annotated[Indices, _WRITTEN_INDICES, "[clients][top_k]"]
    values: Annotated[Floats, _WRITTEN_FLOATS, "[clients][top_k], as the host decodes them"]
    residuals: Annotated[
        Floats | None,
        _WRITTEN_FLOATS,
        "[clients][kGlobalCount], never sent before the round, then after it; or null",
    ]
    messages: Annotated[Words, _WRITTEN_WORDS, "[clients], of each update"]
    message_bytes: Annotated[Words, _WRITTEN_WORDS, "[clients], of these messages, framing included"]
    sample_bytes: Annotated[
        Words | None, _WRITTEN_WORDS, "[clients], of each one's samples as messages; null: samples do not travel"
    ]


@dataclass(frozen=True)
class Evaluation(Struct):
    """Inputs of all clients, and the outputs before and after training."""

    samples: Annotated[Samples, Nested(Samples), "`rows` of each client; targets are not read"]
    rows: Annotated[U32, "samples of a client"]
    before: Annotated[Floats, _WRITTEN_FLOATS, "[clients][rows][kOutputSize]"]
    after: Annotated[Floats, _WRITTEN_FLOATS, "[clients][rows][kOutputSize]"]


@dataclass(frozen=True)
class OwnSamples(Struct):
    """Samples that boards make themselves."""

    clients: Annotated[Words, _READ_WORDS, "[client_count], each one's number"]
    client_count: Annotated[U32, "clients"]
    seed: Annotated[U32, "as in Train"]
    round: Annotated[U32, "as in Train"]
    sample_set: Annotated[U32, "protocol::SampleSet"]
    rows: Annotated[U32, "samples of a client"]
    inputs: Annotated[Floats, _WRITTEN_FLOATS, "[client_count][rows][kInputSize]"]
    targets: Annotated[Floats, _WRITTEN_FLOATS, "[client_count][rows][kTargetSize]"]


@dataclass(frozen=True)
class Function:
    """A function of the library, which is handed its arguments by address."""

    name: str
    arguments: tuple[type[Struct], ...]
    doc: str


MAKE_SAMPLES = Function("make_samples", (OwnSamples,), "Makes clients' samples as boards would, on one thread.")
TRAIN_ROUND = Function("train_round", (Training, Updates), "One round of every client: train, and send the update.")
ADAPT = Function("adapt", (Training, Evaluation), "Every client's outputs, its training, and its outputs after it.")
STRUCTS: tuple[type[Struct], ...] = (Samples, Training, Updates, Evaluation, OwnSamples)
FUNCTIONS = (MAKE_SAMPLES, TRAIN_ROUND, ADAPT)
HASH_SYMBOL = "simulation_abi_hash"  # a function of the library that returns the hash it was built with


def abi_hash(structs: Sequence[type[Struct]] = STRUCTS, functions: Sequence[Function] = FUNCTIONS) -> int:
    """64 bits over the names, types and order of all fields and arguments; what is only said in words does not count."""
    parts = [f"{struct.__name__}.{field.name} {field.kind.cpp}" for struct in structs for field in struct.fields()]
    parts += [f"{each.name}({', '.join(argument.__name__ for argument in each.arguments)})" for each in functions]
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:8], "little")
