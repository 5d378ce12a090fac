"""What a breaker remembers of the last calls: counts by ring, at a constant cost per call."""

from __future__ import annotations

from typing import Protocol

__all__ = ["BUCKETS", "FAILED", "SLOW", "CallWindow", "TimeWindow", "Window"]

FAILED = 1
SLOW = 2

# A call leaves a time window when its bucket does, so with ten the window is exact to a tenth of
# itself. More would refine what is an estimate anyhow, and cost memory and snapshots.
BUCKETS = 10


class Window(Protocol):
    """The calls a ratio looks at.

    Attributes:
        calls: How many calls the window holds.
        failed: How many of them failed.
        slow: How many of them were slow; a call can be both.
    """

    calls: int
    failed: int
    slow: int

    def add(self, mark: int, now: float, /) -> None:
        """Take in a call: ``mark`` is 0, FAILED, SLOW or both added up."""
        ...

    def expire(self, now: float, /) -> None:
        """Let go of what has grown too old by ``now``."""
        ...

    def clear(self) -> None:
        """Forget every call."""
        ...


class CallWindow:
    """The last ``size`` calls, one byte each."""

    __slots__ = ("_marks", "_place", "_size", "calls", "failed", "slow")

    def __init__(self, size: int) -> None:
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Forget every call."""
        self._marks = bytearray(self._size)
        self._place = 0
        self.calls = self.failed = self.slow = 0

    def add(self, mark: int, _now: float, /) -> None:
        """Take in a call in place of the oldest one."""
        place = self._place
        # A place not used yet holds 0 and so takes nothing away.
        gone = self._marks[place]
        self._marks[place] = mark
        self.failed += (mark & FAILED) - (gone & FAILED)
        self.slow += ((mark & SLOW) - (gone & SLOW)) // SLOW
        if self.calls < self._size:
            self.calls += 1
        self._place = place + 1 if place + 1 < self._size else 0

    def expire(self, _now: float, /) -> None:
        """Do nothing: calls leave by number."""


class TimeWindow:
    """The calls of the last ``seconds``, in BUCKETS sums.

    Args:
        seconds: The length of the window, above 0.
    """

    __slots__ = ("_buckets", "_place", "_tick", "_width", "calls", "failed", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self._tick = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget every call."""
        self._buckets = [[0, 0, 0] for _ in range(BUCKETS)]
        self._place = 0
        self.calls = self.failed = self.slow = 0

    def add(self, mark: int, now: float, /) -> None:
        """Take in a call that ended at ``now``."""
        self.expire(now)
        bucket = self._buckets[self._place]
        failed, slow = mark & FAILED, mark // SLOW
        bucket[0] += 1
        bucket[1] += failed
        bucket[2] += slow
        self.calls += 1
        self.failed += failed
        self.slow += slow

    def expire(self, now: float, /) -> None:
        """Empty the buckets whose time is over."""
        tick = now // self._width
        passed = tick - self._tick
        # A clock that went back moves the window with it; waiting for it to catch up would stop
        # calls from ever leaving.
        self._tick = tick
        if passed > 0:
            self._turn(int(min(passed, BUCKETS)))

    def _turn(self, steps: int) -> None:
        for _ in range(steps):
            self._place = (self._place + 1) % BUCKETS
            bucket = self._buckets[self._place]
            self.calls -= bucket[0]
            self.failed -= bucket[1]
            self.slow -= bucket[2]
            bucket[:] = (0, 0, 0)
