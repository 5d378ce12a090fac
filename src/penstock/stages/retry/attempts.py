"""The attempts of one call, from its first failure on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from penstock import clock
from penstock.call import Call, RefusedResult
from penstock.errors import DisplacedError, InvalidResultError, NoResourceError, RejectedError
from penstock.events import HookFailed, RetryScheduled, RetryStopped, WaitEnded
from penstock.hooks import timed
from penstock.matching import answer_of
from penstock.stages.retry.filter import OutcomeFilter
from penstock.stages.retry.machine import AT_ONCE, Delay, Reason, Stop, is_retried
from penstock.stages.retry.options import RetryOptions
from penstock.stages.retry.rules import Rules
from penstock.stages.retry.trail import Trail
from penstock.verdict import RetryEffect, Verdict, VerdictKind

__all__ = ["Attempts"]

_log = logging.getLogger("penstock")

# What a result that was not accepted means, for delays and events.
_NOT_ACCEPTED = Verdict(VerdictKind.UNKNOWN, reason="result not accepted")

# With no wait, nothing lets the loop run if the operation never suspends either. Yielding each time
# would double the cost of a quick retry; every tenth time bounds how long others are kept waiting.
_YIELD_EVERY = 10


# A return that comes a little late is still waited for.
_RETURN_SLACK = 0.1


class Attempts:
    """One call's attempts and what is decided between them.

    Holds the failure while it is being dealt with; ``clear`` must be called in the end, because
    the failure's frames hold this object.
    """

    __slots__ = (
        "_call",
        "_counts",
        "_filter",
        "_has_hooks",
        "_options",
        "_returns",
        "_run",
        "_theirs",
        "_trail",
        "failure",
        "result",
    )

    def __init__(
        self, options: RetryOptions, rules: Rules, outcomes: OutcomeFilter, call: Call, began: float
    ) -> None:
        self._options = options
        self._filter = outcomes
        self._call = call
        self._theirs = rules.state_for(call, began)
        self._run = rules.run_for(call, began, self._theirs)
        self._has_hooks = options.on_retry is not None or self._theirs is not None
        self._counts = True
        self._returns = False
        self._trail = Trail(keeps_all=not outcomes.trusts_results)
        self.failure: Exception | None = None
        self.result: Any = None

    async def is_accepted(self) -> bool:
        """Return True when the attempt just made has brought a good result.

        Any other is thrown away: handed to ``discard``, and kept for the error.
        """
        if self._call.committed:
            # The items of a stream went straight to its reader: there is no result to judge.
            return True
        self._record()
        try:
            asked = self._filter.accepts(self.result, self._theirs)
            if await timed(self._call, "hook", asked):
                return True
        except Exception as error:  # noqa: BLE001 - any error of a validator means "not accepted"
            self._trail.add_failure(error)
        self._trail.add_refused(self.result)
        await self._discard(self.result)
        return False

    async def decide(self) -> Delay | Stop:
        """Return whether and when the next attempt follows; added load is paid for."""
        # It had not failed: it lost its resource, and that is not the call's to pay for.
        failure = self.failure
        self._counts = not (isinstance(failure, DisplacedError) and failure.concerns(self._call))
        try:
            decision = await self._ask_rules() if self._counts else AT_ONCE
        except Exception as error:  # noqa: BLE001 - nothing may hide the operation's failure
            self._report("retry rule", error)
            decision = Stop(Reason.RULE_FAILED)
        budget = self._call.budget if self._counts else None
        if budget is not None and isinstance(decision, Delay) and not budget.spend_nowait():
            decision = Stop(Reason.BUDGET_SPENT)
        if self._call.notify is not None:
            self._announce(decision)
        return decision

    async def pause(self, seconds: float) -> None:
        """Call the hooks, sleep, and make everything ready for the next attempt."""
        try:
            if (self._has_hooks and self._counts) or isinstance(self.failure, RefusedResult):
                await self._run_hooks(seconds)
            self.failure = self.result = None
            self._call.forget_verdict()
            if seconds > 0 and self._returns:
                await self._wait_for_return(seconds)
            elif seconds > 0:
                await self._sleep(seconds)
            elif self._run.attempt % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        except BaseException:
            if self._call.budget is not None and self._counts:
                self._call.budget.refund()
            raise
        if self._counts:
            self._run.attempt += 1
        self._call.attempt += 1

    def last_failure(self, reason: Reason) -> Exception:
        """Return what reaches the caller."""
        seconds = clock.now() - self._run.began
        return self._trail.last_failure(self.failure, self._run.attempt, seconds, reason)

    def clear(self) -> None:
        """Let go of all failures and results."""
        self.failure = self.result = self._theirs = None
        self._trail.clear()

    async def _ask_rules(self) -> Delay | Stop:
        call, failure = self._call, self.failure
        verdict = _NOT_ACCEPTED
        if failure is not None:
            verdict = call.judge(failure)
            self._trail.add_failure(failure)
            if self._theirs is not None:
                self._record()
            if self._filter.reads_table:
                wanted = is_retried(verdict, rotates=call.context.rotates)
            else:
                asked = self._filter.retries(failure, verdict, self._theirs)
                wanted = await timed(call, "hook", asked)
            if not wanted:
                return Stop(Reason.NOT_RETRIED)
        if call.committed:
            return Stop(Reason.COMMITTED)
        ready_in = None
        if failure is not None and call.context.gate is not None:
            health = call.context.gate.health_for(call)
            if health.earliest_ready_in is None:
                return Stop(Reason.NO_RESOURCE)
            ready_in = health.earliest_ready_in if _is_of_resource(failure, verdict) else None
        self._returns = ready_in is not None
        return self._run.decide(verdict, clock.now(), call.deadline, ready_in=ready_in)

    async def _run_hooks(self, seconds: float) -> None:
        options, failure = self._options, self.failure
        if options.on_retry is not None:
            shown = self._shown_to_hooks()
            await self._run_hook("on_retry", options.on_retry, self._run.attempt, shown)
        if self._theirs is not None:
            self._theirs.commit(seconds)
            if options.before_sleep is not None:
                await self._run_hook("before_sleep", options.before_sleep, self._theirs.state)
        # A refused response holds a connection: it is closed before the sleep, not after it.
        if isinstance(failure, RefusedResult):
            await self._discard(failure.result)

    async def _wait_for_return(self, seconds: float) -> None:
        # At the pool, where somebody who is added or enabled in the meantime ends the wait.
        gate: Any = self._call.context.gate
        try:
            await gate.wait_until_open(self._call, seconds + _RETURN_SLACK)
        except NoResourceError:
            # The rests were made longer: the next attempt is refused, or waits, by the usual rules.
            return

    async def _sleep(self, seconds: float) -> None:
        began = clock.now()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._call.emit(WaitEnded, stage="backoff", seconds=clock.now() - began)

    def _record(self) -> None:
        if self._theirs is None:
            return
        failure, result = self.failure, self.result
        if isinstance(failure, RefusedResult):
            result = failure.result
            failure = None
        self._theirs.record(self._run.attempt, clock.now(), failure, result)

    def _shown_to_hooks(self) -> Exception:
        failure, result = self.failure, self.result
        if isinstance(failure, RefusedResult):
            result = failure.result
        elif failure is not None:
            return failure
        return InvalidResultError("the result was not accepted", results=(result,))

    async def _discard(self, result: object) -> None:
        if self._call.context.discard is not None:
            await self._run_hook("discard", self._call.context.discard, result)

    async def _run_hook(self, name: str, hook: Callable[..., object], *args: object) -> None:
        try:
            await timed(self._call, "hook", answer_of(hook(*args)))
        except Exception as error:  # noqa: BLE001 - a hook changes nothing for the caller
            self._report(name, error)

    def _report(self, hook: str, error: Exception) -> None:
        call = self._call
        _log.error("policy '%s': %s raised", call.context.policy, hook, exc_info=error)
        call.emit(HookFailed, hook=hook, error_type=type(error).__name__)

    def _announce(self, decision: Delay | Stop) -> None:
        call, failure = self._call, self.failure
        facts: dict[str, Any] = {
            "attempt": call.attempt,
            "verdict": (_NOT_ACCEPTED if failure is None else call.judge(failure)).kind,
            "error_type": None if failure is None else type(failure).__name__,
        }
        match decision:
            case Delay(seconds):
                call.emit(RetryScheduled, delay=seconds, **facts)
            case Stop(reason):
                call.emit(RetryStopped, reason=reason.value, **facts)


def _is_of_resource(failure: Exception, verdict: Verdict) -> bool:
    """Return True where one resource failed, so that another one may serve at once.

    A rejection, the pool's own included, has a hint of its own and is waited for like any other.
    """
    effect = verdict.effects.retry
    resources_own = effect is RetryEffect.AT_HINT or effect is RetryEffect.ELSEWHERE
    return resources_own and not isinstance(failure, RejectedError)
