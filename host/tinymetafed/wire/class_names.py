"""The names of a board's classes as bytes of fixed length: UTF-8, a line each, then zeros."""

from __future__ import annotations

from collections.abc import Sequence


def encode(names: Sequence[str], size: int) -> bytes:
    """Packs names into ``size`` bytes.

    Args:
        names: The names in the order of the classes' indices; () for none. Where they do not fit, each is shortened to an
            equal share of the bytes. A line break in a name becomes a space.
        size: Bytes to fill.

    Returns:
        ``size`` bytes.
    """
    lines = [" ".join(name.split()).encode() for name in names]
    if lines and len(b"\n".join(lines)) > size:
        share = max(0, size // len(lines) - 1)
        lines = [line[:share].decode(errors="ignore").encode() for line in lines]
    return b"\n".join(lines)[:size].ljust(size, b"\0")


def decode(data: bytes) -> tuple[str, ...]:
    """The names in bytes of ``encode``; () if there are none."""
    text = data.rstrip(b"\0").decode(errors="replace")
    return tuple(text.split("\n")) if text else ()
