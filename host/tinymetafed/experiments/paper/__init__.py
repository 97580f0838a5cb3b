"""Reproduces the papers' tables: runs sweeps and writes one document with published and measured figures."""

from .document import write
from .parts import Part

__all__ = ["Part", "write"]
