"""How a budget decides: added attempts against calls, over a sliding window."""

from __future__ import annotations

import math

__all__ = ["BudgetMachine"]

# The window moves on a slice at a time: fine enough that the balance has no steps worth noticing,
# coarse enough that moving on costs a handful of operations.
SLICES = 10

# Shares such as 0.1 have no exact float: ten times a tenth must still be one attempt.
_ROUNDING = 1e-9


class BudgetMachine:
    """Counts calls and added attempts over a sliding window, in constant time and space.

    The idea is the retry budget of Twitter's Finagle (``RetryBudget``), also found in tower's
    ``retry::budget``: what may be added is a share of what is asked for anyway.

    Args:
        ratio: Attempts that may be added per call, from 0.
        min_per_second: Attempts that may be added per second without any call, from 0.
        window: Seconds, above 0; longer where ``min_per_second`` would not come to 1 in it.
    """

    __slots__ = (
        "_at",
        "_calls",
        "_end",
        "_seconds",
        "_spent",
        "calls",
        "ratio",
        "reserve",
        "spent",
    )

    def __init__(self, ratio: float, min_per_second: float, window: float) -> None:
        if min_per_second:
            window = max(window, 1 / min_per_second)
        self.ratio = ratio
        self.reserve = min_per_second * window
        self.calls = 0
        self.spent = 0
        # The slice under way is not full yet; without it the others have to make up the window.
        self._seconds = window / (SLICES - 1)
        self._end = -math.inf
        self._at = 0
        self._calls = [0] * SLICES
        self._spent = [0] * SLICES

    def balance(self, now: float) -> float:
        """Return how many attempts may be added now; below 1 none."""
        self._move_on(now)
        return self.reserve + self.ratio * self.calls - self.spent

    def deposit(self, now: float) -> None:
        """Count a call."""
        if now >= self._end:
            self._move_on(now)
        self._calls[self._at] += 1
        self.calls += 1

    def spend(self, now: float) -> bool:
        """Pay for one added attempt; False, and nothing paid, where the balance is below 1."""
        if self.balance(now) < 1 - _ROUNDING:
            return False
        self._spent[self._at] += 1
        self.spent += 1
        return True

    def refund(self) -> None:
        """Take back the latest payment: the attempt was not made after all."""
        for age in range(SLICES):
            place = self._at - age
            if self._spent[place]:
                self._spent[place] -= 1
                self.spent -= 1
                return
        # It has left the window, so it weighs nothing any more.

    def seconds_until_room(self, now: float) -> float | None:
        """Return when payments begin to leave the window; None where there are none in it."""
        self._move_on(now)
        for ahead in range(1, SLICES + 1):
            if self._spent[(self._at + ahead) % SLICES]:
                return self._end - now + (ahead - 1) * self._seconds
        return None

    def _move_on(self, now: float) -> None:
        if now < self._end:
            return
        passed = (now - self._end) / self._seconds
        if passed >= SLICES:
            self._calls, self._spent = [0] * SLICES, [0] * SLICES
            self.calls = self.spent = 0
            self._end = now + self._seconds
            return
        for _ in range(int(passed) + 1):
            self._at = (self._at + 1) % SLICES
            self.calls -= self._calls[self._at]
            self.spent -= self._spent[self._at]
            self._calls[self._at] = self._spent[self._at] = 0
            self._end += self._seconds
