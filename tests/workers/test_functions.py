"""WorkerPool.of: workers that run one function, which knows nothing of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import ConfigError
from penstock.testing import run
from penstock.workers import WorkerPool

pytestmark = pytest.mark.virtual_time


async def double(number: int, *, plus: int = 0) -> int:
    """Take a second."""
    await asyncio.sleep(1)
    return number * 2 + plus


def sync_double(number: int) -> int:
    """Take no time."""
    return number * 2


def test_a_pool_of_a_function_is_called_as_the_function():
    """Awaited, submitted and mapped."""

    async def main() -> list[Any]:
        async with WorkerPool.of(double, size=2) as pool:
            job = await pool.submit(3)
            return [
                await pool(2, plus=1),
                await job,
                await pool.submit_nowait(4),
                [result async for result in pool.map(range(5))],
                await pool(await pool.submit(5)),
            ]

    assert run(main()) == [5, 6, 8, [0, 2, 4, 6, 8], 20]


def test_a_sync_function_does_not_block_the_loop():
    """It runs in the workers' threads."""

    async def main() -> list[int]:
        async with WorkerPool.of(sync_double, size=2) as pool:
            return [await pool(1), *[item async for item in pool.map([2, 3], chunk=2)]]

    assert asyncio.run(main()) == [2, 4, 6]


def test_the_function_is_named_where_people_look():
    """Not the worker that runs it."""

    async def main() -> str:
        async with WorkerPool.of(double, size=1) as pool:
            job = await pool.submit(1)
            await job
            return repr(job)

    assert run(main()) == "<Job 'double', ended>"


@pytest.mark.parametrize("wrong", [3, "double", int])
def test_what_is_no_function_is_refused(wrong: Any):
    """When the pool is built."""
    with pytest.raises(TypeError, match="takes a function"):
        WorkerPool.of(wrong)


def test_an_async_generator_function_is_refused():
    """One result cannot hold what it makes."""

    async def items() -> Any:
        yield 1

    with pytest.raises(TypeError, match="async iterator"):
        WorkerPool.of(items)


def test_options_are_checked():
    """As for any pool of workers."""
    with pytest.raises(ConfigError, match="size"):
        WorkerPool.of(double, size=0)
