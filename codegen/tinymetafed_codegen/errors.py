"""The base of every error that users of the toolchain see: the command line and the public API raise the same ones."""

from __future__ import annotations


class Error(Exception):
    """Something went wrong that a user can do something about; the text says what, where and what to do."""


class UsageError(Error):
    """What was asked for cannot be done as it was written: an unknown key, a missing file, a wrong option."""
