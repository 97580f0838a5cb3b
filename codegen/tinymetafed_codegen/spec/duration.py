"""Lengths of time as people write them in an experiment: a number and its unit, as in "90s"."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from .mistakes import READABLE

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h)")
LONGEST_SECONDS = 7 * 24 * 3600.0


def seconds_of(text: str) -> float:
    """The seconds of a length of time such as "500ms", "90s", "10min" or "1.5h". Raises ValueError if it is none."""
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a number and its unit, ms, s, min or h, for instance '90s'")
    seconds = float(match[1]) * _UNITS[match[2]]
    if not 0 < seconds <= LONGEST_SECONDS:
        raise ValueError("expected more than 0 and a week, '168h', at most")
    return seconds


def _checked(given: object) -> str:
    try:
        seconds_of(str(given))
    except ValueError as error:
        raise PydanticCustomError(READABLE, "{text}", {"text": f"'{given}': {error}"}) from None
    return str(given)


Duration = Annotated[str, BeforeValidator(_checked)]  # the text of the file, so that a run keeps it as it was written
