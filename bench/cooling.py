"""All but one of a large pool at rest: whether those who cannot serve are looked at."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from bench.harness import Effort, Operation, Timings, compare, run_loop
from bench.pools import HAS_ROTAPOOL, among, ids, rotapool_of, served, with_keys
from bench.section import Cell, Goal, Section, Table
from penstock import Pool
from penstock.pools.options import PICKS

__all__ = ["run"]

_FEW, _REST = "three ready", "one ready"

_ABOUT = (
    "`pool.run` of a coroutine function that returns at once: in a pool of three that are all "
    "ready, and in one of {count:,} of which all but one cool down. What a call adds, in µs."
)

_HOUR = 3600.0
_MOST_OF_PEER = 200


def run(effort: Effort, loop: str) -> Section:
    """Measure every picker with next to everybody at rest."""

    async def main() -> dict[str, Timings]:
        return {pick: await compare(await _pools(pick, effort), effort) for pick in PICKS}

    ours = run_loop(main(), loop)
    rows = [_row(name, timings) for name, timings in ours.items()]
    if HAS_ROTAPOOL:
        few = replace(effort, rounds=min(effort.rounds, 5), calls=min(effort.calls, _MOST_OF_PEER))
        rows.append(_row("rotapool", run_loop(_peer(few), loop)))
    ratios = {pick: timings.ratio(_REST, _FEW) for pick, timings in ours.items()}
    worst = max(ratios, key=ratios.__getitem__)
    return Section(
        name="cooling",
        title="All but one cooling down",
        about=_ABOUT.format(count=effort.resources),
        tables=[Table(columns=("picker", _FEW, _REST, "ratio"), rows=rows)],
        goals=[
            Goal(
                f"all but one cooling, '{pick}' ({which}): multiple of three ready (at most 2)",
                ratios[pick],
                2.0,
            )
            for pick, which in ((PICKS[0], "the default"), (worst, "the worst"))
        ],
    )


async def _pools(pick: str, effort: Effort) -> dict[str, Operation]:
    few, rest = await among(3, pick), Pool(ids(effort.resources), pick=pick)
    for _ in range(effort.resources - 1):
        async with rest.lease() as lease:
            lease.cooldown(_HOUR)
    assert rest.health().ready == 1
    if pick == "sticky":
        return {_FEW: with_keys(few), _REST: with_keys(rest)}
    return {_FEW: partial(few.run, served), _REST: partial(rest.run, served)}


async def _peer(effort: Effort) -> Timings:
    few, rest = rotapool_of(3), rotapool_of(effort.resources, cooling=effort.resources - 1)
    return await compare({_FEW: partial(few.run, served), _REST: partial(rest.run, served)}, effort)


def _row(name: str, timings: Timings) -> list[Cell]:
    return [name, timings.added(_FEW), timings.added(_REST), timings.ratio(_REST, _FEW)]
