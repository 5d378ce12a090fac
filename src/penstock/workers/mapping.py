"""``pool.map``: a job per item, a bounded number of them at a time, results as they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any, NamedTuple

from penstock import clock
from penstock.batch import Items, total_of
from penstock.progress import Progress, reporter
from penstock.verdict import Signal
from penstock.workers.chunks import Pace, outcomes_of
from penstock.workers.job import Job

__all__ = ["MapOptions", "results_of"]

Submit = Callable[[Any], Awaitable[Job[Any]]]


class MapOptions(NamedTuple):
    """How a map goes on.

    Attributes:
        window: Most items that are under way or wait to be read.
        calls: Most calls that are under way, where several items go into one.
        ordered: Results in the order of the items, or as they come.
        return_exceptions: Whether an error takes its item's place.
        progress: As for ``policy.gather``.
    """

    window: int
    calls: int
    ordered: bool
    return_exceptions: bool
    progress: Progress


async def results_of(
    submit: Submit, items: Items[Any], options: MapOptions, pace: Pace | None
) -> AsyncGenerator[Any, None]:
    """Yield the results.

    Args:
        submit: Hands in the job of an item; with ``pace``, of a list of items.
        items: What there is to do; read as far as the window reaches.
        options: How.
        pace: How many items a job has; None for one each.
    """
    window = _Window(submit, options, pace)
    report = reporter(options.progress, total_of(items))
    try:
        window.open(items)
        while (outcome := await window.next_outcome()) is not None:
            ok, value = outcome
            if not (ok or options.return_exceptions):
                raise value
            await report.advance()
            yield value
    finally:
        try:
            await window.close()
        finally:
            report.close()
            # Their frames hold this one: together they would be a cycle.
            del window
            value = outcome = None


class _Window:
    """Reads items, hands in their jobs, and has their outcomes read."""

    def __init__(self, submit: Submit, options: MapOptions, pace: Pace | None) -> None:
        self._submit = submit
        self._ordered = options.ordered
        self._pace = pace
        self._places = asyncio.Semaphore(options.window)
        self._most_in_chunk = max(1, options.window // 2)
        # So that chunks grow before all places are taken by small ones.
        self._calls = asyncio.Semaphore(options.calls)
        # Handed in and not read yet, with the items that they have.
        self._jobs: dict[Job[Any], list[Any]] = {}
        # To be read next; None when the last item has been handed in.
        self._queue: asyncio.Queue[Job[Any] | None] = asyncio.Queue()
        self._ready: list[tuple[bool, Any]] = []
        self._reader: asyncio.Task[None] | None = None
        self._has_read_all = False

    def open(self, items: Items[Any]) -> None:
        """Begin to read."""
        self._reader = asyncio.create_task(self._read(items))
        self._reader.add_done_callback(lambda _: self._queue.put_nowait(None))

    async def next_outcome(self) -> tuple[bool, Any] | None:
        """Return whether an item went well, and its result or failure; None after the last.

        Raises:
            BaseException: What reading the items has failed with.
        """
        while not self._ready:
            if self._has_read_all and not self._jobs:
                return None
            job = await self._queue.get()
            if job is None:
                self._has_read_all = True
                self._reader.result()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # it was opened
            else:
                await self._take(job)
        self._places.release()
        return self._ready.pop()

    async def close(self) -> None:
        """Cancel what is under way and wait until it has ended."""
        jobs = [*self._jobs]
        self._jobs.clear()
        ending: list[asyncio.Future[Any]] = [*jobs]
        if self._reader is not None:
            ending.append(self._reader)
        for each in ending:
            each.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _take(self, job: Job[Any]) -> None:
        items = self._jobs[job]
        ok, value = await _outcome(job)
        del self._jobs[job]
        if self._pace is None:
            self._ready = [(ok, value)]
            return
        outcomes = _outcomes(items, ok, value)
        rest = items[len(outcomes) :]
        if self._ordered:
            # They come before all that was handed in since.
            while rest:
                job = await self._hand_in_at_once(rest)
                more = _outcomes(rest, *await _outcome(job))
                del self._jobs[job]
                outcomes += more
                rest = rest[len(more) :]
        elif rest:
            await self._calls.acquire()
            await self._hand_in(rest)
        self._ready = outcomes[::-1]

    async def _hand_in_at_once(self, items: list[Any]) -> Job[Any]:
        job = await self._submit(items)
        self._jobs[job] = items
        return job

    async def _read(self, items: Items[Any]) -> None:
        source = items if isinstance(items, AsyncIterable) else _as_async(items)
        chunk: list[Any] = []
        await self._places.acquire()
        async for item in source:
            if self._pace is not None and not chunk:
                await self._calls.acquire()
            chunk.append(item)
            if len(chunk) >= self._chunk_size():
                await self._hand_in(chunk)
                chunk = []
            await self._places.acquire()
        if chunk:
            await self._hand_in(chunk)

    def _chunk_size(self) -> int:
        # Never all places: else each result that is read would make room for a chunk of one.
        return 1 if self._pace is None else min(self._pace.size, self._most_in_chunk)

    async def _hand_in(self, items: list[Any]) -> None:
        job = await self._submit(items if self._pace is not None else items[0])
        self._jobs[job] = items
        if self._pace is not None:
            began = clock.now()
            pace = self._pace
            job.add_done_callback(lambda _: self._ended(pace, len(items), began))
        if self._ordered:
            self._queue.put_nowait(job)
        else:
            job.add_done_callback(self._queue.put_nowait)

    def _ended(self, pace: Pace, items: int, began: float) -> None:
        pace.took(items, began, clock.now())
        self._calls.release()


async def _outcome(job: Job[Any]) -> tuple[bool, Any]:
    task = asyncio.current_task()
    cancelling = 0 if task is None else task.cancelling()
    try:
        return True, await job
    except asyncio.CancelledError as cancelled:
        # Somebody else may have cancelled the job; whoever reads was not.
        if not job.cancelled() or (task is not None and task.cancelling() > cancelling):
            raise
        return False, cancelled
    except Exception as failure:  # noqa: BLE001 - raised, or put in the item's place
        return False, failure


def _outcomes(items: list[Any], ok: bool, value: Any) -> list[tuple[bool, Any]]:  # noqa: FBT001
    # Fewer than there are items where one has raised a signal: those after it were not begun.
    if ok:
        return outcomes_of(value)
    return [(False, value)] * (1 if isinstance(value, Signal) else len(items))


async def _as_async(items: Any) -> AsyncGenerator[Any, None]:
    for item in items:
        yield item
