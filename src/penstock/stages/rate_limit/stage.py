"""How a rate limit stage admits a call, and corrects what it paid."""

from __future__ import annotations

from dataclasses import replace
from threading import get_ident
from typing import Any, Self

from penstock import clock
from penstock.call import Call, Cost, enter_call, leave_call
from penstock.errors import RateLimitedError
from penstock.events import CallRejected, WaitEnded
from penstock.options import checked_cost
from penstock.parking import Home, park_until_granted
from penstock.pools.quota import quota_left
from penstock.stage import Handler
from penstock.stages.rate_limit.line import RateLine
from penstock.stages.rate_limit.machine import Costs, RateLimitMachine, Receipts
from penstock.stages.rate_limit.options import RateLimitOptions, costs_of
from penstock.stages.rate_limit.reservation import RateMeter, Reservation, rate_limited
from penstock.verdict import LimiterEffect

__all__ = ["RateLimit"]


class RateLimit:
    """Let calls start at a given rate; the others wait in line, or are refused."""

    __slots__ = ("_costs", "_line", "_machine", "_metered", "home", "options")

    name = "rate_limit"
    admits = True

    def __init__(self, options: RateLimitOptions) -> None:
        self.options = options
        self._machine = RateLimitMachine(options.rate, options.burst)
        self._line = RateLine(self._machine, self.name)
        self.home: Home = self._line.home
        self._metered = callable(options.cost) or options.cost != 1
        self._costs = self._read(1 if callable(options.cost) else options.cost)

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Start the rest of the pipeline when its turn has come."""
        if get_ident() != self.home.thread:
            self._line.move_in()
        if self._metered or call.context.overrides.cost is not None:
            return await self._run_metered(call, call_next)
        take = self._machine.steady
        receipts = None if take is None else take(clock.now(), 1)
        if receipts is None:
            receipts = await self._wait_for_turn(call, self._costs)
        try:
            return await call_next(call)
        except BaseException as failure:
            self._correct(call, failure, receipts, self._costs)
            raise

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return rates, units that could start now, and how many wait."""
        now, machine = clock.now(), self._machine
        return {
            "stage": self.name,
            "rates": [str(rate) for rate in self.options.rate],
            "available": [limit.available(now) for limit in machine.limits],
            "waiting": machine.queued,
            "paused_for": max(0.0, machine.paused_until - now),
        }

    def try_acquire(self, cost: Cost | None = None) -> bool:
        """Take a start if one is free now; never waits, and overtakes nobody.

        Args:
            cost: Units, at least 0, or units by name; None takes the stage's own.

        Raises:
            ConfigError: The cost is not allowed, or more than the limit ever holds.
        """
        return self._machine.admit(clock.now(), self._read(cost)) is not None

    def reserve(self, cost: Cost | None = None, *, priority: int = 0) -> Reservation:
        """Take a start, or a place in line, without waiting: ``await reservation.wait()``.

        Args:
            cost: Units, at least 0, or units by name; None takes the stage's own.
            priority: Higher is served first.

        Raises:
            ConfigError: The cost is not allowed, or more than the limit ever holds.
        """
        self._line.move_in()
        return Reservation(self._line, self._read(cost), priority, self._units, self._rates())

    async def acquire(
        self, cost: Cost | None = None, *, max_wait: float | None = None, priority: int = 0
    ) -> Reservation:
        """Wait for a start outside of any policy; it can be settled or cancelled.

        Args:
            cost: Units, at least 0, or units by name; None takes the stage's own.
            max_wait: Seconds to wait at most, from 0; None takes the stage's own.
            priority: Higher is served first.

        Raises:
            RateLimitedError: The turn did not come within ``max_wait``.
            ConfigError: The cost is not allowed, or more than the limit ever holds.
        """
        reservation = self.reserve(cost, priority=priority)
        await reservation.wait(self.options.max_wait if max_wait is None else max_wait)
        return reservation

    def heed(self, headers: object) -> None:
        """Start nothing until a quota that an answer calls used up is back; 120 s at most.

        Args:
            headers: An answer's headers, of any kind; those that say nothing change nothing.
        """
        left, back_in = quota_left(headers)
        if left is not None and left < 1 and back_in:
            self._line.pause(back_in)

    def change_rate(self, rate: Any) -> None:
        """Go on with another rate, written as in the options; what was used stays used.

        Raises:
            ConfigError: The rate is not allowed, or not as many rates as before.
        """
        options = replace(self.options, rate=rate)
        if len(options.rate) != len(self.options.rate):
            allowed = f"{len(self.options.rate)} rates, as before"
            raise RateLimitOptions.refuse("rate", rate, allowed)
        self._machine.change(options.rate, options.burst, clock.now())
        self.options = options
        self._line.pump()

    async def _run_metered(self, call: Call, call_next: Handler) -> Any:
        # The cost is an estimate: the operation can reach its call and settle it.
        costs = self._costs_of(call)
        receipts = self._machine.admit(clock.now(), costs)
        if receipts is None:
            receipts = await self._wait_for_turn(call, costs)
        meter = RateMeter(self._line, receipts, costs, self._units)
        call.meters = [*(call.meters or ()), meter]
        token = enter_call(call)
        try:
            return await call_next(call)
        except BaseException as failure:
            self._correct(call, failure, receipts, meter.paid)
            raise
        finally:
            leave_call(token)
            call.meters.remove(meter)

    async def _wait_for_turn(self, call: Call, costs: Costs) -> Receipts:
        receipts = await self._wait(call, costs)
        gate = call.context.gate
        while gate is not None and gate.is_shut_for(call):
            # Its turn has come and nobody can serve it. Kept, the units of all that wait would be
            # used in the same moment, when the first resource is back.
            self._line.give_back(receipts, costs)
            await gate.wait_until_open(call)
            receipts = await self._wait(call, costs)
        return receipts

    async def _wait(self, call: Call, costs: Costs) -> Receipts:
        self._line.move_in()
        began = clock.now()
        receipts = self._machine.admit(began, costs)
        if receipts is not None:
            return receipts
        max_wait, left = self.options.max_wait, call.time_left(began)
        if max_wait is not None or left is not None:
            wait = self._machine.estimate(began, costs, call.priority) - began
            if (max_wait is not None and wait > max_wait) or (left is not None and wait >= left):
                raise self._refuse(call, wait)
        line = self._line
        waiter = line.park(costs, call.priority)
        try:
            await park_until_granted(waiter, max_wait)
        except BaseException:
            line.leave(waiter)
            raise
        finally:
            if call.notify is not None:
                call.emit(WaitEnded, stage=self.name, seconds=clock.now() - began)
        receipts = line.collect(waiter)
        if receipts is None:
            now = clock.now()
            raise self._refuse(call, self._machine.estimate(now, costs) - now)
        return receipts

    def _correct(self, call: Call, failure: BaseException, receipts: Receipts, paid: Costs) -> None:
        verdict = call.judge(failure)
        effect = verdict.effects.limiter
        if effect is LimiterEffect.REFUND or not verdict.sent:
            self._line.give_back(receipts, paid)
        elif effect is LimiterEffect.PAUSE and verdict.retry_after and not call.context.rotates:
            self._line.pause(verdict.retry_after)

    def _costs_of(self, call: Call) -> Costs:
        cost = call.cost
        if cost is None and callable(self.options.cost):
            cost = self.options.cost(call)
        return self._costs if cost is None else self._read(cost)

    def _read(self, cost: Cost | None) -> Costs:
        if cost is None:
            return self._costs
        costs = self._units(cost)
        if self._machine.too_large(costs):
            most = ", ".join(f"{limit.capacity:g}" for limit in self._machine.limits)
            raise RateLimitOptions.refuse("cost", cost, f"at most what the limit holds ({most})")
        return costs

    def _units(self, cost: Cost) -> Costs:
        return costs_of(self.options.rate, checked_cost("rate_limit: 'cost'", cost))

    def _rates(self) -> str:
        return ", ".join(str(rate) for rate in self.options.rate)

    def _refuse(self, call: Call, wait: float) -> RateLimitedError:
        error = rate_limited(f"policy '{call.context.policy}'", self._rates(), wait)
        call.emit(
            CallRejected,
            stage=self.name,
            error_type=type(error).__name__,
            retry_after=error.retry_after,
        )
        return error
