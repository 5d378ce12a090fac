"""The same without the timeout: what the stages cost that need no event loop."""

from __future__ import annotations

from bench.contestants import PENSTOCK, contestants
from bench.five_stages import table_of
from bench.harness import Effort, Timings, compare, run_loop, succeed
from bench.section import Goal, Section

__all__ = ["run"]


def run(effort: Effort, loop: str) -> Section:
    """Measure success without a timeout."""

    async def main() -> Timings:
        return await compare(contestants(succeed, bounded=False), effort)

    timings = run_loop(main(), loop)
    return Section(
        name="four-stages",
        title="Four stages, success",
        about="Retry, rate limit, breaker and concurrency limit; otherwise as above.",
        tables=[table_of(timings)],
        goals=[Goal("four stages, no timeout: added µs", timings.added(PENSTOCK), 1.5)],
    )
