"""One run of the demo: real requests under the policy, and the figures at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx

from penstock import clock
from penstock.demo.screen import Screen
from penstock.demo.summary import Summary
from penstock.demo.tally import Tally
from penstock.policy import Policy

__all__ = ["CALLS_AT_ONCE", "SECONDS_TO_CATCH_UP", "Requests", "call_all", "run"]

# More than the policy lets through, so that its limits have something to do.
CALLS_AT_ONCE = 40

_REPAINT_EVERY = 0.1

# The server counts a request when it has read it, which may be after we gave it up.
SECONDS_TO_CATCH_UP = 2.0


class Requests:
    """Sends the demo's requests, and counts those that really left.

    An attempt may be cut off before that, while it still connects.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.sent = 0

    async def fetch(self, call: int) -> int:
        """Ask for the answer to one call; it says which call it belongs to."""
        path, extensions = f"/work/{call}", {"trace": self._count}
        response = await self._client.get(path, extensions=extensions)
        response.raise_for_status()
        return int(response.json()["call"])

    async def seen_by_server(self) -> Mapping[str, int]:
        """Return what the server has counted, once it has read all that was sent."""
        until = clock.now() + SECONDS_TO_CATCH_UP
        while True:
            seen: dict[str, int] = (await self._client.get("/seen")).json()
            if sum(seen.values()) >= self.sent or clock.now() > until:
                return seen
            await asyncio.sleep(0.05)

    async def _count(self, event: str, _info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_headers.complete":
            self.sent += 1


async def run(policy: Policy, url: str, calls: int, tally: Tally, screen: Screen) -> Summary:
    """Make all calls under the policy and return what came of them."""
    began = clock.now()
    # The time limits are the policy's business.
    async with httpx.AsyncClient(base_url=url, timeout=None) as client:  # noqa: S113
        requests = Requests(client)
        results = await call_all(policy, requests.fetch, calls, CALLS_AT_ONCE, screen)
        seconds = clock.now() - began
        sent, seen = requests.sent, await requests.seen_by_server()
    return Summary(
        calls=calls,
        answered=len(set(results) & set(range(calls))),
        errors=Counter(type(result).__name__ for result in results if not isinstance(result, int)),
        tally=tally,
        sent=sent,
        seen=seen,
        seconds=seconds,
    )


async def call_all(
    policy: Policy,
    fetch: Callable[..., Awaitable[int]],
    calls: int,
    at_once: int,
    screen: Screen,
) -> list[int | Exception]:
    """Make all calls under the policy, shown on a screen; return answers and errors as they came.

    Args:
        policy: Whose stages the calls go through.
        fetch: Takes the number of a call, after a resource where the policy rotates.
        calls: How many.
        at_once: Most calls under way, waiting ones included.
        screen: Repainted meanwhile, and once more at the end.
    """
    results: AsyncIterator[int | Exception] = policy.map(
        fetch, range(calls), concurrency=at_once, return_exceptions=True
    )
    found: list[int | Exception] = []
    async with _repainting(screen):
        async for result in results:
            found.append(result)
            screen.advance()
    return found


@asynccontextmanager
async def _repainting(screen: Screen) -> AsyncGenerator[None, None]:
    async def repaint() -> None:
        while True:
            screen.paint()
            await asyncio.sleep(_REPAINT_EVERY)

    with screen:
        painter = asyncio.create_task(repaint())
        try:
            yield
        finally:
            painter.cancel()
            with suppress(asyncio.CancelledError):
                await painter
            screen.paint()
