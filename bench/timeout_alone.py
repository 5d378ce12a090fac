"""The timeout stage alone: one shared timer against a timer per call."""

from __future__ import annotations

import asyncio
from functools import partial

from bench.five_stages import table_of
from bench.harness import Effort, Operation, Timings, compare, run_loop, succeed
from bench.section import Goal, Section
from penstock import Policy

__all__ = ["run"]

_PENSTOCK = "penstock, with_timeout(5)"


def run(effort: Effort, loop: str) -> Section:
    """Measure a timeout that does not pass."""

    async def main() -> Timings:
        return await compare(_contestants(), effort)

    timings = run_loop(main(), loop)
    return Section(
        name="timeout-alone",
        title="A timeout alone",
        about="A policy of one timeout stage, on a call that returns at once.",
        tables=[table_of(timings, _PENSTOCK)],
        goals=[Goal("timeout stage alone: added µs", timings.added(_PENSTOCK), 1.2)],
    )


def _contestants() -> dict[str, Operation]:
    async def with_asyncio_timeout() -> int:
        async with asyncio.timeout(5):
            return await succeed()

    async def with_wait_for() -> int:
        return await asyncio.wait_for(succeed(), 5)

    return {
        _PENSTOCK: partial(Policy("bench").with_timeout(5).call, succeed),
        "async with asyncio.timeout(5)": with_asyncio_timeout,
        "asyncio.wait_for(..., 5)": with_wait_for,
    }
