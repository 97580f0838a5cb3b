"""The papers' tables measured again: sweeps run, their figures beside the published ones, one document written."""

from .document import write

__all__ = ["write"]
