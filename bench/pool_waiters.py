"""Many callers in line for few slots: who is woken when one comes back, and what that takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.harness import Effort, clean_heap, run_loop
from bench.pools import ids
from bench.section import Goal, Section, Table
from penstock import Pool, Resource

__all__ = ["run"]

_SLOTS = 10
_LINES = (10, 1_000, 10_000)
_GOAL = 1_000

_ABOUT = (
    "Ten resources that take one call each are all in use, and callers stand in line. One call "
    "ends; its resource goes to the head of the line. *Wake-ups* counts how often any of the "
    "waiting coroutines ran on until everything was quiet again: each is driven through a counter. "
    "*CPU* is from the end of that call to the quiet, event loop included; meanwhile a new caller "
    "takes the last place, unmeasured, so that the line stays as long. rotapool has no row: it "
    "refuses a call that finds every slot taken."
)


@dataclass(slots=True)
class _Line:
    wakes: list[int] = field(default_factory=list)
    micros: list[float] = field(default_factory=list)


class _Counted(Coroutine[Any, Any, Any]):
    """Runs a coroutine and counts how often it was resumed, by whomever."""

    resumed = 0

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        _Counted.resumed += 1
        return self._inner.send(value)

    def throw(self, *failure: Any) -> Any:
        _Counted.resumed += 1
        return self._inner.throw(*failure)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()


def run(effort: Effort, loop: str) -> Section:
    """Give back one slot after another, before lines of several lengths."""
    lines = {count: _Line() for count in _LINES if count <= max(_GOAL, effort.resources)}
    for number in range(max(1, effort.rounds // 3)):
        for count in lines if number % 2 == 0 else reversed(lines):
            with clean_heap():
                run_loop(_serve(count, min(effort.calls, 500), lines[count]), loop)
    cost = {count: median(line.micros) for count, line in lines.items()}
    return Section(
        name="pool-waiters",
        title="One of ten slots comes back",
        about=_ABOUT,
        tables=[
            Table(
                columns=("in line", "wake-ups, most", "CPU per return, µs"),
                rows=[(count, max(line.wakes), cost[count]) for count, line in lines.items()],
            )
        ],
        goals=[
            Goal(
                f"one of ten slots comes back: wake-ups among {_GOAL:,} waiters",
                max(lines[_GOAL].wakes),
                1,
            ),
            Goal(
                f"one of ten slots comes back: time with {_GOAL:,} in line, multiple of 10",
                cost[_GOAL] / cost[_LINES[0]],
                2.0,
            ),
        ],
    )


async def _serve(count: int, returns: int, line: _Line) -> None:
    slots = [Resource(name, max_in_flight=1) for name in ids(_SLOTS)]
    pool = Pool(slots, max_wait=3600)
    running: list[asyncio.Future[None]] = []
    loop = asyncio.get_running_loop()

    async def use(_resource: object) -> None:
        running.append(loop.create_future())
        await running[-1]

    def stand_in_line() -> asyncio.Task[None]:
        return loop.create_task(_Counted(pool.run(use)))

    tasks = [stand_in_line() for _ in range(_SLOTS + count)]
    await _quiet()
    for number in range(returns):
        assert pool.stats().waiting == count
        before = _Counted.resumed
        began = time.process_time_ns()
        running[number].set_result(None)
        await _quiet()
        line.micros.append((time.process_time_ns() - began) / 1000)
        # The call that ended was resumed too: it is no waiter.
        line.wakes.append(_Counted.resumed - before - 1)
        tasks.append(stand_in_line())
        await _quiet()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _quiet() -> None:
    for _ in range(4):
        await asyncio.sleep(0)
