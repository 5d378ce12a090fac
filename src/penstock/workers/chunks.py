"""Many calls in one: where a call costs a millisecond, fifty of them travel together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from penstock.operation import returns_awaitable
from penstock.verdict import Signal
from penstock.workers.envelope import Envelope, sealed
from penstock.workers.target import Target

__all__ = ["Pace", "chunk_target", "outcomes_of"]

# What a call costs that travels is a percent or less of a call this long.
_SHORT, _LONG = 0.02, 0.1

# Beyond this the way costs nothing any more, and results only come later.
_MOST = 100


class Pace:
    """How many items go into one call, found out while they are served.

    Args:
        fixed: What the user has asked for; None to begin with one and adapt.
    """

    __slots__ = ("_ended_at", "_fixed", "size")

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        self._ended_at = 0.0
        self.size = fixed or 1

    @property
    def most(self) -> int:
        """The most items of one call."""
        return self._fixed or _MOST

    def took(self, items: int, began: float, now: float) -> None:
        """Note that a call of so many items, handed in at ``began``, has ended."""
        # It stood in line behind the one that has ended before it.
        seconds, self._ended_at = now - max(began, self._ended_at), now
        if self._fixed is None and items >= self.size:
            if seconds < _SHORT:
                self.size = min(_MOST, items * 2)
            elif seconds > _LONG:
                self.size = max(1, items // 2)


class _Chunk:
    """What a worker runs for a chunk; each item fails or succeeds by itself.

    An item that raises a signal ends the chunk, and is the first of the next one: a signal that
    the first of a chunk raises is the chunk's own, so that the pool hears of it.
    """

    __slots__ = ("_call", "_seals")

    def __init__(self, call: Target, seals: bool) -> None:  # noqa: FBT001 - sent as it is
        self._call = call
        self._seals = seals

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._call, self._seals)

    def _failed(self, failure: Exception, outcomes: list[Any]) -> bool:
        # True when the chunk ends here.
        if isinstance(failure, Signal):
            return True
        outcomes.append((False, sealed(failure) if self._seals else failure))
        return False


class _SyncChunk(_Chunk):
    __slots__ = ()

    def __call__(self, worker: Any, items: Sequence[Any]) -> list[Any]:
        method, outcomes = self._call.of(worker), list[Any]()
        for item in items:
            try:
                outcomes.append((True, method(item)))
            except Exception as failure:
                if self._failed(failure, outcomes):
                    if not outcomes:
                        raise
                    break
        return outcomes


class _AsyncChunk(_Chunk):
    __slots__ = ()

    async def __call__(self, worker: Any, items: Sequence[Any]) -> list[Any]:
        method, outcomes = self._call.of(worker), list[Any]()
        for item in items:
            try:
                result = method(item)
                outcomes.append((True, await result if inspect.isawaitable(result) else result))
            except Exception as failure:
                if self._failed(failure, outcomes):
                    if not outcomes:
                        raise
                    break
        return outcomes


def chunk_target(call: Target, shape: Callable[..., Any] | None, *, seals: bool) -> Target:
    """Return what calls a method for each of a list of items.

    Args:
        call: What is called for each.
        shape: What it is, where that is known.
        seals: Whether failures have to travel.
    """
    is_async = shape is None or returns_awaitable(shape)
    chunk = (_AsyncChunk if is_async else _SyncChunk)(call, seals)
    target = Target(None, chunk, chunk)
    target.operation_name = call.operation_name
    return target


def outcomes_of(answer: list[Any]) -> list[tuple[bool, Any]]:
    """Return what came of the items that were served, failures opened."""
    return [(ok, value.opened() if isinstance(value, Envelope) else value) for ok, value in answer]
