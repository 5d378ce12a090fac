"""Jobs as arguments of jobs: they are awaited first, and their results take their places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from penstock.errors import PolicyError
from penstock.workers.job import Job

if TYPE_CHECKING:
    from penstock.workers.line import Line

__all__ = ["Inputs", "jobs_in"]

_CONTAINERS: frozenset[Any] = frozenset({list, tuple, set, frozenset, dict})
_MAY_HOLD = _CONTAINERS | {Job}


def jobs_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Job[Any]] | None:
    """Return the jobs among arguments, in lists, tuples, dicts and sets too; None without any.

    Arguments that hold many values are looked through at the speed of ``set(map(type, values))``.
    """
    if _MAY_HOLD.isdisjoint(map(type, args)) and (
        not kwargs or _MAY_HOLD.isdisjoint(map(type, kwargs.values()))
    ):
        return None
    found: list[Job[Any]] = []
    seen: set[int] = set()
    _find(args, found, seen)
    if kwargs:
        _find(kwargs.values(), found, seen)
    return found or None


def _find(values: Iterable[Any], found: list[Job[Any]], seen: set[int]) -> None:
    if _MAY_HOLD.isdisjoint(map(type, values)):
        return
    for value in values:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is Job:
            found.append(value)
        # What holds itself is looked at once.
        elif kind in _CONTAINERS and id(value) not in seen:
            seen.add(id(value))
            _find(value.values() if kind is dict else value, found, seen)


class Inputs:
    """A job that waits for the jobs that its arguments come from.

    Args:
        line: What it joins then.
        job: Who waits.
        inputs: What it waits for; the first that fails fails it.
    """

    __slots__ = ("_job", "_line", "_missing")

    def __init__(self, line: Line, job: Job[Any], inputs: list[Job[Any]]) -> None:
        self._line = line
        self._job = job
        self._missing: set[asyncio.Future[Any]] = {*inputs}

    def wait(self) -> None:
        """Hold the job back until all its inputs are there.

        Raises:
            PolicyError: An input belongs to another event loop.
        """
        if any(job.get_loop() is not self._line.loop for job in self._missing):
            raise PolicyError(
                "a job is an argument of jobs in its own event loop; await it there, "
                "and pass its result"
            )
        self._line.hold_back(self._job)
        for job in [*self._missing]:
            job.add_done_callback(self._arrived)

    def _arrived(self, done: asyncio.Future[Any]) -> None:
        job = self._job
        if job.done():
            return
        if done.cancelled():
            job.cancel()
        elif (failure := done.exception()) is not None:
            self._line.give_up(job, failure)
        else:
            self._missing.discard(done)
            if not self._missing:
                self._begin()

    def _begin(self) -> None:
        job = self._job
        try:
            args = tuple(_replaced(value) for value in job.args)
            kwargs = {name: _replaced(value) for name, value in job.kwargs.items()}
        # A set of jobs whose results cannot be in a set, or what holds itself.
        except (TypeError, RecursionError) as failure:
            self._line.give_up(job, failure)
            return
        job.args, job.kwargs = args, kwargs
        self._line.let_go(job)


_MAKES: dict[Any, Callable[[Any], Any]] = {
    list: lambda value: [_replaced(item) for item in value],
    tuple: lambda value: tuple(_replaced(item) for item in value),
    set: lambda value: {_replaced(item) for item in value},
    frozenset: lambda value: frozenset(_replaced(item) for item in value),
    dict: lambda value: {key: _replaced(item) for key, item in value.items()},
}


def _replaced(value: Any) -> Any:
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is Job:
        return value.result()
    make = _MAKES.get(kind)
    return value if make is None else make(value)
