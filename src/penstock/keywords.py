"""What ``with_breaker`` takes by keyword, for type checkers; ``BreakerOptions`` explains each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypedDict

from penstock.matching import Which

__all__ = ["BreakerKeywords"]


class BreakerKeywords(TypedDict, total=False):
    """The options of the breaker stage that are not written out in ``with_breaker``."""

    failure_ratio: float
    slow_after: float | timedelta
    slow_ratio: float
    window_calls: int
    window_seconds: float | timedelta
    minimum_calls: int
    recover_growth: float
    max_recover_after: float | timedelta
    probes: int
    successes: int
    failure_on: Which
    on_state_change: Callable[[str, str], object]
    label: str
