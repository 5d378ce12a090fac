"""How a rate limit decides: one or several limits, taken all or nothing, and a line of waiters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from penstock.stages.rate_limit.limits import limit_for
from penstock.stages.rate_limit.rate import Rate
from penstock.waitlist import Waiter, WaiterState, WaitList

__all__ = ["Costs", "RateLimitMachine", "Receipts"]

Costs = tuple[float, ...]
# A tuple of receipts, one per limit; where there is one limit, its receipt as it is.
Receipts = Any


class RateLimitMachine:
    """Limits of one stage and who waits for them, in order.

    Args:
        rates: At least one.
        burst: None for sliding windows, a number for GCRA.

    Attributes:
        limits: Their bookkeeping, in the order of the rates.
        queued: How many stand in line.
        paused_until: Before this second nothing starts.
        steady: ``admit(now, cost)`` of the one limit, where there is one, while nobody is in line
            and nothing is paused: the short way for nearly all calls. None: ask ``admit``.
    """

    __slots__ = ("_line_costs", "_only", "limits", "paused_until", "queued", "steady", "waiting")

    def __init__(self, rates: Sequence[Rate], burst: int | None = None) -> None:
        self.limits = [limit_for(rate, burst) for rate in rates]
        self._only = self.limits[0] if len(self.limits) == 1 else None
        self.waiting = WaitList()
        self.queued = 0
        self.paused_until = float("-inf")
        self.steady: Callable[[float, float], Any] | None = None
        self._line_costs: dict[int, list[float]] = {}

    def admit(self, now: float, costs: Costs) -> Receipts | None:
        """Charge every limit and return the receipts, or return None and charge none.

        Nobody overtakes the line.
        """
        if self.queued or now < self.paused_until:
            return None
        if self._only is not None:
            self.steady = self._only.try_take
            return self._only.try_take(now, costs[0])
        if self._ready_at(now, costs) > now:
            return None
        return self._take(now, costs)

    def too_large(self, costs: Costs) -> bool:
        """Whether this cost can never be admitted, whatever is waited for."""
        return any(cost > limit.capacity for limit, cost in zip(self.limits, costs, strict=True))

    def estimate(self, now: float, costs: Costs, priority: int = 0) -> float:
        """When somebody who stands in line now can start; never later than it will be."""
        ahead = [0.0] * len(self.limits)
        for other, line_costs in self._line_costs.items():
            if other >= priority:
                ahead = [a + c for a, c in zip(ahead, line_costs, strict=True)]
        whens = (
            limit.estimate(now, before, cost)
            for limit, before, cost in zip(self.limits, ahead, costs, strict=True)
        )
        return max(now, self.paused_until, *whens)

    def park(self, costs: Costs, priority: int = 0) -> Waiter:
        """Stand in line."""
        self.queued += 1
        self.steady = None
        line = self._line_costs.setdefault(priority, [0.0] * len(costs))
        for place, cost in enumerate(costs):
            line[place] += cost
        return self.waiting.park(costs, priority)

    def abandon(self, waiter: Waiter) -> bool:
        """Leave the line; False when it had been granted and its receipts must be given back."""
        if waiter.state is WaiterState.PARKED:
            self._leave_line(waiter)
        return self.waiting.abandon(waiter)

    def grant_due(self, now: float) -> list[Waiter]:
        """Grant everybody whose turn has come, in order; each holds its receipts."""
        granted: list[Waiter] = []
        while (head := self.waiting.head()) is not None and self._ready_at(now, head.cost) <= now:
            self.waiting.grant()
            self._leave_line(head)
            head.held = self._take_due(now, head.cost)
            granted.append(head)
        return granted

    def next_at(self, now: float) -> float | None:
        """When the head of the line can start; None when nobody waits."""
        head = self.waiting.head()
        return None if head is None else self._ready_at(now, head.cost)

    def give_back(self, now: float, receipts: Receipts, costs: Costs) -> None:
        """Give back what receipts paid, up to ``costs``."""
        for limit, receipt, cost in zip(self.limits, self._each(receipts), costs, strict=True):
            limit.give_back(now, receipt, cost)

    def settle(self, now: float, receipts: Receipts, paid: Costs, actual: Costs) -> None:
        """Charge what was used above what was paid, and give back what was not."""
        for limit, receipt, before, after in zip(
            self.limits, self._each(receipts), paid, actual, strict=True
        ):
            if after > before:
                limit.charge(now, after - before)
            elif after < before:
                limit.give_back(now, receipt, before - after)

    def pause(self, until: float) -> None:
        """Start nothing before ``until``; a longer pause is never shortened."""
        self.paused_until = max(self.paused_until, until)
        self.steady = None

    def change(self, rates: Sequence[Rate], burst: int | None, now: float) -> None:
        """Go on with other rates, as many as there are limits."""
        for limit, rate in zip(self.limits, rates, strict=True):
            limit.change(rate, burst, now)

    def forfeit(self) -> None:
        """Forget everybody in line: the loop they lived in is gone."""
        self.waiting.abandon_all()
        self.queued = 0
        self._line_costs.clear()

    def _ready_at(self, now: float, costs: Costs) -> float:
        if self._only is not None:
            return max(self.paused_until, self._only.ready_at(now, costs[0]))
        whens = (limit.ready_at(now, cost) for limit, cost in zip(self.limits, costs, strict=True))
        return max(self.paused_until, *whens)

    def _take(self, now: float, costs: Costs) -> Receipts:
        return tuple(
            limit.try_take(now, cost) for limit, cost in zip(self.limits, costs, strict=True)
        )

    def _take_due(self, now: float, costs: Costs) -> Receipts:
        if self._only is not None:
            return self._only.take_due(now, costs[0])
        return tuple(
            limit.take_due(now, cost) for limit, cost in zip(self.limits, costs, strict=True)
        )

    def _each(self, receipts: Receipts) -> tuple[Any, ...]:
        return receipts if self._only is None else (receipts,)

    def _leave_line(self, waiter: Waiter) -> None:
        self.queued -= 1
        if not self.queued:
            self._line_costs.clear()
            return
        line = self._line_costs[waiter.priority]
        for place, cost in enumerate(waiter.cost):
            line[place] -= cost
