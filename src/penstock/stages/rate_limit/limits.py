"""Two ways to hold a rate: an exact sliding window, and GCRA. Both pure, both O(1) per start."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import takewhile
from typing import Any, Protocol

from penstock.stages.rate_limit.rate import Rate

__all__ = ["Gcra", "Limit", "SlidingWindow", "limit_for"]

# How much of its lateness a timer may make up for. An event loop is late by a millisecond or a few;
# what waits in line is entitled to the starts it slept through, a stalled process is not.
_MOST_CATCH_UP = 0.02

# Up to so many starts are remembered one by one; a window of 100,000 takes no more memory.
_MOST_STARTS = 1000

# Rounding in a sum of floats must not cost a start: a billionth of a unit is nobody's request.
_SLACK = 1e-9


class Limit(Protocol):
    """One rate's bookkeeping. ``now`` is monotonic seconds; a receipt is opaque."""

    capacity: float

    def try_take(self, now: float, cost: float) -> Any:
        """Charge and return a receipt, or return None and change nothing."""
        ...

    def ready_at(self, now: float, cost: float) -> float:
        """When ``try_take`` will answer, if nobody else takes anything."""
        ...

    def take_due(self, now: float, cost: float) -> Any:
        """As ``try_take``, for somebody who waited and may have been woken late."""
        ...

    def estimate(self, now: float, ahead: float, cost: float) -> float:
        """When this cost can start, with so many units in line before it; never too late."""
        ...

    def charge(self, now: float, cost: float) -> None:
        """Charge what was used above the estimate; it may go beyond the capacity (debt)."""
        ...

    def give_back(self, now: float, receipt: Any, cost: float) -> None:
        """Give back a part of what a receipt paid."""
        ...

    def change(self, rate: Rate, burst: int | None, now: float) -> None:
        """Go on with another rate; what was used stays used."""
        ...

    def available(self, now: float) -> float:
        """Units that could start now."""
        ...


class _Start:
    """One start, or several close together: the last one's time, the units, the total so far."""

    __slots__ = ("at", "open_until", "total", "units")

    def __init__(self, at: float, open_until: float, units: float, total: float) -> None:
        self.at = at
        self.open_until = open_until
        self.units = units
        self.total = total


