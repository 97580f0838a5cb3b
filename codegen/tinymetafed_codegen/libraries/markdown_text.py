"""Text of users and of files in a Markdown page: it is shown as it is, without HTML, links or other markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MARKUP = re.compile(r"[\\`*<>&]|\](?=[(\[:])")  # brackets make links with what follows them only
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown_text(text: str) -> str:
    """One line of Markdown that shows ``text``."""
    return _MARKUP.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), " ".join(text.split()))


def table_row(texts: Sequence[str]) -> str:
    """A row of a Markdown table that shows these texts."""
    return f"| {' | '.join(markdown_text(text).replace('|', '/') for text in texts)} |"
