"""Workers in threads against an executor of one thread: many jobs at once, and one by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from bench.harness import Effort, clean_heap, run_loop
from bench.section import Goal, Section, Table
from penstock import WorkerPool

__all__ = ["run"]

_EXECUTOR = "ThreadPoolExecutor(1)"
_LOOP = "the same, run_in_executor"
_WIDE, _NARROW = "penstock, per_worker=64", "penstock, per_worker=1"
_ASYNC = "penstock, an async method, per_worker=64"
_NO_THREAD = "penstock, asyncio mode (no thread), per_worker=64"

# So many calls are in the worker's inbox at most: as with the executor, whose inbox has no bound,
# the thread finds the next one without being woken for it.
_WIDE_CALLS = 64

_ABOUT = (
    "A sync method that returns its argument, called in one thread, by the clock on the wall: two "
    "threads take turns here, and waiting for a turn counts. *Batch* hands in all jobs and then "
    "takes all results; with the executor alone that is done without an event loop. *One by one* "
    "awaits each result before the next call. A worker with `per_worker=1`, the default, is given "
    "a job when it has ended the one before, so that its batch is one by one as well: the way to "
    "the thread and back for each. *No thread* is what the pool itself costs: line, policy, worker "
    "and counts."
)

Measured = dict[str, list[float]]


class Echo:
    """The worker."""

    def back(self, value: int) -> int:
        return value

    async def back_async(self, value: int) -> int:
        return value


def run(effort: Effort, loop: str) -> Section:
    """Measure both ways of working with a thread."""
    batch, single = run_loop(_measure(effort), loop)
    return Section(
        name="workers-thread",
        title="Workers in threads",
        about=_ABOUT,
        tables=[_table("batch", batch), _table("one by one", single)],
        goals=[
            Goal(
                "thread workers, batch: share of ThreadPoolExecutor(1) (at most 1.5)",
                _ratio(batch, _WIDE, _EXECUTOR),
                1.5,
            ),
            Goal(
                "thread workers, one by one: share of ThreadPoolExecutor(1) (at most 1.5)",
                _ratio(single, _NARROW, _LOOP),
                1.5,
            ),
        ],
    )


async def _measure(effort: Effort) -> tuple[Measured, Measured]:
    wide = WorkerPool(Echo, size=1, mode="thread", per_worker=_WIDE_CALLS, queue=None)
    narrow = WorkerPool(Echo, size=1, mode="thread", queue=None)
    no_thread = WorkerPool(Echo, size=1, per_worker=_WIDE_CALLS, queue=None)
    with ThreadPoolExecutor(1) as executor:
        async with wide, narrow, no_thread:
            loop = asyncio.get_running_loop()
            batch = await _rounds(
                {
                    _EXECUTOR: lambda n: _through_executor(executor, n),
                    _LOOP: lambda n: _awaited(
                        [loop.run_in_executor(executor, Echo().back, i) for i in range(n)]
                    ),
                    _WIDE: lambda n: _through(wide, "back", n),
                    _ASYNC: lambda n: _through(wide, "back_async", n),
                    _NARROW: lambda n: _through(narrow, "back", n),
                    _NO_THREAD: lambda n: _through(no_thread, "back_async", n),
                },
                effort,
            )
            single = await _rounds(
                {
                    _LOOP: lambda n: _one_by_one(
                        lambda i: loop.run_in_executor(executor, Echo().back, i), n
                    ),
                    _NARROW: lambda n: _one_by_one(narrow.workers.back, n),
                    "penstock, an async method": lambda n: _one_by_one(
                        narrow.workers.back_async, n
                    ),
                },
                effort,
            )
    return batch, single


async def _rounds(
    contestants: dict[str, Callable[[int], Awaitable[None]]], effort: Effort
) -> Measured:
    measured: Measured = {name: [] for name in contestants}
    for number in range(effort.rounds + 1):
        order = [*contestants] if number % 2 == 0 else [*reversed(contestants)]
        for name in order:
            with clean_heap():
                began = time.perf_counter_ns()
                await contestants[name](effort.calls)
                spent = (time.perf_counter_ns() - began) / 1000 / effort.calls
            # The first round finds out what everybody has to import and to cache.
            if number:
                measured[name].append(spent)
    return measured


async def _through_executor(executor: ThreadPoolExecutor, count: int) -> None:
    worker = Echo()
    futures = [executor.submit(worker.back, number) for number in range(count)]
    assert [future.result() for future in futures] == [*range(count)]


async def _through(pool: WorkerPool[Echo], method: str, count: int) -> None:
    await _awaited([await pool.submit(method, number) for number in range(count)])


async def _awaited(futures: list[Any]) -> None:
    assert [await future for future in futures] == [*range(len(futures))]


async def _one_by_one(call: Callable[[int], Any], count: int) -> None:
    for number in range(count):
        assert await call(number) == number


def _ratio(measured: Measured, ours: str, theirs: str) -> float:
    # Within a round both ran on the same mood of the machine.
    pairs = zip(measured[ours], measured[theirs], strict=True)
    return median(mine / other for mine, other in pairs)


def _table(way: str, measured: Measured) -> Table:
    first = next(iter(measured))
    rows = [
        (name, median(spent), _ratio(measured, name, first)) for name, spent in measured.items()
    ]
    return Table((way, "µs per job", f"share of {first}"), rows)
