"""How a concurrency stage decides: a count of permits and a line of waiters."""

from __future__ import annotations

import enum

from penstock.waitlist import Waiter, WaitList

__all__ = ["Admission", "ConcurrencyMachine"]


class Admission(enum.Enum):
    """What ``admit`` answered."""

    ADMITTED = "admitted"
    MUST_WAIT = "must_wait"
    QUEUE_FULL = "queue_full"


class ConcurrencyMachine:
    """Permits: as many as ``limit``, handed on to waiters in order.

    A permit belongs to a generation. ``forfeit`` starts a new one when the loop that held the old
    permits is gone; whatever is still released from then is ignored.

    Args:
        limit: Permits in all, from 1.
        max_queue: Most waiters; None for no bound.
    """

    __slots__ = ("_waiting", "generation", "in_flight", "limit", "max_queue", "queued")

    def __init__(self, limit: int, max_queue: int | None = None) -> None:
        self.limit = limit
        self.max_queue = max_queue
        self.in_flight = 0
        self.generation = 0
        self.queued = 0
        self._waiting = WaitList()

    def admit(self) -> Admission:
        """Take a permit if one is free and nobody waits for it."""
        # ``in_flight < limit`` implies an empty line: permits are handed on, never left lying.
        if self.in_flight < self.limit:
            self.in_flight += 1
            return Admission.ADMITTED
        if self.max_queue is not None and self.queued >= self.max_queue:
            return Admission.QUEUE_FULL
        return Admission.MUST_WAIT

    def park(self, priority: int = 0) -> Waiter:
        """Stand in line; call it only after ``admit`` answered MUST_WAIT."""
        self.queued += 1
        return self._waiting.park(1, priority)

    def abandon(self, waiter: Waiter) -> bool:
        """Leave the line; False when the permit had been granted and must be released."""
        abandoned = self._waiting.abandon(waiter)
        self.queued = len(self._waiting)
        return abandoned

    def release(self, generation: int) -> Waiter | None:
        """Give a permit back; return the waiter it was handed on to, to be woken."""
        if generation != self.generation:
            return None
        if self.queued and self.in_flight <= self.limit:
            self.queued -= 1
            return self._waiting.grant()
        self.in_flight -= 1
        return None

    def resize(self, limit: int) -> list[Waiter]:
        """Change the limit; return the waiters that were granted by it, to be woken.

        Lowering it takes nothing away: permits above the new limit are not handed on again.
        """
        self.limit = limit
        granted: list[Waiter] = []
        while self.in_flight < self.limit and (waiter := self._waiting.grant()) is not None:
            self.in_flight += 1
            self.queued -= 1
            granted.append(waiter)
        return granted

    def forfeit(self) -> None:
        """Forget every permit and every waiter: the loop they lived in is gone."""
        self.generation += 1
        self.in_flight = 0
        self.queued = 0
        self._waiting.abandon_all()
