"""Breaker: stop calling what keeps failing, and find out when it is back."""

from penstock.stages.breaker.adapter import PybreakerStage
from penstock.stages.breaker.build import breaker_stage
from penstock.stages.breaker.driver import is_pybreaker
from penstock.stages.breaker.options import BreakerOptions
from penstock.stages.breaker.stage import Breaker

__all__ = ["Breaker", "BreakerOptions", "PybreakerStage", "breaker_stage", "is_pybreaker"]
