"""What users write, and the types that have to come out; only type-checked, never run."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_type

import aiolimiter
import pybreaker
import tenacity

from penstock import (
    Call,
    CircuitOpenError,
    CooldownResource,
    Handler,
    Policy,
    RejectedError,
    Verdict,
    VerdictKind,
    current_call,
)
from penstock.events import CallEnded, Event
from penstock.stages.concurrency import Concurrency, ConcurrencyOptions
from penstock.stages.retry import Exponential
from penstock.streaming import PolicyStream

policy = Policy("search")


async def search(query: str, *, limit: int = 10) -> list[str]:
    return [query] * limit


async def nothing() -> None: ...


def blocking(path: str) -> bytes:
    return path.encode()


def future(number: int) -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


class Client:
    async def get(self, url: str) -> bytes:
        return url.encode()

    def get_later(self, url: str) -> Awaitable[bytes]:
        return self.get(url)

    @classmethod
    async def make(cls, url: str) -> Client:
        return cls()

    @staticmethod
    async def ping(host: str) -> float:
        return 0.1

    async def __call__(self, query: str) -> int:
        return len(query)


# --- call -------------------------------------------------------------------------------------


async def call_keeps_the_result() -> None:
    client = Client()
    assert_type(await policy.call(search, "query"), list[str])
    assert_type(await policy.call(search, "query", limit=3), list[str])
    assert_type(await policy.call(client.get, "url"), bytes)
    assert_type(await policy.call(client.get_later, "url"), bytes)
    assert_type(await policy.call(Client.make, "url"), Client)
    assert_type(await policy.call(Client.ping, "host"), float)
    assert_type(await policy.call(client, "query"), int)
    assert_type(await policy.call(future, 5), int)
    assert_type(await policy.call(blocking, "path"), bytes)
    assert_type(await policy.call(lambda: search("query")), list[str])
    assert_type(await policy.call(functools.partial(search, "query")), list[str])
    assert_type(await policy.call(functools.partial(blocking, "path")), bytes)
    await policy.call(nothing)


async def call_takes_a_bare_awaitable() -> None:
    assert_type(await policy.call(search("query")), list[str])
    assert_type(await policy.call(future(5)), int)
    assert_type(await policy.call(asyncio.create_task(search("query"))), list[str])


async def call_is_a_coroutine_that_can_be_a_task() -> None:
    task = asyncio.create_task(policy.call(search, "query"))
    assert_type(task, asyncio.Task[list[str]])
    coroutine: Coroutine[Any, Any, bytes] = policy.call(blocking, "path")
    await coroutine
    async with asyncio.timeout(5):
        await policy.call(nothing)


# --- wrap and @policy ---------------------------------------------------------------------------


@policy
async def decorated(query: str, *, limit: int = 10) -> list[str]:
    return [query] * limit


@policy.wrap
async def wrapped(query: str) -> int:
    return len(query)


@policy
def decorated_plain(path: str) -> bytes:
    return path.encode()


class Service:
    @policy
    async def method(self, query: str) -> list[str]:
        return [query]

    @staticmethod
    @policy
    async def static(query: str) -> int:
        return len(query)

    @classmethod
    @policy
    async def made(cls, query: str) -> str:
        return query


async def wrapping_keeps_signature_and_result() -> None:
    service = Service()
    assert_type(await decorated("query", limit=3), list[str])
    assert_type(await wrapped("query"), int)
    assert_type(await decorated_plain("path"), bytes)
    assert_type(await service.method("query"), list[str])
    assert_type(await service.static("query"), int)
    assert_type(await Service.static("query"), int)
    assert_type(await Service.made("query"), str)
    assert_type(await policy.wrap(Client().get)("url"), bytes)
    search_later: Callable[..., Coroutine[Any, Any, list[str]]] = policy.wrap(search)
    await search_later("query")


# --- streams and many calls ---------------------------------------------------------------------


async def lines(path: str, *, start: int = 0) -> AsyncIterator[str]:
    yield path


async def opened(path: str) -> AsyncIterator[bytes]:
    async def read() -> AsyncIterator[bytes]:
        yield path.encode()

    return read()


async def streams_keep_their_items() -> None:
    stream = policy.stream(lines, "path", start=3)
    assert_type(stream, PolicyStream[str])
    async with stream as items:
        assert_type(items, PolicyStream[str])
        async for item in items:
            assert_type(item, str)
    async with policy.stream(opened, "path") as blocks:
        assert_type([block async for block in blocks], list[bytes])


async def numbers() -> AsyncIterator[int]:
    yield 1


async def square(number: int) -> float:
    return number**2


async def many_calls_keep_their_results() -> None:
    assert_type(await policy.gather(square, [1, 2, 3]), list[float])
    assert_type(await policy.gather(square, numbers(), concurrency=3, ordered=False), list[float])
    assert_type(await policy.gather(lambda n: square(n), range(3)), list[float])
    assert_type(
        await policy.gather(square, {1, 2}, progress=lambda done, total: (done, total)),
        list[float],
    )
    async for result in policy.map(square, numbers(), concurrency=3, progress=True):
        assert_type(result, float)


def run_sync_keeps_the_result() -> None:
    assert_type(policy.run_sync(search, "query", limit=3), list[str])
    assert_type(policy.run_sync(Client().get, "url"), bytes)


# --- building -----------------------------------------------------------------------------------


def every_step_is_a_policy() -> None:
    whole = (
        policy.with_timeout(30)
        .with_timeout(timedelta(seconds=5))
        .with_fallback(value=None)
        .with_fallback(from_cache, fallback_on=(KeyError, "timeout"))
        .with_fallback(policy=policy)
        .with_budget()
        .with_budget(ratio=0.1, min_per_second=2, window=timedelta(seconds=10))
        .with_retry()
        .with_retry(4, 0.5, retry_on=ConnectionError)
        .with_retry(wait=lambda attempt: 0.1 * attempt, on_retry=lambda attempt, error: None)
        .with_retry(wait=tenacity.wait_exponential() + tenacity.wait_random(0, 1))
        .with_retry(stop=tenacity.stop_after_delay(30) | tenacity.stop_after_attempt(5))
        .with_retry(retry_on=tenacity.retry_if_exception_type(OSError), accept=bool)
        .with_retry(retry_on=[ConnectionError, "timeout", VerdictKind.OVERLOADED, is_ours])
        .with_retry(
            wait=Exponential(initial=0.1), stop=timedelta(minutes=1), accept=[bool, is_full]
        )
        .with_retry(stop=lambda attempt, seconds: seconds > 5 * attempt)
        .with_rate(10)
        .with_rate("600/min", burst=5, cost=2, max_wait=timedelta(seconds=3))
        .with_rate(["5/s", "100/min"])
        .with_rate({"requests": "5/s", "tokens": 1000}, cost={"tokens": 50})
        .with_rate(aiolimiter.AsyncLimiter(10))
        .with_breaker()
        .with_breaker(5, 30)
        .with_breaker(failure_ratio=0.5, window_seconds=60, failure_on=is_ours)
        .with_breaker(pybreaker.CircuitBreaker())
        .with_concurrency(20, max_queue=100, max_wait=5)
    )
    assert_type(whole, Policy)
    assert_type(whole.fresh(), Policy)
    assert_type(whole.using(timeout=timedelta(seconds=5), attempts=2, tags={"a": "b"}), Policy)
    assert_type(whole.using(cost={"tokens": 5}, priority=1, key="k", request_id="r"), Policy)
    assert_type(whole.snapshot(), dict[str, Any])
    assert_type(whole.name, str)
    assert_type(Policy.from_yaml("policies.yaml", name="search"), Policy)
    assert_type(Policy.from_yaml(Path("policies.yaml")), Policy)
    assert_type(Policy.from_dict({"version": 1}), Policy)


async def from_cache(failure: Exception, query: str) -> list[str]:
    return [query]


def is_full(answer: list[str]) -> bool:
    return len(answer) == 10


def is_ours(failure: Exception) -> bool:
    return isinstance(failure, ConnectionError)


class Mine(Policy):
    __slots__ = ()


def a_subclass_stays_one() -> None:
    mine = Mine("mine")
    assert_type(mine.with_timeout(5).with_retry().with_rate(5).with_breaker(), Mine)
    assert_type(mine.with_concurrency(5).with_fallback(value=1).with_budget(), Mine)
    assert_type(mine.using(priority=1).fresh(), Mine)
    assert_type(mine.with_stage(log), Mine)
    assert_type(Mine.from_dict({}), Mine)


def settings_are_typed() -> None:
    def classify(failure: BaseException) -> VerdictKind | None:
        return VerdictKind.TRANSIENT

    def judge(result: Any) -> Verdict | str | None:
        return "overloaded"

    def observe(event: Event) -> None:
        if isinstance(event, CallEnded):
            assert_type(event.duration, float)

    async def discard(result: object) -> None: ...

    Policy("a", classify=classify, classify_result=judge, discard=discard, observers=[observe])
    Policy("b", classify=lambda failure: "auth", classify_result="http", discard=print)
    Policy("c", classify="openai", classify_result="anthropic")
    Policy("d", classify=["google_genai", classify, lambda failure: None])


# --- stages of one's own ------------------------------------------------------------------------


async def log(call: Call, call_next: Handler) -> Any:
    assert_type(call.attempt, int)
    assert_type(call.deadline, float | None)
    assert_type(call.verdict, Verdict | None)
    return await call_next(call)


class Counting:
    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        return await call_next(call)


def a_function_and_an_object_are_stages() -> None:
    shared = Concurrency(ConcurrencyOptions(limit=5))
    assert_type(policy.with_stage(log).with_stage(Counting()).with_stage(shared), Policy)


async def errors_tell_what_they_know() -> None:
    try:
        await policy.call(nothing)
    except CircuitOpenError as error:
        assert_type(error.retry_after, float | None)
    except RejectedError as error:
        assert_type(error.retry_after, float | None)
    current_call().settle(5)
    current_call().settle(tokens=812)
    raise CooldownResource(30, reason="429")
