"""Many calls at once: ``policy.gather`` and ``policy.map``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

from penstock.errors import ConfigError
from penstock.progress import Progress, reporter

__all__ = ["DEFAULT_CONCURRENCY", "Items", "batch_concurrency", "gather", "stream_results"]

A = TypeVar("A")
R = TypeVar("R")
Items = Iterable[A] | AsyncIterable[A]

# Enough to keep a hundred connections busy, which is what HTTP clients open by default. A policy
# with a concurrency stage brings its own number.
DEFAULT_CONCURRENCY = 100


def batch_concurrency(given: int | None, stages: Sequence[Any]) -> int:
    """Return how many calls of a batch may be under way at once.

    Raises:
        ConfigError: ``given`` is not a whole number of at least 1.
    """
    if given is None:
        limits = [s.options.limit for s in stages if getattr(s, "name", None) == "concurrency"]
        return min(limits, default=DEFAULT_CONCURRENCY)
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        msg = f"'concurrency' must be a whole number of at least 1, or None; got {given!r}"
        raise ConfigError(msg)
    return given


class _Source:
    """Numbers the items and hands them to several workers, one at a time."""

    def __init__(self, items: Items[Any]) -> None:
        self._plain: Iterator[Any] | None = None
        self._async: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        else:
            self._plain = iter(items)
        self._turn = asyncio.Lock()
        self._taken = 0
        self.total = len(items) if isinstance(items, Sized) else None

    def __aiter__(self) -> _Source:
        return self

    async def __anext__(self) -> tuple[int, Any]:
        if self._async is not None:
            async with self._turn:
                item = await anext(self._async)
        else:
            try:
                item = next(self._plain)  # type: ignore[arg-type]  # one of the two is set
            except StopIteration:
                raise StopAsyncIteration from None
        self._taken += 1
        return self._taken - 1, item


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
    source = _Source(items)
    attempt = _keeping_exceptions(call) if return_exceptions else call
    done: dict[int, Any] = {}
    report = reporter(progress, source.total)

    async def work() -> None:
        async for index, item in source:
            done[index] = await attempt(item)
            report.advance()

    workers = _start(work, concurrency, source.total)
    try:
        await asyncio.gather(*workers)
    finally:
        report.close()
        await _end(workers)
    return [done[index] for index in sorted(done)] if ordered else list(done.values())


async def stream_results(
    call: Callable[[Any], Awaitable[R]],
    items: Items[Any],
    *,
    concurrency: int,
    return_exceptions: bool,
    progress: Progress,
) -> AsyncIterator[Any]:
    """Call for every item and yield the results as they come.

    A slow reader slows the calls down: at most ``2 * concurrency`` results wait for it.
    """
    source = _Source(items)
    attempt = _keeping_exceptions(call) if return_exceptions else call
    room = asyncio.Semaphore(2 * concurrency)
    results: asyncio.Queue[Any] = asyncio.Queue()
    report = reporter(progress, source.total)

    async def work() -> None:
        await room.acquire()
        async for _, item in source:
            results.put_nowait(await attempt(item))
            await room.acquire()

    workers = _start(work, concurrency, source.total)
    for worker in workers:
        # The worker itself marks its end: also when it was cancelled from within.
        worker.add_done_callback(results.put_nowait)
    working = set(workers)
    try:
        while working:
            result = await results.get()
            if isinstance(result, asyncio.Task) and result in working:
                working.discard(result)
                result.result()
                continue
            room.release()
            report.advance()
            yield result
    finally:
        report.close()
        await _end(workers)


def _start(
    work: Callable[[], Coroutine[Any, Any, None]], concurrency: int, total: int | None
) -> list[asyncio.Task[None]]:
    count = concurrency if total is None else min(concurrency, total)
    return [asyncio.create_task(work()) for _ in range(count)]


async def _end(workers: list[asyncio.Task[None]]) -> None:
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


def _keeping_exceptions(call: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    async def attempt(item: Any) -> Any:
        try:
            return await call(item)
        except Exception as error:  # noqa: BLE001 - asked for with return_exceptions=True
            return error

    return attempt
