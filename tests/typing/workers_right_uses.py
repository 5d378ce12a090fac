"""What users of pools of workers write, and the types that have to come out; never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

from penstock.workers import FunctionPool, Job, WorkerPool


class Page:
    title: str


class Browser:
    def __init__(self, profile: str = "") -> None:
        self.profile = profile

    async def fetch(self, url: str, *, retries: int = 0) -> Page:
        return Page()

    def count(self, text: str) -> int:
        return len(text) + len(self.profile)


def with_browser(browser: Browser, url: str) -> bytes:
    return f"{browser.profile}{url}".encode()


async def double(number: int) -> int:
    return number * 2


def sync_double(number: int) -> float:
    return number * 2.0


pool = WorkerPool(Browser, "profile", size=2)


async def calls() -> None:
    assert_type(pool, WorkerPool[Browser])
    assert_type(pool.workers, Browser)
    assert_type(await pool.workers.fetch("url"), Page)
    assert_type(await pool.submit(Browser.fetch, "url"), Job[Page])
    assert_type(await (await pool.submit(Browser.fetch, "url", retries=2)), Page)
    assert_type(await pool.submit(Browser.count, "text"), Job[int])
    assert_type(await pool.submit(with_browser, "url"), Job[bytes])
    assert_type(await pool.submit("fetch", "url", priority=3, key="k"), Job[Any])
    assert_type(await pool.submit(Browser.fetch, "url", priority=3), Job[Any])
    assert_type(pool.submit_nowait(Browser.fetch, "url", key="k"), Job[Any])
    assert_type(pool.submit_nowait(Browser.fetch, "url"), Job[Page])
    assert_type(await pool.broadcast(Browser.count, "text"), list[int])
    assert_type(await pool.broadcast("count", "text", return_exceptions=True), list[Any])
    assert_type(pool.map(Browser.fetch, ["a", "b"]), AsyncIterator[Page])
    assert_type(pool.map(Browser.count, ["a", "b"], ordered=False, chunk=5), AsyncIterator[int])
    assert_type([page async for page in pool.map(Browser.fetch, ["a"])], list[Page])


async def of_made_workers() -> None:
    made = WorkerPool.from_workers([Browser("a"), Browser("b")])
    assert_type(made, WorkerPool[Browser])
    async with made as started:
        assert_type(started, WorkerPool[Browser])


async def of_functions() -> None:
    doubling = WorkerPool.of(double, size=2)
    assert_type(await doubling(3), int)
    assert_type(await doubling.submit(3), Job[int])
    assert_type(doubling.map([1, 2]), AsyncIterator[int])
    slow: FunctionPool[..., float] = WorkerPool.of(sync_double, mode="process")
    assert_type(await slow(3), float)
