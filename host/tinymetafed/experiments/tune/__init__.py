"""Budgeted search: trials of one experiment with other values, scored by validation clients, and the best of them."""

from ..search_ranges import Value
from . import sampler, trial_table
from .search import Budget, Plan, finished, search
from .search_space import Objective, TuneFile, default_file, read
from .trial_table import Row

__all__ = [
    "Budget",
    "Objective",
    "Plan",
    "Row",
    "TuneFile",
    "Value",
    "default_file",
    "finished",
    "read",
    "sampler",
    "search",
    "trial_table",
]
