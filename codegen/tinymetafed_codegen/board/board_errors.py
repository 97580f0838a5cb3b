"""Errors and warnings about boards and their files."""

from __future__ import annotations

from ..errors import UsageError


class BoardError(UsageError):
    """The board is unknown or its file is unusable."""


class BoardWarning(UserWarning):
    """A board file of the project is ignored, or replaces the installed board of the same name."""
