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

    Both decay: a failure is forgotten after ``window`` seconds, a pause after ``trip_window``.
    What has begun before a pause tells nothing about what it has helped, so that a burst of
    failures is one incident and one pause.

    Args:
        options: How many of them are too many.

    Attributes:
        era: How many pauses there were; a job keeps the number under which it began.
    """

    __slots__ = ("_failures", "_options", "_trips", "era")

    def __init__(self, options: Escalation) -> None:
        self._options = options
        self._failures: deque[float] = deque()
        self._trips: deque[float] = deque()
        self.era = 0

    def fail(self, now: float, era: int) -> Decision:
        """Count a failed job.

        Args:
            now: Monotonic seconds.
            era: The machine's when the job began.
        """
        if era != self.era:
            return _NOTHING
        failures = self._failures
        _forget(failures, now - self._options.window)
        failures.append(now)
        if len(failures) < self._options.failures:
            return _NOTHING
        return self.trip(now, era)

    def trip(self, now: float, era: int) -> Decision:
        """Pause the pool at once, or stop it when it was paused too often.

        Args:
            now: Monotonic seconds.
            era: The machine's when the job that asks for it began.
        """
        if era != self.era:
            return _NOTHING
        self.era += 1
        self._failures.clear()
        trips = self._trips
        _forget(trips, now - self._options.trip_window)
        trips.append(now)
        if len(trips) >= self._options.trips:
            return _STOP
        return Decision(Step.PAUSE, self._pause(len(trips)))

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return how many failures and pauses count at the moment."""
        options = self._options
        return {
            "failures": sum(at > now - options.window for at in [*self._failures]),
            "failures_to_pause": options.failures,
            "pauses": sum(at > now - options.trip_window for at in [*self._trips]),
            "pauses_to_stop": options.trips,
        }

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
