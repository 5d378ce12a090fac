"""Five stages and a pool of eight on success: what a program with several keys pays."""

from __future__ import annotations

from functools import partial

from bench.contestants import hand_stacked, penstock_policy
from bench.five_stages import table_of
from bench.harness import Effort, Operation, Timings, compare, run_loop, succeed
from bench.pools import HAS_ROTAPOOL, ids, rotapool_of, served
from bench.section import Goal, Section

__all__ = ["run"]

_PENSTOCK = "penstock, policy.rotating(eight)"
_HAND_STACKED = "hand-stacked round rotapool"

_ABOUT = (
    "The five stages of *Five stages, success*, with one of eight resources for each attempt. "
    "*Hand-stacked* is tenacity's decorator round aiolimiter, pybreaker, `asyncio.Semaphore` and "
    "`asyncio.timeout` round rotapool's `pool.run`. Both are also shown without the resources."
)


def run(effort: Effort, loop: str) -> Section:
    """Measure success with and against what one would write by hand."""

    async def main() -> Timings:
        return await compare(_contestants(), effort)

    timings = run_loop(main(), loop)
    return Section(
        name="five-stages-rotation",
        title="Five stages and rotation over eight, success",
        about=_ABOUT,
        tables=[table_of(timings, _PENSTOCK)],
        goals=[
            Goal(
                "five stages and rotation: share of hand-stacked round the peer rotapool "
                "(at most 1/8)",
                timings.ratio(_PENSTOCK, _HAND_STACKED) if HAS_ROTAPOOL else None,
                1 / 8,
            )
        ],
    )


def _contestants() -> dict[str, Operation]:
    everybody: dict[str, Operation] = {
        _PENSTOCK: partial(penstock_policy().rotating(ids(8)).call, served),
        "penstock, @policy.rotating(eight)": penstock_policy().rotating(ids(8)).wrap(served),
        "penstock, five stages alone": partial(penstock_policy().call, succeed),
        "hand-stacked, five stages alone": hand_stacked(succeed, bounded=True),
    }
    if HAS_ROTAPOOL:
        pool = rotapool_of(8)
        everybody[_HAND_STACKED] = hand_stacked(partial(pool.run, served), bounded=True)
    return everybody
