"""Jobs as arguments of jobs: they are awaited first, and their results take their places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from penstock.workers.dispatcher import Dispatcher
from penstock.workers.job import Job

__all__ = ["Inputs", "jobs_in"]


def jobs_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Job[Any]] | None:
    """Return the jobs among arguments, in lists, tuples, dicts and sets too; None without any."""
    found: list[Job[Any]] = []
    for value in (*args, *kwargs.values()):
        _find(value, found)
    return found or None


def _find(value: Any, found: list[Job[Any]]) -> None:
    kind: Any = type(value)
    if kind is Job:
        found.append(value)
    elif kind is list or kind is tuple or kind is set or kind is frozenset:
        for item in value:
            _find(item, found)
    elif kind is dict:
        for item in value.values():
            _find(item, found)


class Inputs:
    """A job that waits for the jobs that its arguments come from.

    Args:
        dispatcher: Whose line it joins then.
        job: Who waits.
        inputs: What it waits for; the first that fails fails it.
    """

    __slots__ = ("_dispatcher", "_job", "_missing")

    def __init__(self, dispatcher: Dispatcher, job: Job[Any], inputs: list[Job[Any]]) -> None:
        self._dispatcher = dispatcher
        self._job = job
        self._missing = {*inputs}

    def wait(self) -> None:
        """Hold the job back until all its inputs are there."""
        self._dispatcher.hold_back(self._job)
        for job in [*self._missing]:
            job.add_done_callback(self._arrived)

    def _arrived(self, done: asyncio.Future[Any]) -> None:
        job = self._job
        if job.done():
            return
        if done.cancelled() or done.exception() is not None:
            self._dispatcher.leave(job)
            if done.cancelled():
                job.end_cancelled()
            else:
                job.set_exception(done.exception())  # type: ignore[arg-type]  # there is one
            return
        self._missing.discard(done)
        if not self._missing:
            job.args = tuple(_replaced(value) for value in job.args)
            job.kwargs = {name: _replaced(value) for name, value in job.kwargs.items()}
            self._dispatcher.let_go(job)


_MAKES: dict[type, Callable[[Any], Any]] = {
    list: lambda value: [_replaced(item) for item in value],
    tuple: lambda value: tuple(_replaced(item) for item in value),
    set: lambda value: {_replaced(item) for item in value},
    frozenset: lambda value: frozenset(_replaced(item) for item in value),
    dict: lambda value: {key: _replaced(item) for key, item in value.items()},
}


def _replaced(value: Any) -> Any:
    if type(value) is Job:
        return value.result()
    make = _MAKES.get(type(value))
    return value if make is None else make(value)
