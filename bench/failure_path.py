"""Where the time of two failures goes: stage by stage, and function by function."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import time
from functools import partial
from pathlib import Path

from bench.contestants import penstock_policy
from bench.harness import Effort, Operation, Timings, compare, run_loop
from bench.section import Section, Table
from bench.two_failures import flaky
from penstock import Policy

__all__ = ["run"]

_ABOUT = (
    "Two failures, then success, with one more stage in each row. The profile counts function "
    "calls, which weighs short functions too heavily: read it for the order, not for the µs."
)


def run(effort: Effort, loop: str) -> Section:
    """Measure the failure path in growing pipelines and profile the whole of it."""

    async def main() -> Timings:
        return await compare(_ladder(), effort)

    timings = run_loop(main(), loop)
    names = list(timings.rounds)[1:]
    added = [timings.added(name) for name in names]
    return Section(
        name="failure-path",
        title="Where a retry's time goes",
        about=_ABOUT,
        tables=[
            Table(
                columns=("pipeline", "added, µs", "more than the row above, µs"),
                rows=[
                    (name, micros, micros - before)
                    for name, micros, before in zip(names, added, [0.0, *added], strict=False)
                ],
            ),
            Table(
                columns=("function", "calls per call", "own share, %"),
                rows=run_loop(_profiled(effort.calls // 4), loop),
            ),
        ],
    )


def _ladder() -> dict[str, Operation]:
    retry = Policy("bench").with_retry(3, wait=0)
    rate = retry.with_rate(1_000_000)
    breaker = rate.with_breaker(5)
    concurrency = breaker.with_concurrency(100)
    policies = {
        "with_retry(3, wait=0)": retry,
        "... with_rate": rate,
        "... with_breaker": breaker,
        "... with_concurrency": concurrency,
        "... with_timeout": concurrency.with_timeout(5),
    }
    own_loop: dict[str, Operation] = {"a loop of one's own": _own_loop(flaky())}
    return own_loop | {name: partial(p.call, flaky()) for name, p in policies.items()}


def _own_loop(operation: Operation) -> Operation:
    async def call() -> object:
        for _ in range(2):
            try:
                return await operation()
            except ConnectionError:
                continue
        return await operation()

    return call


async def _profiled(calls: int) -> list[tuple[str, float, float]]:
    call = partial(penstock_policy().call, flaky())
    for _ in range(10):
        await call()
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for number in range(max(1, calls)):
        await call()
        if number % 50 == 0:
            await asyncio.sleep(0)
    profile.disable()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(own for _, _, own, _, _ in stats.values())
    dearest = sorted(stats.items(), key=lambda item: -item[1][2])[:15]
    return [
        (_place(*where), count / max(1, calls), 100 * own / whole)
        for where, (_, count, own, _, _) in dearest
    ]


def _place(file: str, _line: int, function: str) -> str:
    path = Path(file)
    return f"{path.parent.name}/{path.stem}: {function}" if path.suffix == ".py" else function
