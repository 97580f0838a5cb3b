"""Messages of firmware that measures itself: its stack, supply voltage and flash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import U16, U32
from ..messages.wire_record import Record, Request


@dataclass(frozen=True, slots=True)
class Measurements(Record):
    """What the board has measured of itself since its start."""

    stack_bytes: Annotated[U32, "the deepest stack; 0: not known"]
    millivolts: Annotated[U16, "the supply voltage now; 0: not known"]
    programmed: Annotated[U32, "bytes written to the flash"]
    program_ticks: Annotated[U32, "time of these writes"]
    erased: Annotated[U32, "pages of the flash that were erased"]
    erase_ticks: Annotated[U32, "time of these erases"]


@dataclass(frozen=True, slots=True)
class Measure(Request):
    """Asks what the board has measured of itself."""

    type_id = 0x31
    answer = Measurements


MEASURE_REQUESTS: tuple[type[Request], ...] = (Measure,)
