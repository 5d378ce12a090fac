"""How a breaker decides: four states, and generations that keep late results out of new states.

::

    closed ──too many failures──> open ──recover_after──> half_open ──probes succeed──> closed
                                    ^                         │
                                    └──────a probe fails──────┘
    any state ──isolate()──> isolated ──close() or reset()──> closed
"""

from __future__ import annotations

import math

from penstock.stages.breaker.admission import Admitted, Change, Rejected, State
from penstock.stages.breaker.options import (
    DEFAULT_FAILURES,
    DEFAULT_MAX_GROWTH,
    DEFAULT_MINIMUM_CALLS,
    DEFAULT_WINDOW_CALLS,
    BreakerOptions,
)
from penstock.stages.breaker.window import FAILED, SLOW, CallWindow, TimeWindow, Window
from penstock.verdict import BreakerEffect

__all__ = ["BreakerMachine"]

# ``now + (end - now)`` can fall short of ``end`` by a rounding error, of some nanoseconds once the
# machine has been up for months. A caller that waited for exactly its ``retry_after`` is let in.
_ROUNDING = 1e-6


class BreakerMachine:
    """A circuit: whether calls go through, by what became of those before.

    Every state is a generation, and every admission belongs to one. A result whose admission is of
    an older generation says nothing about the state that is on now, and is ignored.

    Attributes:
        state: Where the circuit stands.
        steady: The admission all calls share while the circuit is closed and calls are not timed;
            None makes the caller ask ``admit``.
        heeds_success: False while a success changes nothing and need not be recorded.
        times_calls: True where ``admit`` needs the time even while closed.
        times_results: True where ``record`` needs the time even for a success.
        failures: Failures in a row, while closed.
        probes_out: Probes under way, while half-open.
    """

    __slots__ = (
        "_max_failures",
        "_minimum_calls",
        "_next_open_for",
        "_open_for",
        "_opened_at",
        "_options",
        "_successes",
        "failures",
        "generation",
        "heeds_success",
        "probes_out",
        "state",
        "steady",
        "times_calls",
        "times_results",
        "window",
    )

    def __init__(self, options: BreakerOptions) -> None:
        self._options = options
        self.window = _window_of(options)
        default = DEFAULT_FAILURES if self.window is None else math.inf
        self._max_failures = default if options.failures is None else options.failures
        self._minimum_calls = options.minimum_calls or min(
            DEFAULT_MINIMUM_CALLS, options.window_calls or DEFAULT_WINDOW_CALLS
        )
        self.times_calls = options.slow_after is not None
        self.times_results = self.times_calls or options.window_seconds is not None
        self.generation = self.failures = self.probes_out = self._successes = 0
        self.heeds_success = False
        self.steady: Admitted | None = None
        self._opened_at = self._open_for = 0.0
        self._next_open_for = options.recover_after
        self._enter(State.CLOSED)

    def admit(self, now: float) -> Admitted | Rejected:
        """Let a call through or not; while half-open the call is a probe."""
        match self.state:
            case State.CLOSED:
                return Admitted(self.generation, now) if self.steady is None else self.steady
            case State.OPEN:
                return self._admit_first_probe(now)
            case State.HALF_OPEN:
                return self._admit_probe(now)
            case State.ISOLATED:
                return Rejected(None)

    def record(
        self,
        admission: Admitted,
        effect: BreakerEffect,
        now: float,
        duration: float | None = None,
    ) -> Change | None:
        """Take in what became of a call; return what it did to the circuit.

        Args:
            admission: What ``admit`` returned for the call.
            effect: NEUTRAL gives a probe back and counts nothing.
            now: Monotonic seconds; read only for failures and where ``times_results``.
            duration: Seconds the call took, infinity for one that timed out; None takes the
                time since it was admitted.
        """
        if admission.generation != self.generation:
            return None
        slow = self._is_slow(now - admission.began if duration is None else duration)
        # Open and isolated circuits admit nothing, so nothing of their generation comes back.
        if self.state is State.HALF_OPEN:
            return self._record_probe(effect, now, slow=slow)
        return self._record_closed(effect, now, slow=slow)

    def open(self, now: float, seconds: float | None = None) -> Change | None:
        """Open by hand for ``seconds``, else ``recover_after``; an open circuit starts over."""
        change = self._move(State.OPEN, "opened by hand")
        self._opened_at = now
        self._open_for = self._options.recover_after if seconds is None else seconds
        return change

    def isolate(self) -> Change | None:
        """Let nothing through until ``close`` or ``reset``."""
        return self._move(State.ISOLATED, "isolated by hand")

    def close(self) -> Change | None:
        """Close by hand; a closed circuit keeps its counts."""
        if self.state is State.CLOSED:
            return None
        return self._close("closed by hand")

    def reset(self) -> Change | None:
        """Close by hand and forget everything; also what calls under way will say."""
        return self._close("reset by hand")

    def forfeit(self) -> None:
        """Take back every probe: the loop in which they ran is gone."""
        self.generation += 1
        self.probes_out = 0
        if self.steady is not None:
            self.steady = Admitted(self.generation)

    def time_open(self, now: float) -> float:
        """Seconds until an open circuit lets a probe in; 0 when it is due."""
        left = min(self._opened_at, now) + self._open_for - now
        return left if left > _ROUNDING else 0.0

    def _admit_first_probe(self, now: float) -> Admitted | Rejected:
        # After a clock that went back the wait begins anew: at most the open time, never more.
        self._opened_at = min(self._opened_at, now)
        left = self.time_open(now)
        if left > 0:
            return Rejected(left)
        change = self._move(State.HALF_OPEN, "the open time is over")
        return self._admit_probe(now, change)

    def _admit_probe(self, now: float, change: Change | None = None) -> Admitted | Rejected:
        if self.probes_out >= self._options.probes:
            # Nobody knows how long a probe takes.
            return Rejected(None)
        self.probes_out += 1
        return Admitted(self.generation, now, change)

    def _is_slow(self, duration: float) -> bool:
        slow_after = self._options.slow_after
        return slow_after is not None and duration >= slow_after

    def _record_closed(self, effect: BreakerEffect, now: float, *, slow: bool) -> Change | None:
        if effect is BreakerEffect.NEUTRAL:
            return None
        failed = effect is BreakerEffect.FAILURE
        self.failures = self.failures + 1 if failed else 0
        if self.window is not None:
            self.window.add(FAILED * failed + SLOW * slow, now)
        else:
            self.heeds_success = failed
        # A good call never opens the circuit, even where it completes the minimum of calls.
        reason = self._why_open() if failed or slow else None
        return None if reason is None else self._open(now, reason)

    def _record_probe(self, effect: BreakerEffect, now: float, *, slow: bool) -> Change | None:
        self.probes_out -= 1
        if effect is BreakerEffect.NEUTRAL:
            return None
        # Closing on a slow probe would open the circuit again for being slow.
        if effect is BreakerEffect.FAILURE or slow:
            return self._open(now, "a probe failed" if not slow else "a probe was slow")
        self._successes += 1
        if self._successes < self._options.successes:
            return None
        return self._close(f"probes succeeded: {self._successes}")

    def _why_open(self) -> str | None:
        if self.failures >= self._max_failures:
            return f"{self.failures} failures in a row"
        window, options = self.window, self._options
        if window is None or window.calls < self._minimum_calls:
            return None
        # Dividing keeps 7 of 100 equal to 0.07; multiplying the ratio would not.
        if options.failure_ratio and window.failed / window.calls >= options.failure_ratio:
            return f"{window.failed} of {window.calls} calls failed"
        if options.slow_ratio and window.slow / window.calls >= options.slow_ratio:
            return f"{window.slow} of {window.calls} calls were slow"
        return None

    def _open(self, now: float, reason: str) -> Change | None:
        self._opened_at = now
        self._open_for = self._next_open_for
        limit = self._options.max_recover_after or DEFAULT_MAX_GROWTH * self._options.recover_after
        self._next_open_for = min(self._next_open_for * self._options.recover_growth, limit)
        return self._move(State.OPEN, reason)

    def _close(self, reason: str) -> Change | None:
        self._next_open_for = self._options.recover_after
        return self._move(State.CLOSED, reason)

    def _move(self, new: State, reason: str) -> Change | None:
        old = self.state
        self._enter(new)
        return None if new is old else Change(old, new, reason)

    def _enter(self, state: State) -> None:
        self.state = state
        self.generation += 1
        self.failures = self._successes = self.probes_out = 0
        if self.window is not None:
            self.window.clear()
        calm = state is State.CLOSED
        self.steady = Admitted(self.generation) if calm and not self.times_calls else None
        self.heeds_success = state is State.HALF_OPEN or (calm and self.window is not None)


def _window_of(options: BreakerOptions) -> Window | None:
    if options.failure_ratio is None and options.slow_ratio is None:
        return None
    if options.window_seconds is not None:
        return TimeWindow(options.window_seconds)
    return CallWindow(options.window_calls or DEFAULT_WINDOW_CALLS)
