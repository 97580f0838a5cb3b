"""The terminal that commands write to: text of files and boards is shown as it is, and cannot control the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Control characters but tab and line feed; what changes the direction of text; halves of surrogate pairs (in file names).
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """``text`` with its control characters as escapes such as ``\\x1b``."""
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Terminal(Console):
    """A rich console on standard output or standard error that interprets neither markup nor control characters in text.

    Styles are given by rich's own objects, for instance ``Text("done", style="bold")``.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Turns something printable into segments; rich calls it for everything that is printed.

        Args:
            renderable: What is printed.
            options: Width and other properties of the terminal; None for its own.

        Yields:
            The segments as rich makes them, with visible text.
        """
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def write(self, text: object) -> None:
        """Writes one line, neither wrapped nor styled."""
        self.file.write(f"{visible(str(text))}\n")
        self.file.flush()
