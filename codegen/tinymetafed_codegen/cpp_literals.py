"""Numbers as C++ text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def float_literal(value: float) -> str:
    """A C++ literal with the fewest digits that read back as the same float32."""
    text = str(np.float32(value))
    return f"{float(text)!r}f"


def hexadecimal_literal(value: float) -> str:
    """The nearest float32 as a hexadecimal C++ literal."""
    digits, exponent = float(np.float32(value)).hex().split("p")
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits}p{exponent}f"


def in_lines(numbers: Sequence[str], width: int) -> list[str]:
    """The lines of a list of numbers, ``width`` numbers in each."""
    return [", ".join(numbers[i : i + width]) + "," for i in range(0, len(numbers), width)]
