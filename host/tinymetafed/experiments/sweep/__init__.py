"""Sweeps over options and seeds: planned and checked first, then simulated on all cores, with one table of results."""

from . import left_out_table, table
from .execute import difference, execute, is_done, is_sweep
from .left_out_table import LeftOut, left_out
from .sweep_file import Cell, Run, Sweep, load
from .table import Row, Spread, rows

__all__ = [
    "Cell",
    "LeftOut",
    "Row",
    "Run",
    "Spread",
    "Sweep",
    "difference",
    "execute",
    "is_done",
    "is_sweep",
    "left_out",
    "left_out_table",
    "load",
    "rows",
    "table",
]
