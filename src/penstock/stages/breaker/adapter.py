"""A breaker stage round a ``pybreaker.CircuitBreaker`` of the caller's.

pybreaker runs a function inside its lock, and its only async form is made for tornado and holds the
lock while it waits. Here each step of a call is taken under the lock, and none across an ``await``.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from penstock.call import Call
from penstock.errors import RejectedError
from penstock.stage import Handler
from penstock.stages.breaker.driver import Driver, twin_of
from penstock.stages.breaker.options import BreakerOptions
from penstock.stages.breaker.reports import Reports
from penstock.verdict import BreakerEffect, VerdictKind

if TYPE_CHECKING:
    from pybreaker import CircuitBreaker, CircuitBreakerState

__all__ = ["PybreakerStage"]

# These blame the resource of one attempt, not the service behind all of them.
_RESOURCE_SCOPED = (VerdictKind.RATE_LIMITED, VerdictKind.QUOTA_EXHAUSTED, VerdictKind.AUTH)


class _Admission:
    """A call that was let through: in which state, and for a probe on which loop."""

    __slots__ = ("loop", "state")

    def __init__(self, state: CircuitBreakerState) -> None:
        self.state = state
        self.loop: asyncio.AbstractEventLoop | None = None


class PybreakerStage:
    """Let the caller's own breaker decide, with bounded probes and no lock held while waiting.

    Its storage, listeners, exclusions, ``fail_max``, ``reset_timeout`` and ``success_threshold``
    are used as they are. What it excludes counts as a success, as it does in pybreaker. Neutral is
    what was cancelled, what a stage further in refused, and what blames a resource (rate limit,
    quota, authentication).

    Args:
        breaker: The caller's breaker; its own ``open()`` and ``close()`` work at any time.
        probes: How many calls through this stage may be under way at once while half-open, from 1.

    Raises:
        ConfigError: ``probes`` is not a whole number of at least 1.
    """

    __slots__ = ("_driver", "_probes", "_reports", "_seen", "breaker", "options")

    name = "breaker"
    admits = True

    def __init__(self, breaker: CircuitBreaker, probes: int = 1) -> None:
        self.options = BreakerOptions(probes=probes)
        self.breaker = breaker
        self._reports = Reports(breaker.name)
        self._driver = Driver(breaker, partial(self._reports.failed, "pybreaker"))
        self._probes: set[_Admission] = set()
        self._seen = self.state

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Run the rest of the pipeline if the caller's breaker lets it."""
        admission = self._admit(call)
        try:
            result = await call_next(call)
        except BaseException as failure:
            self._record(call, admission, failure)
            raise
        self._record(call, admission, None)
        return result

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        return self.breaker.current_state.replace("-", "_")

    def fresh(self) -> Self:
        """Return a stage round a copy of the breaker with new state.

        A storage other than pybreaker's in-memory one is shared on purpose, and stays shared.
        """
        return type(self)(twin_of(self.breaker), self.options.probes)

    def snapshot(self) -> dict[str, Any]:
        """Return state, failures in a row, probes under way, seconds until a probe is due."""
        state = self.state
        return {
            "stage": self.name,
            "state": state,
            "failures": self.breaker.fail_counter,
            "probes_out": len(self._probes),
            "retry_after": self._driver.time_open() if state == "open" else None,
        }

    def _admit(self, call: Call) -> _Admission:
        self._reports.meet(call)
        admission, wait = self._decide()
        self._announce(call, admission.state)
        if wait != 0:
            raise self._reports.refuse(call, self._seen, wait)
        self._driver.before_call(call.fn, call.args, call.kwargs)
        return admission

    def _decide(self) -> tuple[_Admission, float | None]:
        """Return the admission, and how long to stay away: 0 s for not, None for nobody knows."""
        driver = self._driver
        with driver.lock:
            state = driver.current()
            if state.name == "open":
                left = driver.time_open()
                if left > 0:
                    return _Admission(state), left
                state = driver.half_open()
            admission = _Admission(state)
            if state.name == "half-open" and not self._take_probe(admission):
                return admission, None
            return admission, 0.0

    def _take_probe(self, admission: _Admission) -> bool:
        # Probes of an earlier trial, or of a loop that was closed under them, never come back.
        self._probes = {
            probe
            for probe in self._probes
            if probe.state is admission.state and probe.loop and not probe.loop.is_closed()
        }
        if len(self._probes) >= self.options.probes:
            return False
        admission.loop = asyncio.get_running_loop()
        self._probes.add(admission)
        return True

    def _record(self, call: Call, admission: _Admission, failure: BaseException | None) -> None:
        effect = self._effect_of(call, failure)
        try:
            with self._driver.lock:
                self._probes.discard(admission)
                state = self._settle(admission.state, effect, failure)
        except Exception as error:  # noqa: BLE001 - a storage that fails must not hide the outcome
            self._reports.failed("pybreaker", error)
        else:
            self._announce(call, state)

    def _settle(
        self, admitted: CircuitBreakerState, effect: BreakerEffect, failure: BaseException | None
    ) -> CircuitBreakerState:
        driver = self._driver
        state = driver.current()
        # Where another state object is on, the result speaks about one that is over.
        if state is not admitted or effect is BreakerEffect.NEUTRAL:
            return state
        if effect is BreakerEffect.FAILURE and isinstance(failure, Exception):
            driver.fail(state, failure)
        else:
            driver.succeed(state)
        return driver.known

    def _effect_of(self, call: Call, failure: BaseException | None) -> BreakerEffect:
        if failure is None:
            return BreakerEffect.SUCCESS
        if not isinstance(failure, Exception) or isinstance(failure, RejectedError):
            return BreakerEffect.NEUTRAL
        if call.judge(failure).kind in _RESOURCE_SCOPED:
            return BreakerEffect.NEUTRAL
        fails = self._driver.is_failure(failure)
        return BreakerEffect.FAILURE if fails else BreakerEffect.SUCCESS

    def _announce(self, call: Call, state: CircuitBreakerState) -> None:
        old, self._seen = self._seen, state.name.replace("-", "_")
        if old != self._seen:
            self._reports.changed(call, old, self._seen, "decided by pybreaker")
