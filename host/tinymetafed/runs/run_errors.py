"""Errors of runs: those that cannot be written or read, and those of somebody else."""

from __future__ import annotations

from tinymetafed_codegen.errors import Error


class StoreError(Error):
    """A run that cannot be written or read; the text names the file, the fault and the remedy."""


class UntrustedError(StoreError):
    """A run brings code, boards or devices that this user has not used, or not so; the text names them and the remedy."""
