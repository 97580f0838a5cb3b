"""The Byzantine table: how much boards that lie cost, by attack and defence, in simulations of two examples."""

from .attacks import ATTACKS
from .byzantine_page import OUTCOMES, write
from .byzantine_table import TASKS, Outcome, Plan, run_all

__all__ = ["ATTACKS", "OUTCOMES", "TASKS", "Outcome", "Plan", "run_all", "write"]
