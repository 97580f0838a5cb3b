"""Where the commands write what is no result: notes and errors on standard error."""

from __future__ import annotations

from rich.console import Console

notes = Console(stderr=True)
