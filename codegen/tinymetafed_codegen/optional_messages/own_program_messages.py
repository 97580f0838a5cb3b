"""Messages of firmware whose own program learns: how it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import F32, U16, U32
from ..messages.wire_record import Record, Request


@dataclass(frozen=True, slots=True)
class Inspection(Record):
    """How the board has done on the samples that its own program has learned."""

    learned: Annotated[U32, "samples learned since the start"]
    error: Annotated[F32, "recent error of the predictions before learning: the share of wrong labels, or the mean distance"]
    drifted: Annotated[U16, "1 if the error has grown since (Page-Hinkley test), else 0"]


@dataclass(frozen=True, slots=True)
class Inspect(Request):
    """Asks how the board has done."""

    type_id = 0x30
    answer = Inspection


OWN_PROGRAM_REQUESTS: tuple[type[Request], ...] = (Inspect,)  # known once the program has learned
