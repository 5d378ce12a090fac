"""What a retry stage's options come to for one call: how long to wait, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from penstock.call import Call
from penstock.stages.retry.adapter import TenacityCallback, TenacityState, is_tenacity
from penstock.stages.retry.backoff import Backoff, Random, Waits
from penstock.stages.retry.machine import RetryRun, Stops
from penstock.stages.retry.options import RetryOptions

__all__ = ["Rules"]


class Rules:
    """Makes the ``RetryRun`` of a call.

    Args:
        options: What may be set.
        random: Where jitter comes from.
        asks_tenacity: True when ``retry_on`` needs a ``RetryCallState``.
    """

    __slots__ = ("_options", "_random", "_stops", "_waits", "needs_state")

    def __init__(self, options: RetryOptions, random: Random, *, asks_tenacity: bool) -> None:
        self._options = options
        self._random = random
        self._waits = _fixed_waits(options.wait)
        self._stops = _fixed_stops(options.stop)
        self.needs_state = (
            asks_tenacity
            or options.before_sleep is not None
            or is_tenacity(options.wait)
            or is_tenacity(options.stop)
        )

    def state_for(self, call: Call, began: float) -> TenacityState | None:
        """Return what tenacity's objects look at, or None where there are none."""
        if not self.needs_state:
            return None
        return TenacityState(call.fn, call.args, call.kwargs, began)

    def run_for(self, call: Call, began: float, theirs: TenacityState | None) -> RetryRun:
        """Return the run of one call, which has just failed for the first time."""
        options = self._options
        attempts, fewer = options.attempts, call.context.overrides.attempts
        if fewer is not None:
            attempts = fewer if attempts is None else min(attempts, fewer)
        return RetryRun(
            attempts,
            self._waits or self._waits_of_call(theirs),
            self._stops or self._stops_of_call(theirs),
            options.max_server_delay,
            began,
        )

    def _waits_of_call(self, theirs: TenacityState | None) -> Waits:
        wait = self._options.wait
        if theirs is None or isinstance(wait, Backoff):
            return cast("Backoff", wait).waits(self._random)
        callback, state = cast("TenacityCallback", wait), theirs.state
        return lambda _: callback(state)

    def _stops_of_call(self, theirs: TenacityState | None) -> Stops | None:
        if theirs is None or not is_tenacity(self._options.stop):
            return None
        callback = cast("TenacityCallback", self._options.stop)

        def stops(_attempt: int, _elapsed: float, delay: float) -> bool:
            theirs.plan(delay)
            return bool(callback(theirs.state))

        return stops


def _fixed_waits(wait: object) -> Waits | None:
    """Return the waits that are the same for every call; None where each has its own."""
    if isinstance(wait, int | float):
        return lambda _: wait
    if isinstance(wait, Backoff) or is_tenacity(wait):
        return None
    return cast("Waits", wait)


def _fixed_stops(stop: object) -> Stops | None:
    if stop is None or is_tenacity(stop):
        return None
    if isinstance(stop, int | float):
        return lambda _attempt, elapsed, delay: elapsed + delay >= stop
    own = cast("Callable[[int, float], bool]", stop)
    return lambda attempt, elapsed, _delay: bool(own(attempt, elapsed))
