"""Experiments over options and seeds: planned and checked whole, simulated on all cores, put into one table."""

from . import table
from .execute import execute
from .plan import Cell, Run, Sweep, SweepError, load
from .table import Row, rows

__all__ = ["Cell", "Row", "Run", "Sweep", "SweepError", "execute", "load", "rows", "table"]
