"""Experiments of many runs: sweeps over options and seeds, and a reproduction of the papers' tables; their errors."""

from tinymetafed_codegen.errors import Error, UsageError


class SweepError(UsageError):
    """An invalid sweep file; the text names file, variant or key, and the remedy."""


class TuneError(UsageError):
    """A search that cannot be done as it was asked for; the text names file, key or option, and the remedy."""


class SweepFailed(Error):
    """A sweep cannot use its folder, or one of its runs failed; the text names folder or run, and the remedy."""
