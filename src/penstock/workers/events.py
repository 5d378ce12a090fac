"""What happens in a pool of workers, as records for observers and hooks."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.events import (
    JobDropped,
    WorkerChanged,
    WorkersPaused,
    WorkersResumed,
    WorkersStopped,
)

__all__ = [
    "Dropped",
    "JobDropped",
    "WorkerChanged",
    "WorkersPaused",
    "WorkersResumed",
    "WorkersStopped",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(JobDropped):
    """A job that was given up, with all that is needed to put it somewhere else.

    The hook ``on_drop`` alone is given this. Failure and arguments may hold anything: observers are
    told a ``JobDropped``, and neither logs nor telemetry show more than that.

    Attributes:
        failure: What it failed with.
        args: Its positional arguments, without the worker.
        kwargs: Its keyword arguments.
    """

    failure: BaseException = field(repr=False)
    args: tuple[object, ...] = field(default=(), repr=False)
    kwargs: dict[str, object] = field(default_factory=dict[str, object], repr=False)
