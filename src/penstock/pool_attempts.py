"""The attempts of ``pool.run``, as a stage of its own round the rotation."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import uniform
from typing import Any, ClassVar

from penstock import clock
from penstock.call import Call, Overrides
from penstock.classify import Classify
from penstock.errors import DisplacedError, NoResourceError
from penstock.events import Observer, RetryScheduled, WaitEnded
from penstock.options import Count, Flag, Options, SecondsFromZero
from penstock.stage import Handler
from penstock.verdict import RetryEffect, TryAgain

__all__ = ["PoolAttempts", "Usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Options):
    """How calls go through a pool; see ``Pool`` and ``Pool.using``."""

    stage: ClassVar[str] = "pool"

    attempts: Count = 3
    retry_delay: SecondsFromZero = 0.5
    max_wait: SecondsFromZero | None = None
    start_within: SecondsFromZero | None = None
    classify: Classify | None = None
    observers: tuple[Observer, ...] = ()
    telemetry: Flag = True
    overrides: Overrides = field(default_factory=Overrides)


class PoolAttempts:
    """The attempts of ``pool.run``: another resource for what one resource did wrong."""

    __slots__ = ("_usage",)

    name = "attempts"
    runs_again = True
    repeats = True

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Run the operation on one resource after another until one serves."""
        usage = self._usage
        if usage.start_within is not None:
            call.deadline = clock.now() + usage.start_within
        failed = 0
        last: Exception | None = None
        try:
            while True:
                try:
                    self._check_time(call)
                    return await call_next(call)
                except Exception as failure:
                    if call.resource is None:
                        raise failure from last
                    # A displaced attempt had not failed, and does not pay for it.
                    if not _was_displaced(call, failure):
                        if not _goes_elsewhere(call, failure):
                            raise
                        failed += 1
                        await self._pause(call, failed, failure)
                    last = failure
                call.resource = None
                call.attempt += 1
                call.forget_verdict()
        finally:
            # Its frames hold this one: together they would be a cycle.
            del last

    def _check_time(self, call: Call) -> None:
        if call.deadline is not None and clock.now() >= call.deadline:
            raise self._exhausted(call, "deadline", "no time is left to begin")

    async def _pause(self, call: Call, failed: int, failure: Exception) -> None:
        usage, delay = self._usage, 0.0
        if failed >= usage.attempts:
            why = "its only attempt is spent" if failed == 1 else f"all {failed} attempts are spent"
            raise self._exhausted(call, "attempts_spent", why) from failure
        if isinstance(failure, TryAgain):
            # Another resource would not help, and all at once would hurt.
            own = usage.retry_delay * uniform(0.5, 1.5)
            delay = own if failure.after is None else failure.after
        if delay and call.deadline is not None and clock.now() + delay >= call.deadline:
            why = "the next attempt could not start in time"
            raise self._exhausted(call, "deadline", why) from failure
        if call.notify is not None:
            kind, name = call.judge(failure).kind, type(failure).__name__
            facts = {"attempt": call.attempt, "delay": delay, "verdict": kind, "error_type": name}
            call.emit(RetryScheduled, **facts)
        if delay:
            await self._sleep(call, delay)

    async def _sleep(self, call: Call, seconds: float) -> None:
        began = clock.now()
        try:
            await asyncio.sleep(seconds)
        finally:
            call.emit(WaitEnded, stage="backoff", seconds=clock.now() - began)

    def _exhausted(self, call: Call, case: str, why: str) -> NoResourceError:
        # What is wrong with the resource is the cause; its text may hold keys, and stays there.
        return NoResourceError(f"pool '{call.context.policy}': {why}", case=case)


def _was_displaced(call: Call, failure: Exception) -> bool:
    return isinstance(failure, DisplacedError) and failure.concerns(call)


def _goes_elsewhere(call: Call, failure: Exception) -> bool:
    if isinstance(failure, TryAgain):
        return True
    verdict = call.judge(failure)
    effect = verdict.effects.retry
    return verdict.sent and (effect is RetryEffect.AT_HINT or effect is RetryEffect.ELSEWHERE)
