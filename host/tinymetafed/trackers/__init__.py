"""Trackers: the rounds, keys and result of a run in the logs of other programs."""

from tinymetafed_codegen.errors import Error


class TrackerError(Error):
    """A tracker whose library is not installed, or a log that cannot be written; the text says what to do."""
