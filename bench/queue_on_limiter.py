"""Many tasks in line on one limiter: CPU per admitted call, order, and memory per waiter."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from statistics import median
from typing import Any

from aiolimiter import AsyncLimiter

from bench.harness import Effort, clean_heap, run_loop
from bench.section import Goal, Section, Table
from penstock import Policy
from penstock.testing import VirtualTimeLoop

__all__ = ["run"]

_RATE = 5000
_WINDOW, _EVEN = f"penstock, with_rate({_RATE})", f"penstock, with_rate({_RATE}, burst=1)"
_AIO_BURST, _AIO_EVEN = f"aiolimiter, ({_RATE}, 1 s)", f"aiolimiter, (1, {1 / _RATE:g} s)"

# Evenly spaced, its rounding never ends in virtual time: the timer it sets is for this very moment.
_REAL_TIME_ONLY = (_AIO_BURST, _AIO_EVEN)

_ABOUT = (
    "{tasks} tasks are started at once, each one call through one limiter of 5000 a second, and "
    "awaited, in {time} time. *CPU* is the process's CPU time from the first `create_task` to the "
    "last result, divided by the tasks: creating, waking and ending the task is in it, and the "
    "same with no limiter is shown for comparison. With a window (or a full bucket) 5000 start at "
    "once, and then as many in each following second; evenly spaced, every start needs a wake-up "
    "of the event loop of its own."
)

_MEMORY = (
    "Memory of one queued call, by `tracemalloc`: all blocks that Python has allocated since "
    "before the tasks were created, once all of them wait, divided by their number. It holds "
    "the `asyncio.Task` with its context, the coroutine frames, the future and whatever the "
    "limiter keeps. *Without asyncio* takes off what a task costs that awaits a bare future."
)

# Each turns an operation into what one task runs.
Limit = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Coroutine[Any, Any, Any]]


@dataclass(slots=True)
class _Drained:
    micros: float
    in_order: bool
    seconds: float


def run(effort: Effort, loop: str) -> Section:
    """Queue everybody's tasks, and look at the time, the order and the memory."""
    real = effort.real_rounds > 0
    drained = _drain_all(effort, loop if real else "virtual")
    sizes = {name: _run(_held_by(limits, effort.tasks), loop) for name, limits in _IDLE.items()}
    floor = sizes["nothing but the future"]
    micros = {name: median(d.micros for d in runs) for name, runs in drained.items()}
    return Section(
        name="queue",
        title=f"{effort.tasks:,} tasks queued on one limiter",
        about=_ABOUT.format(tasks=f"{effort.tasks:,}", time="real" if real else "virtual"),
        tables=[
            Table(
                columns=("limiter", "CPU per call, µs", "first come, first served", "took, s"),
                rows=[
                    (name, micros[name], _yes(all(d.in_order for d in runs)), runs[-1].seconds)
                    for name, runs in drained.items()
                ],
            ),
            Table(
                columns=("waits on", "bytes per waiter", "without asyncio"),
                rows=[(name, round(size), round(size - floor)) for name, size in sizes.items()],
                caption=_MEMORY,
            ),
        ],
        goals=[
            Goal("queued calls, with_rate(5000): CPU µs per call", micros[_WINDOW], 25.0),
            Goal("queued calls, with_rate(5000, burst=1): CPU µs per call", micros[_EVEN], 25.0),
            Goal(
                "queued calls served out of order (0 or 1)",
                float(not all(d.in_order for d in drained[_WINDOW] + drained[_EVEN])),
                0.0,
            ),
            Goal(
                "queued calls: bytes per waiter without asyncio's", sizes["penstock"] - floor, 1300
            ),
        ],
    )


def _penstock(**options: Any) -> Callable[[], Limit]:
    def build() -> Limit:
        policy = Policy("bench").with_rate(**options)
        return policy.call

    return build


def _aiolimiter(amount: float, seconds: float) -> Callable[[], Limit]:
    def build() -> Limit:
        limiter = AsyncLimiter(amount, seconds)

        async def limited(operation: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
            async with limiter:
                return await operation()

        return limited

    return build


def _nothing() -> Limit:
    return lambda operation: operation()


_BUSY: dict[str, Callable[[], Limit]] = {
    _WINDOW: _penstock(rate=_RATE),
    _EVEN: _penstock(rate=_RATE, burst=1),
    _AIO_BURST: _aiolimiter(_RATE, 1),
    _AIO_EVEN: _aiolimiter(1, 1 / _RATE),
    "no limiter": _nothing,
}

# Nobody's turn comes while they are weighed.
_IDLE: dict[str, Callable[[], Limit]] = {
    "penstock": _penstock(rate="1/day"),
    "penstock, burst=1": _penstock(rate="1/day", burst=1),
    "aiolimiter": _aiolimiter(1, 86_400),
    "nothing but the future": lambda: _await_future,
}


async def _await_future(_operation: object) -> None:
    await asyncio.get_running_loop().create_future()


def _drain_all(effort: Effort, loop: str) -> dict[str, list[_Drained]]:
    names = [name for name in _BUSY if loop != "virtual" or name not in _REAL_TIME_ONLY]
    drained: dict[str, list[_Drained]] = {name: [] for name in names}
    for number in range(max(1, effort.real_rounds)):
        # Evenly spaced, aiolimiter takes several times as long as was asked for: once is enough.
        present = [name for name in names if number == 0 or name != _AIO_EVEN]
        for name in present if number % 2 == 0 else reversed(present):
            with clean_heap():
                drained[name].append(_run(_drain(_BUSY[name], effort.tasks), loop))
    return drained


async def _drain(build: Callable[[], Limit], count: int) -> _Drained:
    loop, limit, order = asyncio.get_running_loop(), build(), []

    def numbered(number: int) -> Callable[[], Coroutine[Any, Any, None]]:
        async def operation() -> None:
            order.append(number)

        return operation

    operations = [numbered(number) for number in range(count)]
    started, began = loop.time(), time.process_time_ns()
    tasks = [loop.create_task(limit(operation)) for operation in operations]
    for task in tasks:
        await task
    spent = (time.process_time_ns() - began) / 1000 / count
    return _Drained(spent, order == sorted(order), loop.time() - started)


async def _held_by(build: Callable[[], Limit], count: int) -> float:
    limit, loop = build(), asyncio.get_running_loop()
    first = loop.create_task(limit(_return))
    await asyncio.sleep(0)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tasks = [loop.create_task(limit(_return)) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not any(task.done() for task in tasks)
    for task in (first, *tasks):
        task.cancel()
    await asyncio.gather(first, *tasks, return_exceptions=True)
    return (held - before) / count


async def _return() -> None:
    return None


def _run(main: Coroutine[Any, Any, Any], loop: str) -> Any:
    if loop != "virtual":
        return run_loop(main, loop)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def _yes(fact: bool) -> str:  # noqa: FBT001 - a word for it
    return "yes" if fact else "no"
