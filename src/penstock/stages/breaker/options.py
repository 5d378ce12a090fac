"""What can be set on a breaker stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from penstock.matching import Matching, Which
from penstock.options import Count, Name, Number, Options, Seconds

__all__ = [
    "DEFAULT_FAILURES",
    "DEFAULT_MAX_GROWTH",
    "DEFAULT_MINIMUM_CALLS",
    "DEFAULT_WINDOW_CALLS",
    "BreakerOptions",
]

# One lost packet or one restarted server costs a few calls in a row and is over by itself. Five are
# rare at any error rate worth living with: at 10 % errors they come once in some 100 000 calls.
DEFAULT_FAILURES = 5

# A hundred calls tell a failure ratio to within ten percentage points (two standard deviations at
# 50 %). A longer memory would keep the circuit closed for longer after a healthy morning.
DEFAULT_WINDOW_CALLS = 100

# Below ten calls one more failure moves the ratio by over ten points: that is noise, not a ratio.
# Above it a quiet service would send dozens of calls into an outage before anything is decided.
DEFAULT_MINIMUM_CALLS = 10

# Where the open time grows it has to stop, or a long outage is followed by hours of silence. Ten
# times the first open time is five minutes at the default 30 s: no service minds a probe in that.
DEFAULT_MAX_GROWTH = 10


_Share = Annotated[float, Number(maximum=1.0, exclusive=True)]
_Growth = Annotated[float, Number(minimum=1.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions(Options):
    """Options of the breaker stage.

    Attributes:
        failures: Failures in a row that open the circuit, from 1; None is 5, or no such limit where
            a ratio is set. Set together with a ratio, either opens it.
        failure_ratio: Share of failures in the window that opens the circuit, above 0, at most 1.
        slow_after: Seconds from which a call counts as slow; needs ``slow_ratio``.
        slow_ratio: Share of slow calls in the window that opens the circuit, above 0, at most 1.
        window_calls: The ratios look at this many last calls, from 1; None is 100 unless
            ``window_seconds`` is set.
        window_seconds: The ratios look at the calls of this many last seconds instead.
        minimum_calls: The ratios decide nothing before the window holds so many calls, from 1; None
            is 10, or ``window_calls`` where that is less.
        recover_after: Seconds the circuit stays open before the first probe is let in.
        recover_growth: Each probe that fails multiplies the open time by this, at least 1.
        max_recover_after: Seconds at which the growth ends; None is ten times ``recover_after``.
        probes: How many calls may be under way at once while half-open, from 1.
        successes: How many probes must succeed to close the circuit, from 1.
        failure_on: What counts as a failure: exception types, predicates (not async), verdict
            kinds, or several of them; the rest is neutral. None takes the breaker column of the
            verdict table.
        on_state_change: Called with the old and the new state's name after each change; may be
            async. Whatever it does changes nothing for the caller.
        label: The breaker's name in messages and events; None takes the policy's.
    """

    stage: ClassVar[str] = "breaker"

    failures: Count | None = None
    failure_ratio: _Share | None = None
    slow_after: Seconds | None = None
    slow_ratio: _Share | None = None
    window_calls: Count | None = None
    window_seconds: Seconds | None = None
    minimum_calls: Count | None = None
    # Long enough for a process to restart or a load balancer to notice. One probe in 30 s is no
    # load for anybody.
    recover_after: Seconds = 30.0
    # What the reader reads is what happens: open for 30 s, each time. One probe per open time needs
    # no back-off of its own; growth pays where a probe is expensive or many processes send theirs.
    recover_growth: _Growth = 1.0
    max_recover_after: Seconds | None = None
    # One call is risked to learn whether the service is back. A service that has just come up is
    # the one that stands a crowd the least.
    probes: Count = 1
    # A probe is a real call that really worked. Asking for more keeps healthy calls out for longer
    # and catches only what flaps, which opens the circuit again soon enough.
    successes: Count = 1
    failure_on: Annotated[Which, Matching(waits=False)] | None = None
    on_state_change: Callable[[str, str], object] | None = None
    label: Name | None = None

    def __post_init__(self) -> None:
        """Check every field, and the fields that depend on each other."""
        # Not ``super()``: ``slots=True`` makes a second class, which the bare form does not know.
        Options.__post_init__(self)
        self._check_slow()
        self._check_window()
        if self.max_recover_after is not None and self.max_recover_after < self.recover_after:
            allowed = f"at least 'recover_after' ({self.recover_after:g} s)"
            raise self.refuse("max_recover_after", self.max_recover_after, allowed)
        hook: object = self.on_state_change
        if hook is not None and not callable(hook):
            allowed = "a function that takes the old and the new state"
            raise self.refuse("on_state_change", hook, allowed)

    def _check_slow(self) -> None:
        if self.slow_after is not None and self.slow_ratio is None:
            raise self.refuse("slow_ratio", None, "set together with 'slow_after'")
        if self.slow_ratio is not None and self.slow_after is None:
            raise self.refuse("slow_after", None, "set together with 'slow_ratio'")

    def _check_window(self) -> None:
        if self.failure_ratio is None and self.slow_ratio is None:
            for name in ("window_calls", "window_seconds", "minimum_calls"):
                if getattr(self, name) is not None:
                    allowed = "left out, or used with 'failure_ratio' or 'slow_ratio'"
                    raise self.refuse(name, getattr(self, name), allowed)
        if self.window_calls is not None and self.window_seconds is not None:
            raise self.refuse("window_seconds", self.window_seconds, "left out with 'window_calls'")
        if self.minimum_calls is not None and self.window_seconds is None:
            window = self.window_calls or DEFAULT_WINDOW_CALLS
            if self.minimum_calls > window:
                allowed = f"at most 'window_calls' ({window})"
                raise self.refuse("minimum_calls", self.minimum_calls, allowed)
