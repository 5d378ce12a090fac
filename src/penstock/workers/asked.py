"""What a failed job asks of its pool, where it asks for several things at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from penstock.signals import RestartWorker, SkipTask, StopPool, TripBreaker
from penstock.verdict import Signal

__all__ = ["restart_asked_in", "strongest"]

_SIGNALS = (TripBreaker, StopPool, SkipTask)


def strongest(failure: BaseException) -> BaseException:
    """Return what decides about a job.

    One failure may hold several: those of a group of tasks. Then the strongest alone acts:
    ``TripBreaker``, then any error, then ``StopPool``, then ``SkipTask``.
    """
    return min(_in(failure), key=_rank)


def restart_asked_in(failure: BaseException) -> RestartWorker | None:
    """Return the signal that asks for a new worker; it holds whatever else is asked for."""
    return next((each for each in _in(failure) if isinstance(each, RestartWorker)), None)


def _in(failure: BaseException) -> Iterator[BaseException]:
    if not isinstance(failure, BaseExceptionGroup):
        yield failure
        return
    group = cast("BaseExceptionGroup[BaseException]", failure)
    for each in group.exceptions:
        yield from _in(each)


def _rank(failure: BaseException) -> int:
    if isinstance(failure, TripBreaker):
        return 0
    if not isinstance(failure, Signal):
        return 1
    # Every other signal is weaker than the request to skip: it asks for another attempt.
    return 2 + _SIGNALS.index(type(failure)) if type(failure) in _SIGNALS else 9
