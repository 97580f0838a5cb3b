"""Sweeps over options and seeds: planned and checked first, then simulated on all cores, with one table of results."""

from . import table
from .execute import difference, execute, is_done, is_sweep
from .sweep_file import Cell, Run, Sweep, load
from .table import Row, Spread, rows

__all__ = ["Cell", "Row", "Run", "Spread", "Sweep", "difference", "execute", "is_done", "is_sweep", "load", "rows", "table"]
