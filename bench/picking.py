"""Picking among few and among many: whether the size of a pool is felt in a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from bench.harness import Effort, Operation, Timings, compare, run_loop
from bench.pools import (
    HAS_ROTAPOOL,
    among,
    reporting,
    rotapool_of,
    served,
    with_keys,
)
from bench.section import Cell, Goal, Section, Table
from penstock.pools.options import PICKS

__all__ = ["run"]

_SIZES = (3, 100, 1_000, 10_000)
_REPORTING = "most_remaining, each answer reports"

_ABOUT = (
    "`pool.run` of a coroutine function that returns at once, in pools of four sizes in which "
    "every resource is ready and has been used before: what a call adds in each, in µs. *Sticky* "
    "is asked for a thousand keys in turn, by views made beforehand, and remembers their first "
    "choices. For *most_remaining* every resource has reported the same large quota, so that each "
    "use changes who has most; in the row below each call also reports what is left. Part of what "
    "large pools cost is the processor's cache: the next resource's records are not in it."
)

# The peer looks at every resource in every call: three milliseconds at 10,000.
_MOST_OF_PEER = 50


def run(effort: Effort, loop: str) -> Section:
    """Measure every picker in pools of all sizes, each picker's sizes in the same rounds."""
    sizes = tuple(size for size in _SIZES if size <= effort.resources)

    async def main() -> dict[str, Timings]:
        measured: dict[str, Timings] = {}
        for pick in PICKS:
            measured[pick] = await compare(await _in_sizes(pick, sizes), effort)
        measured[_REPORTING] = await compare(await _that_report(sizes), effort)
        return measured

    ours = run_loop(main(), loop)
    rows = [_row(name, timings, sizes) for name, timings in ours.items()]
    if HAS_ROTAPOOL:
        rows.append(_row("rotapool", run_loop(_peer(effort, sizes), loop), sizes))
    return Section(
        name="picking",
        title="Picking among few and among many",
        about=_ABOUT,
        tables=[
            Table(
                columns=("picker", *(f"{size:,}" for size in sizes), "last to first"),
                rows=rows,
            )
        ],
        goals=[
            Goal(
                f"pick='{pick}' at {sizes[-1]:,}: multiple of its figure at 3 (at most 2)",
                ours[pick].ratio(str(sizes[-1]), str(sizes[0])),
                2.0,
            )
            for pick in PICKS
        ],
    )


async def _in_sizes(pick: str, sizes: tuple[int, ...]) -> Mapping[str, Operation]:
    pools = {str(size): await among(size, pick) for size in sizes}
    if pick == "sticky":
        return {size: with_keys(pool) for size, pool in pools.items()}
    return {size: partial(pool.run, served) for size, pool in pools.items()}


async def _that_report(sizes: tuple[int, ...]) -> Mapping[str, Operation]:
    pools = {str(size): await among(size, "most_remaining") for size in sizes}
    return {size: partial(pool.run, reporting) for size, pool in pools.items()}


async def _peer(effort: Effort, sizes: tuple[int, ...]) -> Timings:
    pools = {str(size): partial(rotapool_of(size).run, served) for size in sizes}
    few = replace(effort, rounds=min(effort.rounds, 5), calls=min(effort.calls, _MOST_OF_PEER))
    return await compare(pools, few)


def _row(name: str, timings: Timings, sizes: tuple[int, ...]) -> list[Cell]:
    first, last = str(sizes[0]), str(sizes[-1])
    added = (timings.added(str(size)) for size in sizes)
    return [name, *added, timings.ratio(last, first)]
