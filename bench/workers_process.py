"""Workers in processes against process pools: calls with some in flight, and a crash."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from statistics import median
from typing import Any

from bench.harness import Effort, clean_heap, run_loop
from bench.section import Goal, Section, Table
from penstock import WorkerDiedError, WorkerPool

__all__ = ["run"]

_EXECUTOR, _PEER = "ProcessPoolExecutor", "pebble"
_SYNC, _ASYNC, _BATCH = (
    "penstock, a sync method",
    "penstock, an async method",
    "penstock, submit all, await all",
)

_PROCESSES = 2
_IN_FLIGHT = 32
_ARGUMENT = bytes(1024)

# A crash costs a hundred times what a call does.
_CALLS_PER_CRASH = 400

_ABOUT = (
    f"{_IN_FLIGHT} callers in one event loop call a function that returns the length of a kilobyte "
    f"it was given, in {_PROCESSES} processes that the fork server has started, by the clock on "
    "the wall. A pool of penstock has two workers with `per_worker=16`. *Restart* is the time from "
    "a SIGKILL of the only worker to the first result of the next one."
)

Measured = dict[str, list[float]]
Call = Callable[[], Awaitable[int]]


class Measure:
    """The worker."""

    def size(self, data: bytes) -> int:
        return len(data)

    async def size_async(self, data: bytes) -> int:
        return len(data)

    def pid(self) -> int:
        return os.getpid()


def size(data: bytes) -> int:
    """Be what the other pools call."""
    return len(data)


def run(effort: Effort, loop: str) -> Section:
    """Measure calls in flight, and restarts."""
    measured, restarts = run_loop(_measure(effort), loop)
    share = _ratio(measured, _SYNC)
    return Section(
        name="workers-process",
        title="Workers in processes",
        about=_ABOUT,
        tables=[_calls(measured), _restarts(restarts)],
        goals=[
            Goal(
                f"process workers, {_IN_FLIGHT} in flight, 1 kB: share of ProcessPoolExecutor "
                "(at most 1/5)",
                share,
                1 / 5,
            ),
            Goal("process workers: restart after a crash, ms (at most 200)", median(restarts), 200),
        ],
    )


async def _measure(effort: Effort) -> tuple[Measured, list[float]]:
    crashes = max(1, effort.calls // _CALLS_PER_CRASH)
    # First: whoever starts the fork server decides what it has imported.
    restarts = [await _crash() for _ in range(crashes)]
    context = multiprocessing.get_context("forkserver")
    pool: WorkerPool[Any] = WorkerPool(
        Measure,
        mode="process",
        size=_PROCESSES,
        per_worker=_IN_FLIGHT // _PROCESSES,
        queue=None,
    )
    with ProcessPoolExecutor(_PROCESSES, mp_context=context) as executor:
        loop = asyncio.get_running_loop()
        contestants: dict[str, Callable[[int], Awaitable[None]]] = {
            _EXECUTOR: lambda n: _in_flight(
                lambda: loop.run_in_executor(executor, size, _ARGUMENT), n
            ),
            _SYNC: lambda n: _in_flight(lambda: pool.workers.size(_ARGUMENT), n),
            _ASYNC: lambda n: _in_flight(lambda: pool.workers.size_async(_ARGUMENT), n),
            _BATCH: lambda n: _batch(pool, n),
        }
        peer = _peer(context)
        if peer is not None:
            contestants[_PEER] = lambda n: _in_flight(
                lambda: asyncio.wrap_future(peer.schedule(size, args=[_ARGUMENT])), n
            )
        async with pool:
            measured = await _rounds(contestants, effort)
        if peer is not None:
            peer.stop()
            peer.join()
    return measured, restarts


def _peer(context: Any) -> Any:
    if find_spec(_PEER) is None:
        return None
    import pebble  # noqa: PLC0415 # pyright: ignore - optional

    return pebble.ProcessPool(_PROCESSES, context=context)


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
            # The first round starts what has to be started.
            if number:
                measured[name].append(spent)
    return measured


async def _in_flight(call: Call, count: int) -> None:
    left = count

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            assert await call() == len(_ARGUMENT)

    await asyncio.gather(*(caller() for _ in range(_IN_FLIGHT)))


async def _batch(pool: WorkerPool[Any], count: int) -> None:
    for job in [await pool.submit("size", _ARGUMENT) for _ in range(count)]:
        assert await job == len(_ARGUMENT)


async def _crash() -> float:
    """Return the milliseconds from a kill to the next result."""
    async with WorkerPool(Measure, mode="process", size=1, telemetry=False) as pool:
        before = await pool.submit(Measure.pid)
        pid = await before
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while True:
            try:
                if await (await pool.submit(Measure.pid)) != pid:
                    return (time.perf_counter() - began) * 1000
            except WorkerDiedError:
                continue


def _ratio(measured: Measured, ours: str) -> float:
    # Within a round both ran on the same mood of the machine.
    pairs = zip(measured[ours], measured[_EXECUTOR], strict=True)
    return median(mine / other for mine, other in pairs)


def _calls(measured: Measured) -> Table:
    rows = [
        (name, median(spent), 1e6 / median(spent), _ratio(measured, name))
        for name, spent in measured.items()
    ]
    return Table(("calls", "µs per call", "calls/s", f"share of {_EXECUTOR}"), rows)


def _restarts(restarts: list[float]) -> Table:
    return Table(
        ("restart", "median ms", "slowest ms"),
        [("SIGKILL to next result", median(restarts), max(restarts))],
    )
