"""What ``PolicyTransport`` adds to a request of httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import httpx

from bench.harness import Effort, Operation, Timings, compare, run_loop
from bench.section import Section, Table
from penstock import Policy
from penstock.integrations.httpx import PolicyTransport

__all__ = ["run"]

_ORIGIN = "http://api.example.com"
_BARE = "the transport inside alone"

_ABOUT = (
    "`handle_async_request` of the transport alone, over one that answers at once with a body in "
    "one chunk, which is read. The last row is a whole request of `httpx.AsyncClient` over the "
    "transport inside, to compare: a real one takes several times that, for its connection."
)


def run(effort: Effort, loop: str) -> Section:
    """Measure a request through policies of several sizes."""

    async def main() -> Timings:
        return await compare(_contestants(), effort)

    timings = run_loop(main(), loop)
    base = timings.added(_BARE)
    return Section(
        name="http-transport",
        title="The transport of httpx",
        about=_ABOUT,
        tables=[
            Table(
                columns=("request", "µs", "above the transport inside, µs"),
                rows=[
                    (name, timings.added(name), timings.added(name) - base)
                    for name in list(timings.rounds)[1:]
                ],
            )
        ],
    )


def _contestants() -> dict[str, Operation]:
    five = (
        Policy("bench")
        .with_timeout(30)
        .with_retry(3)
        .with_rate(1_000_000)
        .with_breaker(5)
        .with_concurrency(100)
    )
    keys = {"header": "x-api-key", "origins": [_ORIGIN]}
    transports = {
        _BARE: _Inner(),
        "no stages": PolicyTransport(Policy("bench"), _Inner()),
        "five stages": PolicyTransport(five, _Inner()),
        "five stages and a key": PolicyTransport(five.rotating(["a", "b"]), _Inner(), **keys),
    }
    contestants: dict[str, Operation] = {
        name: partial(_send, transport) for name, transport in transports.items()
    }
    client = httpx.AsyncClient(transport=_Inner())
    contestants["a request of the client, without a policy"] = partial(client.get, _ORIGIN)
    return contestants


async def _send(transport: httpx.AsyncBaseTransport) -> None:
    response = await transport.handle_async_request(_REQUEST)
    async for _ in response.stream:
        pass
    await response.aclose()


class _Body(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"ok"


class _Inner(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=_Body(), request=request)


_REQUEST = httpx.Request("GET", f"{_ORIGIN}/items?page=1")
