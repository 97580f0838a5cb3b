"""Whole numbers in texts of users: the digits 0 to 9, and few enough to compute with."""

from __future__ import annotations

_MOST_DIGITS = 18


def whole_number(text: str) -> int | None:
    """A text's whole number; None for other text, also if ``int`` accepts it: signs, 1_000, digits of other scripts."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
