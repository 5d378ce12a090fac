"""What happens in a pool of workers, as records for observers and hooks."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.events import Event

__all__ = ["Dropped", "WorkerChanged", "WorkersPaused", "WorkersResumed", "WorkersStopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChanged(Event):
    """A worker moved from state ``old`` to state ``new``; ``policy`` is the pool's name.

    Attributes:
        worker: The worker's id.
        old: ``starting``, ``up``, ``restarting``, ``parked``, ``stopping`` or ``stopped``.
        new: The same.
        reason: A short word.
        seconds: How long it waits before it is started; None where it does not.
    """

    worker: str
    old: str
    new: str
    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersPaused(Event):
    """No new call is given to a worker; ``seconds`` is how long, None until ``resume``."""

    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersResumed(Event):
    """Calls are given to workers again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersStopped(Event):
    """The pool takes no more jobs; ``reason`` is why, ``error_type`` what made it stop."""

    reason: str
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Event):
    """A job was given up.

    Attributes:
        operation: What it called.
        reason: ``failed``, ``skipped``, ``stopped`` or ``rejected``.
        error_type: Class name of the failure.
        failure: The failure itself. Its text may hold anything: it is for the hook ``on_drop``, and
            neither logs nor telemetry show it.
        args: What the job was called with, for who wants to put it somewhere; as above.
    """

    operation: str
    reason: str
    error_type: str
    failure: BaseException
    args: tuple[object, ...] = ()
