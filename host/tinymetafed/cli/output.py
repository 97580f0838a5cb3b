"""Where commands write to: results to standard output, notes and errors to standard error."""

from __future__ import annotations

import codecs
import io
import sys

import tinymetafed as tmf

notes = tmf.Terminal(stderr=True)

# For streams of an encoding without these characters.
_SIMILAR = {"–": "-", "…": "...", "±": "+-", "µ": "u", "×": "x", "█": "#", "·": ".", "✓": "ok", "→": "->"}


def results() -> tmf.Terminal:
    """The terminal for results, which go to standard output."""
    return tmf.Terminal()


def write_in_any_encoding() -> None:
    """Lets standard output and error write similar characters or escapes for those that their encoding lacks."""
    codecs.register_error("tinymetafed.similar", _similar)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tinymetafed.similar")


def _similar(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SIMILAR.get(each, each.encode("ascii", "backslashreplace").decode()) for each in lacking), error.end
