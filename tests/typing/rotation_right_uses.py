"""What users of pools write, and the types that have to come out; only type-checked, never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, assert_type

from penstock import (
    Health,
    Lease,
    Policy,
    Pool,
    Resource,
    RotatingPolicy,
    current_lease,
    current_resource,
)
from penstock.pools.candidate import Candidate
from penstock.rotating import InjectingPolicy

policy = Policy("search")
rotating = policy.rotating(["key-a", "key-b"])
pool = Pool(["key-a", "key-b"], pick="round_robin", cooldown=(1, 2.5))


class Gpu:
    async def infer(self, prompt: str) -> bytes:
        return prompt.encode()


async def search(key: Resource[str], query: str, *, limit: int = 10) -> list[str]:
    return [key.value, query] * limit


async def use_gpu(gpu: Resource[Gpu], prompt: str) -> bytes:
    return await gpu.value.infer(prompt)


async def with_keyword(query: str, *, api_key: str) -> bytes:
    return (api_key + query).encode()


async def without(query: str) -> bytes:
    key: str = current_resource().value
    return (key + query).encode()


async def lines(key: Resource[str], path: str) -> AsyncIterator[bytes]:
    yield path.encode()


def blocking(key: Resource[str], path: str) -> bytes:
    return path.encode()


def future(key: Resource[str], number: int) -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


def how_resources_are_given() -> None:
    assert_type(rotating, RotatingPolicy[str])
    assert_type(policy.rotating([Resource("a"), Resource("b")]), RotatingPolicy[str])
    assert_type(policy.rotating({"a": 1, "b": 2}), RotatingPolicy[int])
    assert_type(policy.rotating({"a": Resource(1.5)}), RotatingPolicy[float])
    assert_type(policy.rotating((Gpu() for _ in range(2)), max_wait=5), RotatingPolicy[Gpu])
    assert_type(policy.rotating(pool), RotatingPolicy[str])
    assert_type(policy.rotating(pool, inject="api_key"), InjectingPolicy)
    assert_type(policy.rotating(pool, inject=None), Policy)
    assert_type(pool, Pool[str])
    assert_type(Pool([Resource(Gpu(), max_in_flight=1)]), Pool[Gpu])
    assert_type(Pool({"a": Gpu()}), Pool[Gpu])


async def calls_leave_the_resource_out() -> None:
    assert_type(await rotating.call(search, "query", limit=3), list[str])
    assert_type(await rotating.call(blocking, "path"), bytes)
    assert_type(await rotating.call(future, 5), int)
    assert_type(await rotating.using(key="user").call(search, "query"), list[str])
    assert_type(await policy.rotating([Gpu()]).call(use_gpu, "prompt"), bytes)
    assert_type(rotating.run_sync(search, "query"), list[str])
    assert_type(await rotating.gather(search, ["a", "b"]), list[list[str]])
    async for found in rotating.map(search, ["a", "b"]):
        assert_type(found, list[str])
    async with rotating.stream(lines, "path") as items:
        async for item in items:
            assert_type(item, bytes)


async def calls_with_a_keyword_keep_their_result() -> None:
    injecting = policy.rotating(pool, inject="api_key")
    assert_type(await injecting.call(with_keyword, "query"), bytes)
    assert_type(await injecting.wrap(with_keyword)("query"), bytes)
    assert_type(await policy.rotating(pool, inject=None).call(without, "query"), bytes)


@rotating
async def decorated(key: Resource[str], query: str, *, limit: int = 10) -> list[str]:
    return [key.value, query] * limit


@pool.rotated
async def pooled(key: Resource[str], query: str) -> bytes:
    return (key.value + query).encode()


class Client:
    @rotating
    async def get(self, key: Resource[str], url: str) -> bytes:
        return (key.value + url).encode()

    @pool.rotated
    async def put(self, key: Resource[str], url: str, body: bytes) -> int:
        return len(body)


async def decorated_functions_lose_their_first_parameter() -> None:
    assert_type(await decorated("query", limit=2), list[str])
    assert_type(await pooled("query"), bytes)
    assert_type(await Client().get("url"), bytes)
    assert_type(await Client().put("url", b"body"), int)
    plain: Callable[[str], Coroutine[Any, Any, bytes]] = pooled
    assert_type(await plain("query"), bytes)


async def a_pool_alone() -> None:
    assert_type(await pool.run(search, "query", limit=2), list[str])
    assert_type(await pool.using(attempts=2, start_within=5).run(future, 3), int)
    async with pool.lease() as lease:
        assert_type(lease, Lease)
        lease.report(remaining=5, resets_in=60)
        lease.cooldown(30)
        lease.disable("revoked")
    assert_type(pool.health(), Health)
    assert_type(rotating.health(), Health)
    assert_type(current_lease().resource.id, str | None)
    assert_type(Resource(5).value_for("https://a.example"), int)


class Cheapest:
    def pick(self, ready: list[Candidate], key: str | None) -> Candidate:
        return min(ready, key=lambda candidate: candidate.in_flight)


cheapest = Pool(["a"], pick=Cheapest(), dimension=lambda call: call.kwargs["model"])
