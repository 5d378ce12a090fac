"""What failed jobs amount to: nothing yet, a pause of the pool, or its end."""

from __future__ import annotations

import enum
from collections import deque
from typing import Any, NamedTuple

from penstock.workers.options import Escalation

__all__ = ["Decision", "EscalationMachine", "Step"]


class Step(enum.Enum):
    """What a failed job leads to."""

    NOTHING = "nothing"
    PAUSE = "pause"
    STOP = "stop"


class Decision(NamedTuple):
    """What to do, and for how long.

    Attributes:
        step: Nothing, pause the pool, or stop it.
        seconds: How long a pause lasts.
    """

    step: Step
    seconds: float = 0.0


_NOTHING = Decision(Step.NOTHING)
_STOP = Decision(Step.STOP)


class EscalationMachine:
    """Counts the failed jobs of a pool and the pauses that they lead to. Pure: ``now`` is given.

    Both decay: a failure is forgotten after ``window`` seconds, a pause after ``trip_window``. What
    began before a pause says nothing about whether it has helped; its reader keeps that away.

    Args:
        options: How many of them are too many.
    """

    __slots__ = ("_failures", "_options", "_trips")

    def __init__(self, options: Escalation) -> None:
        self._options = options
        self._failures: deque[float] = deque()
        self._trips: deque[float] = deque()

    def fail(self, now: float) -> Decision:
        """Count a failed job; the one that is too many pauses the pool."""
        failures = self._failures
        _forget(failures, now - self._options.window)
        failures.append(now)
        return _NOTHING if len(failures) < self._options.failures else self._trip(now)

    def trip(self, now: float) -> Decision:
        """Pause the pool at once, or stop it when it was paused too often; no failure counts."""
        return self._trip(now, keeps=True)

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return how many failures and pauses count at the moment."""
        options = self._options
        return {
            "failures": sum(at > now - options.window for at in [*self._failures]),
            "failures_to_pause": options.failures,
            "pauses": sum(at > now - options.trip_window for at in [*self._trips]),
            "pauses_to_stop": options.trips,
        }

    def _trip(self, now: float, *, keeps: bool = False) -> Decision:
        if not keeps:
            self._failures.clear()
        trips = self._trips
        _forget(trips, now - self._options.trip_window)
        trips.append(now)
        if len(trips) >= self._options.trips:
            return _STOP
        return Decision(Step.PAUSE, self._pause(len(trips)))

    def _pause(self, number: int) -> float:
        options = self._options
        try:
            seconds = options.pause * options.pause_growth ** (number - 1)
        except OverflowError:
            return options.max_pause
        return min(seconds, options.max_pause)


def _forget(times: deque[float], before: float) -> None:
    while times and times[0] <= before:
        times.popleft()
