from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc
import pytest
from grpc import aio

from penstock import Policy
from penstock.integrations.grpc import interceptors
from penstock.testing import Sweep, cancel_sweep

DETAILS = aio.ClientCallDetails("/calls/Any", None, aio.Metadata(), None, None)


class FakeRpc:
    """Plays one attempt: messages, then an end with a status."""

    def __init__(self, *messages: bytes, fails: bool = False) -> None:
        self._messages = messages
        self._fails = fails
        self._callbacks: list[Callable[[Any], object]] = []
        self.was_begun = self.is_over = self.was_cancelled = False

    def cancel(self) -> bool:
        """End it from this side."""
        if not self.is_over:
            self.was_cancelled = True
            self._end()
        return self.was_cancelled

    def cancelled(self) -> bool:
        """Say whether it ended from this side."""
        return self.was_cancelled

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call when it has ended."""
        self._callbacks.append(callback)

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._first().__await__()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for message in self._messages:
            await asyncio.sleep(1)
            yield message
        await asyncio.sleep(1)
        self._end()
        if self._fails:
            raise aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())

    async def code(self) -> grpc.StatusCode:
        """Say how it ended."""
        await asyncio.sleep(0)
        return grpc.StatusCode.UNAVAILABLE if self._fails else grpc.StatusCode.OK

    async def initial_metadata(self) -> aio.Metadata:
        """Say what was said at first."""
        await asyncio.sleep(0)
        return aio.Metadata(("x-ratelimit-remaining", "5"))

    trailing_metadata = initial_metadata

    async def _first(self) -> bytes:
        messages = [message async for message in self]
        return messages[0]

    def _end(self) -> None:
        self.is_over = True
        for callback in self._callbacks:
            callback(self)


def use(kind: str, policy: Policy, rpcs: list[FakeRpc]) -> Any:
    """Make a call by way of an interceptor, and read all of it."""
    one, many = interceptors(policy)
    attempts = iter(rpcs)

    async def go_on(details: Any, request: bytes) -> FakeRpc:
        await asyncio.sleep(1)
        rpc = next(attempts)
        rpc.was_begun = True
        return rpc

    async def read() -> None:
        if kind == "one":
            await (await one.intercept_unary_unary(go_on, DETAILS, b""))
        else:
            async for _ in await many.intercept_unary_stream(go_on, DETAILS, b""):
                await asyncio.sleep(1)

    return read()


@pytest.mark.covers("grpc", "discard")
@pytest.mark.parametrize("kind", ["one", "many"])
def test_a_cancel_at_every_point_leaves_nothing_behind(kind: str):
    """No permit, no lease, no time limit, and no RPC that goes on."""

    async def scenario(sweep: Sweep) -> tuple[Policy, list[FakeRpc]]:
        policy = (
            Policy("rpc")
            .with_timeout(60)
            .with_retry(2, wait=1)
            .with_concurrency(1)
            .rotating(["a", "b"])
        )
        rpcs = [FakeRpc(fails=True), FakeRpc(b"a", b"b")]
        sweep.victim(use(kind, policy, rpcs))
        return policy, rpcs

    def check(left: tuple[Policy, list[FakeRpc]]) -> None:
        policy, rpcs = left
        timeout, _, concurrency, rotation = policy.snapshot()["stages"]
        assert (timeout["running"], concurrency["in_flight"]) == (0, 0)
        assert all(each["in_flight"] == 0 for each in rotation["resources"].values())
        assert all(rpc.is_over for rpc in rpcs if rpc.was_begun)

    points = cancel_sweep(scenario, check)

    assert points > 10
