"""What a worker's method may raise to tell its pool what to do; see ``verdict.Signal``."""

from __future__ import annotations

from penstock.verdict import Signal

__all__ = ["RestartWorker", "SkipTask", "StopPool", "TripBreaker"]


class RestartWorker(Signal):
    """Stop this worker and start it anew; the job fails, and is retried as the policy says."""


class SkipTask(Signal):
    """Drop this job: it is not retried, and counts for nothing."""


class TripBreaker(Signal):
    """Pause the whole pool as its escalation says; the job waits and is run again."""


class StopPool(Signal):
    """Stop the whole pool: whoever waits for a job, and for the pool, is told why."""
