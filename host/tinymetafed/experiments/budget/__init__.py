"""Accuracy against RAM: a network of the papers' size, of which only the layers train that a budget of RAM allows."""

from .budget_page import OUTCOMES, write
from .budget_table import BudgetTable, Outcome, Plan, run_all

__all__ = ["OUTCOMES", "BudgetTable", "Outcome", "Plan", "run_all", "write"]
