"""Reproduces the papers' tables: runs sweeps and writes one document with published and measured figures."""

from .document import write

__all__ = ["write"]
