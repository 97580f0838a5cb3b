"""Parts of the document that stand between marks, so that one of them can be written again by itself."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

from .. import SweepError


class Part(StrEnum):
    """A part of the document that has sweeps of its own."""

    RATES = "rates"
    MOVING = "moving"
    SIZE = "size"
    SHOTS = "shots"


def marked(part: Part, text: str) -> str:
    """The text of a part between its marks."""
    return f"<!-- part: {part} -->\n{text.rstrip()}\n<!-- end of part -->\n"


def replaced(document: Path, part: Part, text: str) -> str:
    """The document with another text of one part. Raises SweepError as ``check``."""
    before, after = _around(document, part)
    return before + marked(part, text) + after


def check(document: Path, part: Part) -> None:
    """Raises SweepError if there is no document, or it lacks the part."""
    _around(document, part)


def _around(document: Path, part: Part) -> tuple[str, str]:
    """What stands before and behind the part."""
    whole = f"write it as a whole first: tinymetafed paper -o {document.parent}"
    try:
        text = document.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SweepError(f"{document}: no such document to write the part '{part}' into; {whole}") from None
    found = re.search(rf"<!-- part: {part} -->\n.*?<!-- end of part -->\n", text, re.DOTALL)
    if found is None:
        raise SweepError(f"{document}: has no part '{part}'; {whole}")
    return text[: found.start()], text[found.end() :]