class SlidingWindow:
    """Never more than ``capacity`` units in any span of ``period`` seconds, also after idling.

    It remembers each start of the last period: a deque whose ends are all that is touched. In a
    window of thousands of units, starts within a thousandth of the period are kept as one, with the
    time of the last: that never admits too many, and delays a start by that thousandth at most.
    """

    __slots__ = ("_grain", "_known_from", "_starts", "_total", "_used", "capacity", "period")

    def __init__(self, rate: Rate) -> None:
        self._measure(rate)
        self._known_from = float("-inf")
        self._starts: deque[_Start] = deque()
        self._used: float = 0
        self._total: float = 0

    def try_take(self, now: float, cost: float) -> _Start | None:
        """Charge and return a receipt, or return None and change nothing."""
        starts = self._starts
        if starts and starts[0].at + self.period <= now:
            self._expire(now)
        # An empty window takes anything: what can never fit is refused before it comes here, and
        # what was in line when the rate was lowered must get through some day.
        used = self._used + cost
        if used > self.capacity + _SLACK and starts:
            return None
        if not self._grain and cost:
            # ``_record`` for the common case, written out: calling it costs half of this method.
            self._used = used
            self._total = total = self._total + cost
            start = _Start(now, now, cost, total)
            starts.append(start)
            return start
        return self._record(now, cost)

    take_due = try_take

    def ready_at(self, now: float, cost: float) -> float:
        """When ``try_take`` will answer, if nobody else takes anything."""
        self._expire(now)
        return self._freed_at(now, self._used + cost - self.capacity)

    def estimate(self, now: float, ahead: float, cost: float) -> float:
        """When this cost can start, with so many units in line before it; never too late."""
        self._expire(now)
        needed = self._used + ahead + cost - self.capacity
        # Whoever waits behind a full window's worth of others waits for their units to pass too.
        windows = max(0, -int((self._used - needed) // self.capacity))
        return self._freed_at(now, needed - windows * self.capacity) + windows * self.period

    def charge(self, now: float, cost: float) -> None:
        """Charge what was used above the estimate; it may go beyond the capacity (debt)."""
        self._record(now, cost)

    def give_back(self, now: float, receipt: _Start, cost: float) -> None:
        """Give back a part of what a receipt paid; nothing, once it has left the window."""
        if receipt.at + self.period > now and receipt.at >= self._known_from:
            cost = min(cost, receipt.units)
            receipt.units -= cost
            self._used -= cost

    def change(self, rate: Rate, burst: int | None, now: float) -> None:  # noqa: ARG002 - one interface
        """Go on with another rate; the starts already made count in the new window."""
        self._expire(now)
        # A longer window reaches back to starts that are forgotten: they have nothing to give back.
        self._known_from = self._starts[0].at if self._starts else now
        self._measure(rate)

    def available(self, now: float) -> float:
        """Units that could start now."""
        # Changes nothing: an exporter of metrics asks in a thread of its own.
        over = takewhile(lambda start: start.at + self.period <= now, self._starts.copy())
        return max(0, min(self.capacity, self.capacity - self._used + sum(s.units for s in over)))

    def _measure(self, rate: Rate) -> None:
        self.capacity, self.period = rate.whole()
        self._grain = self.period / _MOST_STARTS if self.capacity > _MOST_STARTS else 0.0

    def _record(self, now: float, cost: float) -> _Start:
        starts = self._starts
        self._used += cost
        self._total += cost
        if starts and now < starts[-1].open_until:
            start = starts[-1]
            start.at = now
            start.units += cost
            start.total = self._total
            return start
        start = _Start(now, now + self._grain, cost, self._total)
        if cost:
            starts.append(start)
        return start

    def _expire(self, now: float) -> None:
        starts, period = self._starts, self.period
        while starts and starts[0].at + period <= now:
            self._used -= starts.popleft().units
        if not starts:
            # Sums of floats drift; an empty window is exactly empty.
            self._used = 0

    def _freed_at(self, now: float, needed: float) -> float:
        # A refund leaves the running totals behind it too high: then the answer is too early,
        # which costs a look, where one too late would refuse a call that could be served.
        if needed <= _SLACK or not self._starts:
            return now
        before = self._starts[0].total - self._starts[0].units
        place = bisect_left(self._starts, before + needed - _SLACK, key=_total_of)
        return self._starts[min(place, len(self._starts) - 1)].at + self.period


def _total_of(start: _Start) -> float:
    return start.total


class Gcra:
    """A token bucket kept as one number: the theoretical arrival time.

    The generic cell rate algorithm (ITU-T I.371, appendix A; also ATM Forum TM 4.0): ``capacity``
    units at once, then one every ``interval`` seconds; idling restores at most the capacity.
    """

    __slots__ = ("_arrival", "capacity", "interval")

    def __init__(self, rate: Rate, burst: int) -> None:
        self.capacity: float = burst
        self.interval = rate.per / rate.amount
        self._arrival = float("-inf")

    def try_take(self, now: float, cost: float) -> bool | None:
        """Charge and return a receipt, or return None and change nothing."""
        arrival = self._arrival
        if arrival + (cost - self.capacity - _SLACK) * self.interval > now:
            return None
        self._arrival = (max(now, arrival)) + cost * self.interval
        return True

    def take_due(self, now: float, cost: float) -> bool | None:
        """As ``try_take``, but what was slept through since it was due is not lost."""
        ready = self.ready_at(now, cost)
        return None if ready > now else self.try_take(max(ready, now - _MOST_CATCH_UP), cost)

    def ready_at(self, now: float, cost: float) -> float:  # noqa: ARG002 - one interface
        """When ``try_take`` will answer, if nobody else takes anything."""
        return self._arrival + (cost - self.capacity - _SLACK) * self.interval

    def estimate(self, now: float, ahead: float, cost: float) -> float:
        """When this cost can start, with so many units in line before it; never too late."""
        return max(now, self.ready_at(now, ahead + cost))

    def charge(self, now: float, cost: float) -> None:
        """Charge what was used above the estimate; it may go beyond the capacity (debt)."""
        self._arrival = max(now, self._arrival) + cost * self.interval

    def give_back(self, now: float, receipt: bool, cost: float) -> None:  # noqa: FBT001, ARG002 - one interface
        """Give back a part of what was paid, as new units; the bucket never overflows."""
        self._arrival = max(now, self._arrival - cost * self.interval)

    def change(self, rate: Rate, burst: int | None, now: float) -> None:
        """Go on with another rate; units that were owed stay owed."""
        owed = max(0.0, self._arrival - now) / self.interval
        self.interval = rate.per / rate.amount
        self.capacity = burst or self.capacity
        self._arrival = now + owed * self.interval

    def available(self, now: float) -> float:
        """Units that could start now."""
        return max(0, self.capacity - max(0.0, self._arrival - now) / self.interval)


def limit_for(rate: Rate, burst: int | None) -> SlidingWindow | Gcra:
    """Return the bookkeeping for a rate."""
    return SlidingWindow(rate) if burst is None else Gcra(rate, burst)
