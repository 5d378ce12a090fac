"""Budget: how much load retries and hedges may add."""

from penstock.stages.budget.options import BudgetOptions
from penstock.stages.budget.stage import Budget

__all__ = ["Budget", "BudgetOptions"]
