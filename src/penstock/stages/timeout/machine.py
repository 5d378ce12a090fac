"""Which deadline comes next: all the deadlines of one stage in one structure.

The deadlines of a fixed time limit come in order, so a queue with lazy removal and a single timer
of the event loop replace a timer per call. A deadline that comes out of order goes to a heap.
"""

from __future__ import annotations

import enum
from collections import deque
from heapq import heappop, heappush
from typing import Any

__all__ = ["EXPIRED", "LEFT", "RUNNING", "TimeoutMachine", "Watch", "WatchState"]


class WatchState(enum.Enum):
    """Where a watch stands."""

    RUNNING = "running"
    EXPIRED = "expired"
    LEFT = "left"


# Bound once: looking a member up in its class on every call costs as much as the comparison.
RUNNING, EXPIRED, LEFT = WatchState


class Watch:
    """One call's deadline.

    Attributes:
        at: When it passes, in monotonic seconds.
        state: Running, expired, or left in time.
        call: The call that has to end then; opaque here, as is the task.
        bounds_attempt: False where it bounds the whole call.
        task: The task to cancel.
        cancelling: Its count of cancels when the watch began: a task that once swallowed a cancel
            keeps its count, and only the change tells ours from another's.
    """

    __slots__ = ("at", "bounds_attempt", "call", "cancelling", "state", "task")

    def __init__(self, at: float, call: Any, task: Any, cancelling: int) -> None:
        self.at = at
        self.call = call
        self.bounds_attempt: bool = call.attempts_inside
        self.task = task
        self.cancelling = cancelling
        self.state = RUNNING


class TimeoutMachine:
    """Deadlines, earliest first; O(1) for those that come in order, O(log n) for the others."""

    __slots__ = ("_disorderly", "_orderly", "_serial")

    def __init__(self) -> None:
        self._orderly: deque[Watch] = deque()
        self._disorderly: list[tuple[float, int, Watch]] = []
        self._serial = 0

    def add(self, watch: Watch) -> None:
        """Add a deadline."""
        orderly = self._orderly
        if orderly and watch.at < orderly[-1].at:
            self._serial += 1
            heappush(self._disorderly, (watch.at, self._serial, watch))
        else:
            orderly.append(watch)

    def leave(self, watch: Watch) -> None:
        """End a watch in time: it never expires from now on."""
        watch.state = LEFT
        # A task, with all it refers to, must not be kept until the deadline.
        watch.call = watch.task = None
        orderly = self._orderly
        while orderly and orderly[0].state is LEFT:
            orderly.popleft()

    def next_at(self) -> float | None:
        """Return the earliest deadline under watch; None if there is none."""
        self._drop_left()
        heads: list[float] = []
        if self._orderly:
            heads.append(self._orderly[0].at)
        if self._disorderly:
            heads.append(self._disorderly[0][0])
        return min(heads, default=None)

    def expire(self, now: float) -> list[Watch]:
        """Return the watches whose deadline has passed; they are under watch no more."""
        expired: list[Watch] = []
        while (at := self.next_at()) is not None and at <= now:
            if self._orderly and self._orderly[0].at == at:
                watch = self._orderly.popleft()
            else:
                watch = heappop(self._disorderly)[2]
            watch.state = EXPIRED
            expired.append(watch)
        return expired

    def clear(self) -> None:
        """Forget every deadline: the loop they lived in is gone."""
        self._orderly.clear()
        self._disorderly.clear()

    def __len__(self) -> int:
        running = sum(w.state is RUNNING for w in self._orderly)
        return running + sum(w.state is RUNNING for _, _, w in self._disorderly)

    def _drop_left(self) -> None:
        while self._orderly and self._orderly[0].state is LEFT:
            self._orderly.popleft()
        while self._disorderly and self._disorderly[0][2].state is LEFT:
            heappop(self._disorderly)
