"""How a retry stage calls again."""

from __future__ import annotations

from random import Random, random
from typing import Any, Self

from penstock import clock
from penstock.call import Call
from penstock.stage import Handler
from penstock.stages.retry.attempts import Attempts
from penstock.stages.retry.filter import OutcomeFilter
from penstock.stages.retry.machine import Stop
from penstock.stages.retry.options import RetryOptions
from penstock.stages.retry.rules import Rules

__all__ = ["Retry"]


class Retry:
    """Call again after a failure that may pass, up to ``attempts`` times in all.

    Args:
        options: What may be set.
        seed: Makes jitter repeatable; None takes the process's own randomness.
    """

    __slots__ = ("_outcomes", "_rules", "_seed", "_totals", "_trusts_results", "options")

    name = "retry"
    # A displaced attempt, too.
    runs_again = True

    def __init__(self, options: RetryOptions, *, seed: int | None = None) -> None:
        self.options = options
        self._seed = seed
        self._outcomes = OutcomeFilter(options)
        self._trusts_results = self._outcomes.trusts_results
        chance = random if seed is None else Random(seed).random
        self._rules = Rules(options, chance, asks_tenacity=self._outcomes.asks_tenacity)
        self._totals = {"retries": 0, "gave_up": 0}

    @property
    def repeats(self) -> bool:
        """True when the operation may be called more than once."""
        return self.options.attempts != 1

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Run the rest of the pipeline until it succeeds or trying again is pointless."""
        began = clock.now()
        is_inside = call.attempts_inside
        call.attempts_inside = True
        result = failure = None
        try:
            try:
                result = await call_next(call)
            except Exception as caught:  # noqa: BLE001 - raised again where it is not retried
                failure = caught
            else:
                if self._trusts_results:
                    return result
            attempts = Attempts(self.options, self._rules, self._outcomes, call, began)
            attempts.result, attempts.failure = result, failure
            # The failure's frames hold this one: together they would be a cycle.
            result = failure = None
            return await self._go_on(attempts, call, call_next)
        finally:
            call.attempts_inside = is_inside

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options, seed=self._seed)

    def snapshot(self) -> dict[str, Any]:
        """Return the attempts allowed, the retries made and the calls given up on."""
        return {"stage": self.name, "attempts": self.options.attempts, **self._totals}

    async def _go_on(self, attempts: Attempts, call: Call, call_next: Handler) -> Any:
        # Outside of any ``except`` block, so that no failure becomes the next one's context.
        try:
            while attempts.failure is not None or not await attempts.is_accepted():
                decision = await attempts.decide()
                if isinstance(decision, Stop):
                    self._totals["gave_up"] += 1
                    raise attempts.last_failure(decision.reason)
                self._totals["retries"] += 1
                await attempts.pause(decision.seconds)
                try:
                    attempts.result = await call_next(call)
                except Exception as caught:  # noqa: BLE001 - raised again where it is not retried
                    attempts.failure = caught
            return attempts.result
        finally:
            attempts.clear()
