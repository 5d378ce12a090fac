"""What type checkers must accept of the HTTP transports."""

from __future__ import annotations

from typing import Any, assert_type

import httpx
import httpx2
import requests

from penstock import Policy, Resource, Verdict, VerdictKind
from penstock.integrations import httpx as of_httpx
from penstock.integrations import httpx2 as of_httpx2
from penstock.integrations.requests import PolicyAdapter

policy = Policy("api").with_retry(3)
keys = policy.rotating(["key-1", "key-2"])


async def an_httpx_client() -> None:
    transport = of_httpx.PolicyTransport(keys, header="x-api-key", origins=["https://api.example"])
    async with httpx.AsyncClient(transport=transport) as client:
        assert_type(await client.get("https://api.example/"), httpx.Response)


async def an_httpx2_client() -> None:
    inner = httpx2.AsyncHTTPTransport(http2=True)
    transport = of_httpx2.PolicyTransport(policy, inner, replay="always", classify="openai")
    async with httpx2.AsyncClient(transport=transport) as client:
        assert_type(await client.get("https://api.example/"), httpx2.Response)


def clients_without_a_loop() -> None:
    with httpx.Client(transport=of_httpx.SyncPolicyTransport(policy)) as client:
        assert_type(client.get("https://api.example/"), httpx.Response)
    mounts = {"https://": of_httpx2.SyncPolicyTransport(policy)}
    with httpx2.Client(mounts=mounts) as client2:
        assert_type(client2.get("https://api.example/"), httpx2.Response)


def through(proxy: Resource[str] | None) -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(proxy=None if proxy is None else proxy.value)


def judge(response: httpx.Response) -> Verdict | None:
    return Verdict(VerdictKind.OVERLOADED) if "x-busy" in response.headers else None


def proxies_and_a_classifier_of_ones_own() -> of_httpx.PolicyTransport:
    return of_httpx.PolicyTransport(keys, through, classify=judge)


def proxies_of(proxy: Resource[Any]) -> dict[str, str]:
    return {"https": proxy.value}


def a_session() -> None:
    with requests.Session() as session:
        session.mount("https://api.example/", PolicyAdapter(keys, proxies=proxies_of))
        assert_type(session.get("https://api.example/"), requests.Response)
