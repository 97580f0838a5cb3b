"""The check of numbers that a caller gives, with one text for programs and the command line; quick to import."""

from __future__ import annotations

import math

from tinymetafed_codegen.errors import UsageError


def require(option: str, given: float | None, least: float, most: float = math.inf) -> None:
    """Raises UsageError if a number is out of range.

    Args:
        option: The command line's name of it, which the text begins with.
        given: The number; None where none is given.
        least: The smallest that is possible.
        most: The largest.
    """
    if given is None or least <= given <= most:
        return
    expected = f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:,}"
    written = f"{given:g}" if isinstance(given, float) else given
    raise UsageError(f"{option} {written}: expected {expected}")
