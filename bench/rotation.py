"""A pool of three resources on success: the price of having somebody choose the key."""

from __future__ import annotations

from functools import partial

from bench.five_stages import table_of
from bench.harness import Effort, Operation, Timings, compare, run_loop
from bench.pools import HAS_ROTAPOOL, ids, rotapool_of, served
from bench.section import Goal, Section
from penstock import Policy, Pool

__all__ = ["run"]

_PENSTOCK, _PEER = "penstock, pool.run(fn)", "rotapool, pool.run(fn)"

_ABOUT = (
    "A coroutine function that returns at once is given one of three resources. Both pools cancel "
    "the younger uses of a resource that turns out to be rate limited, which is their default: "
    "rotapool makes a task of each attempt for it, penstock cancels the task that runs the call "
    "and takes the cancel back. *A held lease* is `async with pool.lease()` round the bare call."
)


def run(effort: Effort, loop: str) -> Section:
    """Measure the ways to use a pool, with and against the peer."""

    async def main() -> Timings:
        return await compare(_contestants(), effort)

    timings = run_loop(main(), loop)
    return Section(
        name="rotation",
        title="A pool of three resources, success",
        about=_ABOUT,
        tables=[table_of(timings, _PENSTOCK)],
        goals=[
            Goal(
                "pool.run, three resources: share of the peer rotapool (at most 1/4)",
                timings.ratio(_PENSTOCK, _PEER) if HAS_ROTAPOOL else None,
                1 / 4,
            )
        ],
    )


def _contestants() -> dict[str, Operation]:
    pool = Pool(ids(3))
    everybody: dict[str, Operation] = {
        _PENSTOCK: partial(pool.run, served),
        "penstock, cancel_younger=False": partial(Pool(ids(3), cancel_younger=False).run, served),
        "penstock, @pool.rotated": Pool(ids(3)).rotated(served),
        "penstock, policy.rotating(pool)": partial(
            Policy("bench").rotating(Pool(ids(3))).call, served
        ),
        "penstock, a held lease": partial(_held, Pool(ids(3))),
    }
    if HAS_ROTAPOOL:
        everybody[_PEER] = partial(rotapool_of(3).run, served)
    return everybody


async def _held(pool: Pool[str]) -> int:
    async with pool.lease() as lease:
        return await served(lease.resource)
