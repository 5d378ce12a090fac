"""What becomes of a job that has failed: it is given up, run again, pauses the pool or ends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from penstock import clock
from penstock.errors import NoResourceError, PoolStoppedError
from penstock.signals import SkipTask, StopPool, TripBreaker
from penstock.workers.asked import strongest
from penstock.workers.escalation import Decision, EscalationMachine, Step
from penstock.workers.job import Job
from penstock.workers.letters import FAILED, REJECTED, SKIPPED, STOPPED, Letters
from penstock.workers.options import Escalation

if TYPE_CHECKING:
    from penstock.workers.run import Run

__all__ = ["Failing"]

_NOTHING = Decision(Step.NOTHING)


class Failing:
    """Decides about every failed job of a pool.

    A job is run again when it is the one that pauses the pool, or has asked for that by
    ``TripBreaker``; no more often than the pool may pause.

    What began before a pause neither counts nor pauses the pool again: a burst of failures is one
    incident.

    Args:
        run: Whose jobs they are.

    Attributes:
        machine: Counts failures and pauses.
        letters: Told of every job that is given up.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        escalation = run.options.escalation
        # A job may ask for a pause in any case; without the option failed jobs do not lead to one.
        self._counts = escalation is not None
        self._options = escalation or Escalation()
        self.machine = EscalationMachine(self._options)
        self.letters = Letters(run.options, run.tally, run.crew.tell)
        # What had a worker when the pool paused last.
        self._before: WeakSet[Any] = WeakSet()
        self._runs: WeakKeyDictionary[Job[Any], int] = WeakKeyDictionary()

    def __call__(self, work: Any, failure: BaseException) -> BaseException | None:
        """Decide about a job or a direct call that has failed; nothing of it goes on.

        Returns:
            What whoever waits for it is told; None where it is to be run again.
        """
        run = self._run
        if isinstance(failure, asyncio.CancelledError):
            run.tally.cancelled += 1
            return failure
        if self._is_over and not work.served and isinstance(failure, NoResourceError):
            # It waited for a worker, and all of them were taken away.
            failure = run.refusal()
        reason = self._reason(work, failure)
        if reason is None:
            run.tally.again += 1
            return None
        self.letters.drop(work, failure, reason)
        if not isinstance(work, Job):
            # Before its caller goes on.
            self.letters.deliver()
        return failure

    def snapshot(self) -> dict[str, Any] | None:
        """Return how many failures and pauses count; None where none do."""
        return self.machine.snapshot(clock.now()) if self._counts else None

    def _reason(self, work: Any, failure: BaseException) -> str | None:
        if self._is_over and isinstance(failure, PoolStoppedError):
            return STOPPED
        if not work.served:
            return REJECTED
        if not isinstance(failure, Exception):
            return FAILED
        return self._reason_of_served(work, failure)

    def _reason_of_served(self, work: Any, failure: Exception) -> str | None:
        match strongest(failure):
            case TripBreaker() as signal:
                decision = self.machine.trip(clock.now()) if self._is_news(work) else _NOTHING
                return self._act(work, decision, failure, signal.reason or "TripBreaker")
            case StopPool() as signal:
                self._run.give_up(f"a job asked for it ({signal.reason or 'StopPool'})", failure)
                return STOPPED
            case SkipTask():
                return SKIPPED
            case _:
                return self._count(work, failure)

    def _count(self, work: Any, failure: Exception) -> str | None:
        if not (self._counts and self._is_news(work)):
            return FAILED
        decision = self.machine.fail(clock.now())
        if decision.step is Step.NOTHING:
            return FAILED
        reason = self._act(work, decision, failure, f"{self._options.failures} jobs failed")
        return None if reason is None else FAILED

    def _act(self, work: Any, decision: Decision, failure: Exception, why: str) -> str | None:
        match decision.step:
            case Step.STOP:
                times = f"{self._options.trips} times in {self._options.trip_window:g} s"
                self._run.give_up(f"it had to pause {times} ({why})", failure)
            case Step.PAUSE:
                under_way = self._run.dispatcher.active
                self._before = WeakSet(piece for piece in under_way if piece.served)
                self._run.pause(why, decision.seconds, by="escalation")
            case _:
                # The pause it asks for has been: it began before.
                pass
        if self._is_over:
            return STOPPED
        return None if self._may_run_again(work) else FAILED

    def _may_run_again(self, work: Any) -> bool:
        self._before.discard(work)
        if not isinstance(work, Job):
            # A direct call becomes a job, which is counted from then on.
            return True
        runs = self._runs.get(work, 0)  # pyright: ignore[reportUnknownArgumentType]  # of any job
        self._runs[work] = runs + 1
        return runs < self._options.trips

    def _is_news(self, work: Any) -> bool:
        return not self._is_over and work not in self._before

    @property
    def _is_over(self) -> bool:
        return self._run.dispatcher.refusal is not None
