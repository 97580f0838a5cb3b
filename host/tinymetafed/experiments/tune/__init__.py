"""Budgeted search: trials of one experiment with other values, scored by validation clients, and the best of them."""

from . import sampler, trial_table
from .search import Budget, Plan, finished, search
from .search_space import DEFAULT_KEYS, Objective, TuneFile, Value, default_file, read
from .trial_table import Row

__all__ = [
    "DEFAULT_KEYS",
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
