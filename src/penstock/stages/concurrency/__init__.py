"""Concurrency: how many calls may be under way at once."""

from penstock.stages.concurrency.options import ConcurrencyOptions
from penstock.stages.concurrency.stage import Concurrency

__all__ = ["Concurrency", "ConcurrencyOptions"]
