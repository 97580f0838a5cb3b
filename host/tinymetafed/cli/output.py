"""The consoles of the command line: notes and errors go to standard error, results to standard output.

Text is shown as it is: brackets in the names of classes, clients and files are no markup, and colons no emoji.
"""

from __future__ import annotations

from rich.console import Console

notes = Console(stderr=True, markup=False, emoji=False)


def results() -> Console:
    """A console on standard output."""
    return Console(markup=False, emoji=False)
