"""What type checkers must accept of the middleware of aiohttp and the interceptors of gRPC."""

from __future__ import annotations

from typing import assert_type

import aiohttp

from penstock import Policy, Verdict, VerdictKind
from penstock.integrations.aiohttp import PolicyMiddleware, RequestFailedError
from penstock.integrations.grpc import interceptors

policy = Policy("api").with_retry(3)
keys = policy.rotating(["key-1", "key-2"])


def judge(response: aiohttp.ClientResponse) -> Verdict | None:
    return Verdict(VerdictKind.OVERLOADED) if "x-busy" in response.headers else None


async def a_session() -> None:
    keyed = PolicyMiddleware(keys, header="x-key", origins=["https://a.example"], replay="always")
    judging: aiohttp.ClientMiddlewareType = PolicyMiddleware(policy, classify=judge)
    async with aiohttp.ClientSession(middlewares=(keyed, judging)) as session:
        assert_type(await session.get("https://a.example/"), aiohttp.ClientResponse)


def an_error() -> aiohttp.ClientConnectionError:
    return RequestFailedError()


def a_channel() -> None:
    interceptors(keys, target="https://a.example", header="x-key", origins=("https://a.example",))
