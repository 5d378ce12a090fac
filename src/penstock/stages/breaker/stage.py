"""How a breaker stage lets calls through."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from threading import get_ident
from typing import Any, ClassVar, Self

from penstock import clock
from penstock.call import Call
from penstock.hooks import Hook
from penstock.matching import Matcher
from penstock.options import Options, Seconds
from penstock.parking import Home
from penstock.stage import Handler
from penstock.stages.breaker.admission import Admitted, Change, Rejected, State
from penstock.stages.breaker.machine import BreakerMachine
from penstock.stages.breaker.options import BreakerOptions
from penstock.stages.breaker.reports import Reports
from penstock.verdict import BreakerEffect, Verdict, VerdictKind

__all__ = ["Breaker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenFor(Options):
    stage: ClassVar[str] = "breaker"

    seconds: Seconds | None = None


class Breaker:
    """Refuse calls while the service behind them is failing; probe it until it is back.

    Its methods belong to the thread of the event loop that the policy works in.
    """

    __slots__ = ("_hook", "_machine", "_matcher", "_reports", "home", "options")

    name = "breaker"
    admits = True

    def __init__(self, options: BreakerOptions) -> None:
        self.options = options
        self._machine = BreakerMachine(options)
        self.home = Home()
        which, hook = options.failure_on, options.on_state_change
        self._matcher = None if which is None else Matcher.of(which)
        self._hook = None if hook is None else Hook(hook, self._report_hook)
        self._reports = Reports(options.label)

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Run the rest of the pipeline if the circuit is closed, or as a probe if that is due."""
        machine = self._machine
        admission = machine.steady
        if admission is None or get_ident() != self.home.thread:
            admission = self._admit(call)
        try:
            result = await call_next(call)
        except BaseException as failure:
            self._record_failure(call, admission, failure)
            raise
        if machine.heeds_success:
            now = clock.now() if machine.times_results else 0.0
            self._announce(machine.record(admission, BreakerEffect.SUCCESS, now), call)
        return result

    @property
    def state(self) -> str:
        """``closed``, ``open``, ``half_open`` or ``isolated``; open until the first probe."""
        return self._machine.state.value

    def open(self, seconds: float | None = None) -> None:
        """Open the circuit by hand for ``seconds`` (above 0), else for ``recover_after``.

        Raises:
            ConfigError: ``seconds`` is not a finite number above 0.
        """
        checked = _OpenFor(seconds=seconds).seconds
        self._announce(self._machine.open(clock.now(), checked))

    def isolate(self) -> None:
        """Let nothing through, and probe nothing, until ``close`` or ``reset``."""
        self._announce(self._machine.isolate())

    def close(self) -> None:
        """Close the circuit by hand; a closed one keeps its counts."""
        self._announce(self._machine.close())

    def reset(self) -> None:
        """Close the circuit and forget all that was counted, as if it were new."""
        self._announce(self._machine.reset())

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return state, counts, and seconds until a probe is due (None unless open)."""
        machine, now = self._machine, clock.now()
        is_open = machine.state is State.OPEN
        facts: dict[str, Any] = {
            "stage": self.name,
            "state": self.state,
            "failures": machine.failures,
            "probes_out": machine.probes_out,
            "retry_after": machine.time_open(now) if is_open else None,
        }
        if (window := machine.window) is not None:
            window.expire(now)
            facts["window"] = {k: getattr(window, k) for k in ("calls", "failed", "slow")}
        return facts

    def _admit(self, call: Call) -> Admitted:
        machine = self._machine
        if get_ident() != self.home.thread or machine.state is not State.CLOSED:
            self._move_in(call)
        admission = machine.admit(clock.now())
        if isinstance(admission, Rejected):
            raise self._reports.refuse(call, self.state, admission.retry_after)
        self._announce(admission.change, call)
        return admission

    def _move_in(self, call: Call) -> None:
        if self.home.move(self.name):
            self._machine.forfeit()
        self._reports.meet(call)

    def _record_failure(self, call: Call, admission: Admitted, failure: BaseException) -> None:
        effect, duration = BreakerEffect.NEUTRAL, None
        # Whatever is no Exception (a cancellation, an exit) ends the call and says nothing of the
        # service.
        if isinstance(failure, Exception):
            verdict = call.judge(failure)
            effect = self._effect_of(failure, verdict)
            # Cut short, it took longer than it was seen to take.
            duration = inf if verdict.kind is VerdictKind.TIMEOUT else None
        change = self._machine.record(admission, effect, clock.now(), duration)
        self._announce(change, call)

    def _effect_of(self, failure: Exception, verdict: Verdict) -> BreakerEffect:
        if self._matcher is None:
            return verdict.effects.breaker
        try:
            counts = self._matcher(failure, verdict)
        except Exception as error:  # noqa: BLE001 - reported; the failure itself goes on
            self._reports.failed("failure_on", error)
            counts = False
        return BreakerEffect.FAILURE if counts else BreakerEffect.NEUTRAL

    def _announce(self, change: Change | None, call: Call | None = None) -> None:
        if change is None:
            return
        old, new = change.old.value, change.new.value
        self._reports.changed(call, old, new, change.reason)
        if self._hook is not None:
            self._hook(old, new)

    def _report_hook(self, error: BaseException) -> None:
        self._reports.failed("on_state_change", error)
