"""Which deadline comes next: all the deadlines of one stage in one structure.

The deadlines of a fixed time limit come in order, so a queue with lazy removal and a single timer of
the event loop replace a timer per call. A deadline that comes out of order goes to a heap.
"""

from __future__ import annotations

import enum
from collections import deque
from heapq import heappop, heappush
from typing import Any

__all__ = ["TimeoutMachine", "Watch", "WatchState"]


class WatchState(enum.Enum):
    """Where a watch stands."""

    RUNNING = "running"
    EXPIRED = "expired"
    LEFT = "left"


class Watch:
    """One call's deadline.

    Attributes:
        at: When it passes, in monotonic seconds.
        owner: What has to be stopped then; opaque here.
        state: Running, expired, or left in time.
    """

    __slots__ = ("at", "owner", "state")

    def __init__(self, at: float, owner: Any) -> None:
        self.at = at
        self.owner = owner
        self.state = WatchState.RUNNING


class TimeoutMachine:
    """Deadlines, earliest first; O(1) for those that come in order, O(log n) for the others."""

    __slots__ = ("_disorderly", "_orderly", "_serial")

    def __init__(self) -> None:
        self._orderly: deque[Watch] = deque()
        self._disorderly: list[tuple[float, int, Watch]] = []
        self._serial = 0

    def watch(self, at: float, owner: Any) -> Watch:
        """Add a deadline."""
        watch = Watch(at, owner)
        orderly = self._orderly
        if orderly and at < orderly[-1].at:
            self._serial += 1
            heappush(self._disorderly, (at, self._serial, watch))
        else:
            orderly.append(watch)
        return watch

    def leave(self, watch: Watch) -> None:
        """End a watch in time: it never expires from now on."""
        watch.state = WatchState.LEFT
        # Its owner (a task, with all it refers to) must not be kept until the deadline.
        watch.owner = None
        orderly = self._orderly
        while orderly and orderly[0].state is WatchState.LEFT:
            orderly.popleft()

    def next_at(self) -> float | None:
        """Return the earliest deadline under watch; None if there is none."""
        self._drop_left()
        heads = []
        if self._orderly:
            heads.append(self._orderly[0].at)
        if self._disorderly:
            heads.append(self._disorderly[0][0])
        return min(heads, default=None)

    def expire(self, now: float) -> list[Watch]:
        """Return the watches whose deadline has passed; they are under watch no more."""
        expired = []
        while (at := self.next_at()) is not None and at <= now:
            if self._orderly and self._orderly[0].at == at:
                watch = self._orderly.popleft()
            else:
                watch = heappop(self._disorderly)[2]
            watch.state = WatchState.EXPIRED
            expired.append(watch)
        return expired

    def clear(self) -> None:
        """Forget every deadline: the loop they lived in is gone."""
        self._orderly.clear()
        self._disorderly.clear()

    def __len__(self) -> int:
        running = sum(w.state is WatchState.RUNNING for w in self._orderly)
        return running + sum(w.state is WatchState.RUNNING for _, _, w in self._disorderly)

    def _drop_left(self) -> None:
        while self._orderly and self._orderly[0].state is WatchState.LEFT:
            self._orderly.popleft()
        while self._disorderly and self._disorderly[0][2].state is WatchState.LEFT:
            heappop(self._disorderly)
