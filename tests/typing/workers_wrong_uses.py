"""What both type checkers have to report of pools of workers; only type-checked, never run.

An ignore that is not needed is an error: it means that a wrong use is no longer seen.
"""

from __future__ import annotations

from penstock.workers import WorkerPool


class Browser:
    async def fetch(self, url: str, *, retries: int = 0) -> bytes:
        return url.encode() * retries

    def count(self, text: str) -> int:
        return len(text)


class Other:
    async def fetch(self, url: str) -> bytes:
        return url.encode()


async def double(number: int) -> int:
    return number * 2


pool = WorkerPool(Browser)


async def wrong() -> None:
    await pool.workers.fetch(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.workers.fecth("url")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await pool.submit(Browser.fetch)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await pool.submit(Browser.fetch, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await pool.submit(Browser.count, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await pool.submit(Other.fetch, "url")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    pool.submit_nowait(Browser.fetch, "url", retry=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await pool.broadcast(Browser.count)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    pool.map(Browser.count, [1, 2])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    pool.map(Browser.fetch, ["a"], chunks=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    doubling = WorkerPool.of(double)
    await doubling("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await doubling.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    text: str = await doubling(3)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    assert text
