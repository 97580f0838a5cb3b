"""Sweeps over options and seeds: planned and checked first, then simulated on all cores, with one table of results."""

from . import table
from .execute import execute, is_sweep
from .sweep_file import Cell, Run, Sweep, load
from .table import Row, rows

__all__ = ["Cell", "Row", "Run", "Sweep", "execute", "is_sweep", "load", "rows", "table"]
