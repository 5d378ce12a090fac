"""An arq worker with the settings and the job of the recipe, and with some jobs of the tests'.

``REDIS_URL`` and ``SEARCH_URL`` are read by the recipe.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from arq import Retry, func
from arq.worker import create_worker

from penstock import Policy, RejectedError
from penstock.testing import scripted, takes
from tests.integrations.serving import stdin_ends, tell

RECIPE = Path(__file__).parents[3] / "recipes" / "25_arq_job.py"

one = Policy("one").with_timeout(20).with_concurrency(1)
fragile = Policy("fragile").with_breaker(failures=1, recover_after=0.3)
refused_at: list[float] = []


async def comes_again(ctx: dict[str, Any]) -> tuple[int, float]:
    """Be refused by an open circuit, and return how long it took to come again."""
    if not refused_at:
        with suppress(ConnectionError):
            await fragile.call(scripted(ConnectionError))
    try:
        await fragile.call(scripted("found"))
    except RejectedError as refused:
        refused_at.append(time.monotonic())
        raise Retry(defer=refused.retry_after) from refused
    return ctx["job_try"], time.monotonic() - refused_at[0]


async def too_long(_ctx: dict[str, Any]) -> None:
    """Be ended by arq's time limit."""
    await one.call(scripted(takes(20)))


async def held(_ctx: dict[str, Any]) -> dict[str, Any]:
    """Return what the policy of the job that was ended holds."""
    return one.snapshot()


async def main() -> None:
    """Run the worker until stdin ends."""
    settings = runpy.run_path(str(RECIPE))["WorkerSettings"]
    settings.functions = (*settings.functions, comes_again, held, func(too_long, timeout=0.3))
    worker = create_worker(settings, poll_delay=0.02, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    tell(os.getpid())
    await stdin_ends()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await worker.close()


if __name__ == "__main__":
    asyncio.run(main())
