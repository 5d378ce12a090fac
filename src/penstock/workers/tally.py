"""What a pool of workers has counted; nothing of it ever goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.workers.slot import Slot

__all__ = ["DROPPED", "Tally"]

DROPPED: tuple[str, ...] = ("failed", "skipped", "stopped", "rejected")
"""Why a job is given up."""


class Tally:
    """The counters of one pool, over all its runs and all the workers that it ever had.

    Attributes:
        done: Jobs that ended well, in runs that are over.
        cancelled: Jobs that were cancelled.
        again: Jobs that were put in line again.
        dropped: Jobs that were given up, by reason.
        retried: Calls of workers that have left beyond the first one of a job.
        restarts: Times that workers which have left were started anew.
        calls: Calls that those have served.
        busy_seconds: Seconds that those have spent on them.
    """

    __slots__ = (
        "again",
        "busy_seconds",
        "calls",
        "cancelled",
        "done",
        "dropped",
        "restarts",
        "retried",
    )

    def __init__(self) -> None:
        self.done = 0
        self.cancelled = 0
        self.again = 0
        self.dropped: dict[str, int] = dict.fromkeys(DROPPED, 0)
        self.retried = 0
        self.restarts = 0
        self.calls = 0
        self.busy_seconds = 0.0

    def retire(self, slot: Slot) -> None:
        """Keep what a worker has counted that leaves the pool."""
        self.retried += slot.retried
        self.restarts += max(slot.restarted, 0)
        self.calls += slot.calls
        self.busy_seconds += slot.busy_seconds
