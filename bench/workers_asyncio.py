"""Workers in the event loop: jobs by the batch and one by one, in line, and in reverse order."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from statistics import median
from typing import Any

from bench.harness import Effort, clean_heap, run_loop
from bench.section import Goal, Section, Table
from penstock import WorkerPool

__all__ = ["run"]

_BATCH, _DIRECT = "penstock, submit, then await all", "penstock, pool.workers.back(i)"
_MAPPED, _TASKS = "penstock, pool.map", "asyncio.create_task of a coroutine, no pool"
_FOREMAN, _CONCURRY = "taskforeman, enqueue, then join", "concurry, call, then await all"

_ABOUT = (
    "Four workers of the default options in asyncio mode, an async method that returns its "
    "argument; CPU time of the whole process. *Submit* hands in all jobs and then takes all "
    "results, each through the line, its policy and a worker that is picked for it. taskforeman "
    "hands back no results, and runs without its rate limit. concurry has one worker: it takes no "
    "more in this mode."
)

Measured = dict[str, list[float]]


class Echo:
    """The worker."""

    async def back(self, value: Any) -> Any:
        return value

    async def wait(self, gate: asyncio.Future[None]) -> None:
        await gate


def run(effort: Effort, loop: str) -> Section:
    """Measure jobs in the event loop, with and against the peers that are installed."""
    measured = run_loop(_measure(effort), loop)
    forward, backward = run_loop(_both_orders(effort), loop)
    size = run_loop(_memory(effort), loop)
    figures = {name: median(spent) for name, spent in measured.items()}
    return Section(
        name="workers-asyncio",
        title="Workers in the event loop",
        about=_ABOUT,
        tables=[
            Table(
                ("way", "µs per job", f"share of {_TASKS}"),
                [(name, spent, spent / figures[_TASKS]) for name, spent in figures.items()],
            ),
            Table(
                ("jobs that finish", "µs per job"),
                [("in the order of their start", forward), ("in reverse order", backward)],
            ),
            Table(("what waits", "bytes"), [("a job with one argument, its own included", size)]),
        ],
        goals=[
            Goal("asyncio workers, batch: µs per job (at most 10)", figures[_BATCH], 10),
            Goal("asyncio workers, no wait in line: µs per job (at most 6)", figures[_DIRECT], 6),
            Goal(
                "asyncio workers, reverse order: share of forward (at most 1.5)",
                backward / forward,
                1.5,
            ),
            Goal("asyncio workers: bytes per queued job (at most 600)", size, 600),
        ],
    )


async def _measure(effort: Effort) -> Measured:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(WorkerPool(Echo, queue=None))
        contestants: dict[str, Callable[[int], Awaitable[None]]] = {
            _BATCH: lambda count: _submitted(pool, count),
            _DIRECT: lambda count: _called(pool, count),
            _MAPPED: lambda count: _mapped(pool, count),
            _TASKS: _tasks,
        }
        if find_spec("taskforeman") is not None:
            contestants[_FOREMAN] = await _foreman(stack)
        if find_spec("concurry") is not None:
            contestants[_CONCURRY] = _concurry(stack)
        return await _rounds(contestants, effort)


async def _rounds(
    contestants: dict[str, Callable[[int], Awaitable[None]]], effort: Effort
) -> Measured:
    measured: Measured = {name: [] for name in contestants}
    for number in range(effort.rounds + 1):
        order = [*contestants] if number % 2 == 0 else [*reversed(contestants)]
        for name in order:
            with clean_heap():
                began = time.process_time_ns()
                await contestants[name](effort.calls)
                spent = (time.process_time_ns() - began) / 1000 / effort.calls
            # The first round finds out what everybody has to import and to cache.
            if number:
                measured[name].append(spent)
    return measured


async def _submitted(pool: WorkerPool[Echo], count: int) -> None:
    jobs = [await pool.submit("back", number) for number in range(count)]
    for job in jobs:
        await job


async def _called(pool: WorkerPool[Echo], count: int) -> None:
    for number in range(count):
        await pool.workers.back(number)


async def _mapped(pool: WorkerPool[Echo], count: int) -> None:
    async for _ in pool.map("back", range(count)):
        pass


async def _tasks(count: int) -> None:
    worker = Echo()
    tasks = [asyncio.create_task(worker.back(number)) for number in range(count)]
    for task in tasks:
        await task


async def _foreman(stack: AsyncExitStack) -> Callable[[int], Awaitable[None]]:
    import taskforeman  # noqa: PLC0415 - optional

    class Worker(taskforeman.BaseWorker):
        async def start(self) -> None:
            pass

        async def stop(self) -> None:
            pass

    async def back(_worker: Any, value: Any) -> Any:
        return value

    settings = taskforeman.WorkerPoolSettings(
        worker_start_delay=0, rpm=None, queue_maxsize=0, max_size=4
    )
    manager = await stack.enter_async_context(taskforeman.WorkerManager(Worker, settings))

    async def work(count: int) -> None:
        for number in range(count):
            await manager.enqueue(back, number)
        await manager.join()

    return work


def _concurry(stack: AsyncExitStack) -> Callable[[int], Awaitable[None]]:
    import concurry  # noqa: PLC0415 - optional

    class Worker(concurry.Worker):
        async def back(self, value: Any) -> Any:
            return value

    worker: Any = Worker.options(mode="asyncio").init()
    stack.callback(worker.stop)

    async def work(count: int) -> None:
        futures = [worker.back(number) for number in range(count)]
        for future in futures:
            await future

    return work


async def _both_orders(effort: Effort) -> tuple[float, float]:
    count = effort.tasks
    spent: dict[bool, list[float]] = {False: [], True: []}
    async with WorkerPool(Echo, size=1, per_worker=count, queue=None) as pool:
        for turn in range(min(6, 2 * effort.rounds)):
            backward = turn % 2 == 1
            spent[backward].append(await _finish(pool, count, backward=backward))
    return median(spent[False]), median(spent[True])


async def _finish(pool: WorkerPool[Echo], count: int, *, backward: bool) -> float:
    loop = asyncio.get_running_loop()
    gates = [loop.create_future() for _ in range(count)]
    jobs = [await pool.submit("wait", gate) for gate in gates]
    # All of them are running then.
    while pool.stats().queued:  # noqa: ASYNC110 - nobody tells when the line is empty
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    with clean_heap():
        began = time.process_time_ns()
        for gate in reversed(gates) if backward else gates:
            gate.set_result(None)
        for job in jobs:
            await job
        return (time.process_time_ns() - began) / 1000 / count


async def _memory(effort: Effort) -> float:
    count = effort.tasks
    async with WorkerPool(Echo, size=1, queue=None) as pool:
        gate = asyncio.get_running_loop().create_future()
        first = await pool.submit("wait", gate)
        await asyncio.sleep(0)
        # One more, so that what the first of all makes is not counted.
        jobs: list[Any] = [await pool.submit("back", 0), *[None] * count]
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(count):
                jobs[number + 1] = await pool.submit("back", number)
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        gate.set_result(None)
        await asyncio.gather(first, *jobs)
        return taken / count
