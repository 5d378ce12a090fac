"""Five stages on success: the price of a call that nothing happens to."""

from __future__ import annotations

from bench.contestants import (
    COMPOSITES,
    HAND_STACKED,
    INLINE,
    PENSTOCK,
    contestants,
)
from bench.harness import BARE, Effort, Timings, compare, run_loop, succeed
from bench.section import Goal, Section, Table

__all__ = ["run", "table_of"]

_ABOUT = (
    "Retry, rate limit, breaker, concurrency limit and attempt timeout round a coroutine "
    "function that returns at once. *Ratio* is what a contestant adds, as a multiple of what "
    "`policy.call(fn)` adds: the median of the ratios of the rounds. *Hand-stacked* is "
    "tenacity's decorator round aiolimiter, pybreaker, `asyncio.Semaphore` and "
    "`asyncio.timeout`; pybreaker has an async form for tornado alone, so `with "
    "breaker.calling():` stands round the await. hyx rejects where the others would wait for "
    "the rate. pyresilience has one fixed order. resilix has no rate limit and borrows "
    "aiolimiter's; its stages are stacked as one flat policy, its fastest form. *All inline* is "
    "one function of 50 lines with no events, classification or options."
)


def run(effort: Effort, loop: str) -> Section:
    """Measure success with and against everybody."""

    async def main() -> Timings:
        return await compare(contestants(succeed), effort)

    timings = run_loop(main(), loop)
    best = timings.cheapest(COMPOSITES)
    return Section(
        name="five-stages",
        title="Five stages, success",
        about=_ABOUT,
        tables=[table_of(timings)],
        goals=[
            Goal(
                "five stages: share of hand-stacked (at most 1/12)",
                timings.ratio(PENSTOCK, HAND_STACKED),
                1 / 12,
            ),
            Goal(
                f"five stages: share of the best composite peer, {best or 'none here'} "
                "(at most 1/3)",
                None if best is None else timings.ratio(PENSTOCK, best),
                1 / 3,
            ),
            Goal(
                "five stages: multiple of the same written inline (at most 2)",
                timings.ratio(PENSTOCK, INLINE),
                2.0,
            ),
        ],
    )


def table_of(timings: Timings, reference: str = PENSTOCK) -> Table:
    """Return everybody's cost, the cheapest first, as multiples of ``reference``."""
    names = sorted((name for name in timings.rounds if name != BARE), key=timings.added)
    return Table(
        columns=("contestant", "added, µs", "between quartiles, µs", "ratio"),
        rows=[
            (name, timings.added(name), timings.spread(name), timings.ratio(name, reference))
            for name in names
        ],
        caption=f"The bare call costs {timings.total(BARE):.3f} µs.",
    )
