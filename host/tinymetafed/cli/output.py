"""The console for notes and errors, which go to standard error; results go to standard output."""

from __future__ import annotations

from rich.console import Console

notes = Console(stderr=True)
