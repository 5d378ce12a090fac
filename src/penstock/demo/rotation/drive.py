"""One run of the five keys: real requests, each with the key that the pool picked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import httpx

from penstock import clock
from penstock.demo.drive import SECONDS_TO_CATCH_UP, call_all
from penstock.demo.rotation.book import Book
from penstock.demo.rotation.policy import FiveKeys
from penstock.demo.rotation.summary import RotationSummary
from penstock.demo.screen import Screen
from penstock.pools.resource import Resource

__all__ = ["CALLS_AT_ONCE", "KeyedRequests", "run"]

# More than the keys take, so that some calls wait for one.
CALLS_AT_ONCE = 30

_ASK_EVERY = 0.2


class KeyedRequests:
    """Sends requests with a key, and keeps the book."""

    def __init__(self, client: httpx.AsyncClient, book: Book) -> None:
        self._client = client
        self._book = book

    async def fetch(self, key: Resource[str], call: int) -> int:
        """Ask for the answer to one call with a key; it says which call it belongs to."""
        headers = {"Authorization": f"Bearer {key.value_for(self._client.base_url)}"}
        use = self._book.begin(key.id)
        try:
            response = await self._client.get(
                f"/keyed/{call}", headers=headers, extensions={"trace": use.trace}
            )
            use.answer(response.status_code)
        finally:
            use.end()
        response.raise_for_status()
        return int(response.json()["call"])

    async def ask_server(self) -> None:
        """Put into the book what the server has counted."""
        self._book.seen = (await self._client.get("/seen/keys")).json()

    async def wait_for_server(self) -> None:
        """Ask until the server has read all that was sent, or takes too long for that."""
        until = clock.now() + SECONDS_TO_CATCH_UP
        await self.ask_server()
        while self._book.seen_in_all < self._book.sent and clock.now() < until:
            await asyncio.sleep(0.05)
            await self.ask_server()


async def run(keys: FiveKeys, url: str, calls: int, screen: Screen) -> RotationSummary:
    """Make all calls under the policy and return what came of them."""
    began = clock.now()
    # The time limits are the policy's business.
    async with httpx.AsyncClient(base_url=url, timeout=None) as client:  # noqa: S113
        requests = KeyedRequests(client, keys.book)
        async with _asking(requests):
            results = await call_all(keys.policy, requests.fetch, calls, CALLS_AT_ONCE, screen)
        seconds = clock.now() - began
        await requests.wait_for_server()
    return RotationSummary(
        calls=calls,
        answered=len(set(results) & set(range(calls))),
        errors=Counter(type(result).__name__ for result in results if not isinstance(result, int)),
        tally=keys.tally,
        book=keys.book,
        stats=keys.pool.stats(),
        seconds=seconds,
    )


@asynccontextmanager
async def _asking(requests: KeyedRequests) -> AsyncGenerator[None, None]:
    async def ask() -> None:
        while True:
            await requests.ask_server()
            await asyncio.sleep(_ASK_EVERY)

    asker = asyncio.create_task(ask())
    try:
        yield
    finally:
        asker.cancel()
        with suppress(asyncio.CancelledError):
            await asker
