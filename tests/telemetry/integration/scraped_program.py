"""A program that serves its metrics to Prometheus, and calls under policies until stdin ends.

It tells the port that the metrics are served on.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from itertools import count
from typing import Any

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from penstock import Policy, Pool, SkipTask, WorkerPool, telemetry

keys = Pool({"one": "sk-1", "two": "sk-2", "three": "sk-3"}, name="keys")
search = (
    Policy("search")
    .with_retry(2, wait=0.01)
    .with_rate("50/s")
    .with_concurrency(1)
    .rotating(keys, inject=None)
)
mail = Policy("mail").with_breaker(failures=1, recover_after=3600)
spent = Pool({"only": "sk-4"}, name="spent")

numbers = count()


async def ask() -> None:
    """Take 20 ms, and fail every fourth time."""
    await asyncio.sleep(0.02)
    if next(numbers) % 4 == 0:
        raise ConnectionError


async def fail() -> None:
    """Fail at once."""
    raise ConnectionError


async def ended(awaitable: Any) -> None:
    """Wait until a call has ended, however it did."""
    with suppress(Exception):
        await awaitable


class Turbine:
    """A worker whose every fourth job is dropped."""

    async def turn(self) -> None:
        """Take 20 ms."""
        await asyncio.sleep(0.02)
        if next(numbers) % 4 == 0:
            raise SkipTask


async def hand_in(pool: WorkerPool[Turbine]) -> None:
    """Hand in jobs without end: some always wait in line."""
    while True:
        jobs = [await pool.submit(Turbine.turn) for _ in range(8)]
        await asyncio.gather(*jobs, return_exceptions=True)


async def one_after_another() -> None:
    """Call without end: one of these always waits in line."""
    while True:
        await ended(search.call(ask))
        # The first one opens the circuit, the others are refused.
        await ended(mail.call(fail))
        # If all of them are refused, stdin is still looked at.
        await asyncio.sleep(0)


async def main() -> None:
    """Bring pools into the states that are asked for, and call until stdin ends."""
    meters = MeterProvider([PrometheusMetricReader()])
    metrics.set_meter_provider(meters)
    server, _ = start_http_server(0, "127.0.0.1")
    telemetry.watch(spent)
    async with keys.lease() as lease:
        lease.cooldown(3600)
    keys.disable("three", reason="revoked")
    spent.disable("only", reason="its quota is used up")
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    async with WorkerPool(Turbine, size=2, name="turbines") as turbines:
        callers = [asyncio.create_task(one_after_another()) for _ in range(4)]
        callers.append(asyncio.create_task(hand_in(turbines)))
        await asyncio.to_thread(sys.stdin.read)
        for caller in callers:
            caller.cancel()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    asyncio.run(main())
