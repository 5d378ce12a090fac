"""What some methods take by keyword, for type checkers; the options classes explain each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from penstock.matching import Which

if TYPE_CHECKING:
    from penstock.call import Call

__all__ = ["BreakerKeywords", "PoolKeywords"]


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


class PoolKeywords(TypedDict, total=False):
    """The options of a pool, which ``rotating`` takes too where resources are given."""

    name: str
    pick: object
    cooldown: float | timedelta | Sequence[float | timedelta]
    max_cooldown: float | timedelta
    cancel_younger: bool
    probe_on_recovery: bool
    min_ready: int
    max_queue: int | None
    failure_penalty: float | timedelta
    group: Callable[[Any], str | None]
    dimension: str | Callable[[Call], Hashable]
    url: str | Callable[[Call], object]
    on_state_change: Callable[[Any], object]
