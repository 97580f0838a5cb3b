"""Sweeps over options and seeds: planned and checked first, then simulated on all cores, with one table of results."""

from . import curve_table, left_out_table, table
from .curve_table import Curve
from .execute import execute, is_sweep
from .finished_runs import difference, is_done
from .left_out_table import LeftOut, left_out
from .spread import Spread, score
from .sweep_file import Cell, Run, Sweep, load
from .table import Row, rows

__all__ = [
    "Cell",
    "Curve",
    "LeftOut",
    "Row",
    "Run",
    "Spread",
    "Sweep",
    "curve_table",
    "difference",
    "execute",
    "is_done",
    "is_sweep",
    "left_out",
    "left_out_table",
    "load",
    "rows",
    "score",
    "table",
]
