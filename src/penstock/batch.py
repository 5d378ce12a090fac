"""Many calls at once: ``policy.gather`` and ``policy.map``."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
    Sized,
)
from contextlib import aclosing
from typing import Any, TypeVar

from penstock.errors import ConfigError
from penstock.progress import Progress, reporter
from penstock.stage import StatefulStage, name_of

__all__ = [
    "DEFAULT_CONCURRENCY",
    "Items",
    "batch_concurrency",
    "gather",
    "stream_results",
    "total_of",
]

A = TypeVar("A")
R = TypeVar("R")
Items = Iterable[A] | AsyncIterable[A]

# Enough to keep a hundred connections busy, which is what HTTP clients open by default. A policy
# with a concurrency stage brings its own number.
DEFAULT_CONCURRENCY = 100


def batch_concurrency(given: Any, stages: Sequence[Any]) -> int:
    """Return how many calls of a batch may be under way at once.

    Args:
        given: What the user asked for, from 1; None takes what the concurrency stages let in, else
            100.
        stages: The policy's stages.

    Raises:
        ConfigError: ``given`` is not a whole number of at least 1.
    """
    if given is None:
        rooms = [room for stage in stages if (room := _room_in(stage)) is not None]
        return min(rooms, default=DEFAULT_CONCURRENCY)
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        msg = f"'concurrency' must be a whole number of at least 1, or None; got {given!r}"
        raise ConfigError(msg)
    return given


async def gather(
    call: Callable[[Any], Awaitable[R]],
    items: Items[Any],
    *,
    concurrency: int,
    ordered: bool,
    return_exceptions: bool,
    progress: Progress,
) -> list[Any]:
    """Call for every item and return the results, in input or in completion order."""
    batch = _Batch(_keeping_exceptions(call) if return_exceptions else call, concurrency)
    async with aclosing(_outcomes(batch, items, progress)) as outcomes:
        done = {number: result async for number, result in outcomes}
    return [done[number] for number in sorted(done)] if ordered else list(done.values())


async def stream_results(
    call: Callable[[Any], Awaitable[R]],
    items: Items[Any],
    *,
    concurrency: int,
    return_exceptions: bool,
    progress: Progress,
) -> AsyncGenerator[Any, None]:
    """Call for every item and yield the results as they come.

    A slow reader slows the calls down: at most ``2 * concurrency`` results wait for it.
    """
    batch = _Batch(_keeping_exceptions(call) if return_exceptions else call, concurrency)
    async with aclosing(_outcomes(batch, items, progress)) as outcomes:
        async for _, result in outcomes:
            yield result


async def _outcomes(
    batch: _Batch, items: Items[Any], progress: Progress
) -> AsyncGenerator[tuple[int, Any], None]:
    report = reporter(progress, total_of(items))
    try:
        batch.start(items)
        while (outcome := await batch.next_outcome()) is not None:
            await report.advance()
            yield outcome
    finally:
        try:
            await batch.end()
        finally:
            report.close()


def _room_in(stage: Any) -> int | None:
    # A custom stage may bear the name too.
    if not isinstance(stage, StatefulStage) or name_of(stage) != "concurrency":
        return None
    # As many again as may run, so that none of the permits lies idle while others back off; from
    # the snapshot, which knows of a resize.
    limit: int = stage.snapshot()["limit"]
    options: Any = getattr(stage, "options")  # noqa: B009 - not part of the protocol
    max_queue: int | None = options.max_queue
    return limit + (limit if max_queue is None else min(limit, max_queue))


class _Batch:
    """One task that reads the items, and one for each call that is under way.

    A task per item costs a few microseconds and keeps items apart: neither a context variable nor
    a swallowed cancel of one call reaches the next.
    """

    def __init__(self, call: Callable[[Any], Awaitable[Any]], concurrency: int) -> None:
        self._call = call
        self._slots = asyncio.Semaphore(concurrency)
        self._room = asyncio.Semaphore(2 * concurrency)
        # In the order of their start, which is the order in which they are cancelled.
        self._tasks: dict[asyncio.Task[None], None] = {}
        # None, once, when the last task has ended.
        self._outcomes: asyncio.Queue[tuple[int, Any] | None] = asyncio.Queue()
        self._failed: asyncio.Task[None] | None = None
        self._is_stopped = False

    def start(self, items: Items[Any]) -> None:
        """Begin to read the items and to call."""
        source = items if isinstance(items, AsyncIterable) else _as_async(items)
        self._start(self._read(aiter(source)))

    async def next_outcome(self) -> tuple[int, Any] | None:
        """Return an item's number and its result; None after the last.

        Raises:
            BaseException: The first failure, when all other calls have ended too.
        """
        outcome = await self._outcomes.get()
        if outcome is not None:
            self._room.release()
        elif self._failed is not None:
            self._failed.result()
        return outcome

    async def end(self) -> None:
        """Cancel what is still under way and wait until it has ended."""
        self._stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, source: AsyncIterator[Any]) -> None:
        number = 0
        while True:
            await self._slots.acquire()
            await self._room.acquire()
            try:
                item = await anext(source)
            except StopAsyncIteration:
                return
            if self._is_stopped:
                # The source has swallowed the cancel.
                raise asyncio.CancelledError
            self._start(self._make(number, item))
            number += 1

    async def _make(self, number: int, item: Any) -> None:
        self._outcomes.put_nowait((number, await self._call(item)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._slots.release()
        has_failed = task.cancelled() or task.exception() is not None
        if has_failed and self._failed is None:
            self._failed = task
            self._stop()
        if not self._tasks:
            self._outcomes.put_nowait(None)

    def _stop(self) -> None:
        # Once: a second cancel would interrupt what the first one made them clean up.
        if not self._is_stopped:
            self._is_stopped = True
            for task in self._tasks:
                task.cancel()


async def _as_async(items: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for item in items:
        yield item


def total_of(items: Items[Any]) -> int | None:
    """Return how many items there are; None where nobody knows."""
    try:
        return len(items) if isinstance(items, Sized) else None
    except (TypeError, NotImplementedError):
        # It has ``__len__`` and does not know: data loaders over streams are like that.
        return None


def _keeping_exceptions(call: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    async def attempt(item: Any) -> Any:
        try:
            return await call(item)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - asked for
            # A cancel from outside comes when the batch has ended: nobody reads this then.
            return error

    return attempt
