"""Who waits, in which order: a pure list of waiters. Nothing here waits or knows the time.

A waiter is parked, then granted or abandoned, each exactly once::

    parked ──grant()──> granted
       └───abandon()──> abandoned

Granting hands over what was waited for in the same step, so nobody who comes later can take it. A
waiter whose caller is cancelled in the step in which it is granted is *granted*: ``abandon`` says
so by returning False, and the caller gives back what it was handed.
"""

from __future__ import annotations

import enum
from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import Any

__all__ = ["WaitList", "Waiter", "WaiterState"]

# Abandoned waiters stay in their lane until they reach its head. Clearing them out once they
# outnumber the living keeps memory in proportion and costs O(1) per abandoned waiter.
_SWEEP_FROM = 64


class WaiterState(enum.Enum):
    """Where a waiter stands."""

    PARKED = "parked"
    GRANTED = "granted"
    ABANDONED = "abandoned"


class Waiter:
    """One place in the line.

    Attributes:
        cost: What it waits for, in units; its reader decides what a unit is.
        priority: Higher is served first; first come, first served within one priority.
        state: Parked, granted or abandoned.
        signal: Whatever the waiting side needs to be woken; opaque here.
        held: What it was handed when it was granted, for its reader to give back.
    """

    __slots__ = ("cost", "held", "priority", "signal", "state")

    def __init__(self, cost: object, priority: int) -> None:
        self.cost: Any = cost
        self.priority = priority
        self.state = WaiterState.PARKED
        self.signal: Any = None
        self.held: Any = None


class WaitList:
    """Waiters by priority, then by arrival. Every method is O(1) amortised in the waiters.

    A priority costs nothing once nobody of it waits, so a time stamp can be a priority.
    A large request at the head is not overtaken by small ones behind it.
    """

    __slots__ = ("_dead", "_lanes", "_live", "_order")

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Waiter]] = {}
        # Ascending: the lane served first is at the end, where taking it out is cheap.
        self._order: list[int] = []
        self._live = 0
        self._dead = 0

    def __len__(self) -> int:
        return self._live

    def park(self, cost: object = 1, priority: int = 0) -> Waiter:
        """Add a waiter at the end of its priority's lane."""
        waiter = Waiter(cost, priority)
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
            insort(self._order, priority)
        lane.append(waiter)
        self._live += 1
        return waiter

    def head(self) -> Waiter | None:
        """Return who is served next, or None."""
        if not self._live:
            self._clear()
            return None
        while True:
            lane = self._lanes[self._order[-1]]
            while lane and lane[0].state is not WaiterState.PARKED:
                lane.popleft()
                self._dead -= 1
            if lane:
                return lane[0]
            del self._lanes[self._order.pop()]

    def heads(self) -> list[Waiter]:
        """Return who is next in each priority: the oldest waiter is one of them."""
        lanes = self._lanes.values()
        firsts = (next((w for w in lane if w.state is WaiterState.PARKED), None) for lane in lanes)
        return [waiter for waiter in firsts if waiter is not None]

    def grant(self) -> Waiter | None:
        """Take the head off the list and mark it granted; None when nobody waits."""
        waiter = self.head()
        if waiter is not None:
            self._lanes[waiter.priority].popleft()
            waiter.state = WaiterState.GRANTED
            self._live -= 1
        return waiter

    def grant_head(self, head: Waiter) -> None:
        """Grant whom ``head`` has just returned."""
        self._lanes[head.priority].popleft()
        head.state = WaiterState.GRANTED
        self._live -= 1

    def abandon(self, waiter: Waiter) -> bool:
        """Take a waiter out; False when it had been granted and so holds something."""
        if waiter.state is not WaiterState.PARKED:
            return waiter.state is WaiterState.ABANDONED
        waiter.state = WaiterState.ABANDONED
        self._live -= 1
        self._dead += 1
        if self._dead >= _SWEEP_FROM and self._dead > self._live:
            self._sweep()
        return True

    def abandon_all(self) -> list[Waiter]:
        """Take everybody out and return them, in order."""
        everybody = [waiter for waiter in self if waiter.state is WaiterState.PARKED]
        for waiter in everybody:
            waiter.state = WaiterState.ABANDONED
        self._live = 0
        self._clear()
        return everybody

    def __iter__(self) -> Iterator[Waiter]:
        for priority in reversed(self._order):
            for waiter in self._lanes[priority]:
                if waiter.state is WaiterState.PARKED:
                    yield waiter

    def _sweep(self) -> None:
        for priority, lane in list(self._lanes.items()):
            parked = deque(w for w in lane if w.state is WaiterState.PARKED)
            if parked:
                self._lanes[priority] = parked
            else:
                del self._lanes[priority]
                self._order.remove(priority)
        self._dead = 0

    def _clear(self) -> None:
        if self._order:
            self._lanes.clear()
            self._order.clear()
        self._dead = 0
