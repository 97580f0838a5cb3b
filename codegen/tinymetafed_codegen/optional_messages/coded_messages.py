"""Messages of firmware that codes the values of its updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import F32, U16, U32, Bounds, Code, Tail
from ..messages.wire_record import Record, Request
from ..protocol import Coding, WeightDtype, table_digest

VALUE_ESCAPE = 24  # number of one bits after which a magnitude follows without Rice code
FIRST_INDEX_BYTES = 3
VALUE_APART = 0x80  # in a Rice coding, beside its parameter: the least magnitude has a code of its own


class ValueCoding(Code):
    """How the values of an update are written; a magnitude above the least one of the update is a small number."""

    (RICE_0, RICE_1, RICE_2, RICE_3, RICE_4, RICE_5, RICE_6) = (
        (parameter, f"Rice codes of the magnitudes less the least one, parameter {parameter}; then signs")
        for parameter in range(7)
    )
    (APART_1, APART_2, APART_3, APART_4, APART_5, APART_6) = (
        (
            VALUE_APART | parameter,
            f"the same with parameter {parameter} for what is above the least magnitude; that is a zero bit",
        )
        for parameter in range(1, 7)
    )
    SIGNS = 254, "signs alone: all magnitudes are the least one"
    PACKED = 255, "each value as in `Delta`"


VALUE_RICE_CODINGS = tuple(coding for coding in ValueCoding if coding < ValueCoding.SIGNS)


@dataclass(frozen=True, slots=True)
class CodedDelta(Record):
    """Some of the selected entries of the delta, in the order of their indices, as `Delta` has them."""

    rank: Annotated[U32, "rank of the first entry, as in the request"]
    count: Annotated[U16, Bounds(least=1), "entries in this message"]
    indices: Annotated[Coding, "encoding of the indices"]
    values: Annotated[ValueCoding, "encoding of the values; the same in all messages of a delta"]
    dtype: Annotated[WeightDtype, "format of the values"]
    scale: Annotated[F32, Bounds(least=0), "a value in I8 is its number times this; the same for the whole delta"]
    data: Annotated[
        Tail,
        f"the first index in {FIRST_INDEX_BYTES} bytes; two strings of bits, LSB first, padded with zeros to a byte: gaps; "
        "the least magnitude, unless values are packed, and values",
    ]


@dataclass(frozen=True, slots=True)
class PullCoded(Request):
    """Asks for entries of the delta as `Pull` does; the answer has as many as fit."""

    type_id = 0x78
    answer = CodedDelta
    token: Annotated[U32, "the token of the cycle in progress"]
    rank: Annotated[U32, "rank of the first entry, counted from 0 in the order of the indices"]


CODED_REQUESTS: tuple[type[Request], ...] = (PullCoded,)
CODED_ENUMS: tuple[type[Code], ...] = (ValueCoding,)


def coded_schema_hash() -> bytes:
    """First 8 bytes of SHA-256, without texts, over the messages of firmware that codes the values of its updates."""
    return table_digest(CODED_ENUMS, CODED_REQUESTS, {"escape": VALUE_ESCAPE, "first": FIRST_INDEX_BYTES, "apart": VALUE_APART})
