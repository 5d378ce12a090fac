"""Workers on Ray against bare actors: one by one, and many calls in one."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median
from typing import Any

from bench.harness import Effort, clean_heap, run_loop
from bench.section import Goal, Section, Table
from penstock import WorkerPool

__all__ = ["run"]

_BARE = "bare: await actor.method.remote(n)"
_LIST = "bare: ray.get of a list of calls"
_CONCURRY = "concurry, blocking results of a list of calls"
_ONE = "penstock, await pool.workers.method(n)"
_MAP = "penstock, pool.map"

_ABOUT = (
    "An async method that returns its argument, in one actor on this machine, by the clock on the "
    "wall: what a call costs is Ray's way to another process and back. *One by one* awaits each "
    "result before the next call. *Many* has all results of as many calls: `map` sends a growing "
    "number of items in one call of the actor. Where Ray is not installed nothing is measured."
)

# A call is a millisecond.
_SINGLE_SHARE = 60

Measured = dict[str, list[float]]


class Echo:
    """The worker."""

    async def back(self, value: int) -> int:
        return value


def run(effort: Effort, loop: str) -> Section:
    """Measure both ways of working with an actor."""
    single: Measured = {}
    many: Measured = {}
    if find_spec("ray") is not None:
        with _ray() as ray:
            single, many = run_loop(_measure(ray, effort), loop)
    peer = _CONCURRY if _CONCURRY in many else _LIST
    return Section(
        name="workers-ray",
        title="Workers on Ray",
        about=_ABOUT,
        tables=[_table("one by one", single, _BARE), _table("many", many, _MAP)],
        goals=[
            Goal(
                "Ray workers, one by one: share of the peer, bare actor calls (at most 1.2)",
                _ratio(single, _ONE, _BARE),
                1.2,
            ),
            Goal(
                f"Ray workers, map: share of the peer, {peer} (at most 0.1)",
                _ratio(many, _MAP, peer),
                0.1,
            ),
        ],
    )


@contextmanager
def _ray() -> Any:
    ray = importlib.import_module("ray")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        logging_level="error",
    )
    try:
        yield ray
    finally:
        ray.shutdown()


async def _measure(ray: Any, effort: Effort) -> tuple[Measured, Measured]:
    actor = ray.remote(Echo).remote()
    # Short rounds, so that both meet the same mood of the machine.
    rounds = 3 * effort.rounds
    singles, calls = max(5, effort.calls // _SINGLE_SHARE), max(50, effort.calls)
    async with WorkerPool(Echo, size=1, mode="ray", queue=None) as pool:
        single = await _rounds(
            {
                _BARE: lambda n: _one_by_one(actor.back.remote, n),
                _ONE: lambda n: _one_by_one(pool.workers.back, n),
            },
            rounds,
            singles,
        )
        many = await _rounds(
            {
                _LIST: lambda n: _listed(ray, actor, n),
                _MAP: lambda n: _mapped(pool, n),
                **_concurry(),
            },
            max(2, effort.rounds // 3),
            calls,
        )
    return single, many


def _concurry() -> dict[str, Callable[[int], Awaitable[None]]]:
    """Return the peer on Ray, where it is installed."""
    if find_spec("concurry") is None:
        return {}
    worker = importlib.import_module("concurry").Worker
    made = type("Echo", (worker,), {"back": _back}).options(mode="ray").init()

    async def listed(count: int) -> None:
        futures = [made.back(number) for number in range(count)]
        assert [future.result() for future in futures] == [*range(count)]

    return {_CONCURRY: listed}


def _back(_self: object, value: int) -> int:
    return value


async def _rounds(
    contestants: dict[str, Callable[[int], Awaitable[None]]], rounds: int, calls: int
) -> Measured:
    measured: Measured = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name in [*contestants] if number % 2 == 0 else [*reversed(contestants)]:
            with clean_heap():
                began = time.perf_counter_ns()
                await contestants[name](calls)
                spent = (time.perf_counter_ns() - began) / 1000 / calls
            # The first round starts what the others use.
            if number:
                measured[name].append(spent)
    return measured


async def _one_by_one(call: Callable[[int], Awaitable[int]], count: int) -> None:
    for number in range(count):
        assert await call(number) == number


async def _listed(ray: Any, actor: Any, count: int) -> None:
    await asyncio.sleep(0)
    assert ray.get([actor.back.remote(number) for number in range(count)]) == [*range(count)]


async def _mapped(pool: WorkerPool[Echo], count: int) -> None:
    results = [result async for result in pool.map("back", range(count))]
    assert results == [*range(count)]


def _ratio(measured: Measured, ours: str, theirs: str) -> float | None:
    if ours not in measured:
        return None
    # Within a round both ran on the same mood of the machine.
    pairs = zip(measured[ours], measured[theirs], strict=True)
    return median(mine / other for mine, other in pairs)


def _table(way: str, measured: Measured, first: str) -> Table:
    rows = [
        (name, median(spent), _ratio(measured, name, first)) for name, spent in measured.items()
    ]
    return Table(
        columns=[way, "µs per call", f"share of {first}"],
        rows=rows or [("Ray is not installed", None, None)],
    )
