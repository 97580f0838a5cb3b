"""The base classes of all errors that users see, on the command line and in the public API."""

from __future__ import annotations


class Error(Exception):
    """An error that the user can mend; the text says what is wrong, where, and what to do."""


class UsageError(Error):
    """The request itself is wrong: an unknown key, a missing file, a wrong option."""
