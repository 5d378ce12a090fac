from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import io
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from penstock import (
    CallTimeoutError,
    CircuitOpenError,
    ConfigError,
    Policy,
    PolicyError,
    Pool,
    Resource,
    VerdictKind,
)
from penstock.call import Call
from penstock.events import CallEnded, RetryScheduled
from penstock.integrations.aiohttp import PolicyMiddleware, RequestFailedError
from penstock.stage import Handler
from penstock.testing import EventLog
from tests.integrations.serving import serve

pytestmark = pytest.mark.integration


class Server:
    """The server of servers/aio.py, told what to do by a client of its own."""

    def __init__(self, ports: str) -> None:
        here, there, *proxies = (f"http://127.0.0.1:{port}" for port in ports.split())
        self.here, self.there = here, there
        self.proxies = proxies
        self._names = 0

    async def script(self, *steps: dict[str, Any]) -> str:
        """Set what a new path answers, and return its URL."""
        self._names += 1
        async with aiohttp.ClientSession() as session:
            await session.post(f"{self.here}/script/{self._names}", json=steps)
        return f"{self.here}/do/{self._names}"

    async def log(self, url: str) -> list[dict[str, Any]]:
        """Return what has come for a path."""
        name = url.rpartition("/")[2]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.here}/log/{name}") as response,
        ):
            return await response.json()

    async def count(self, url: str) -> int:
        """Return how many requests have come for a path."""
        return len(await self.log(url))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve while the tests of this file run."""
    with serve("aio") as ports:
        yield Server(ports)


@contextlib.asynccontextmanager
async def session_under(
    policy: Policy, *, limits: aiohttp.ClientTimeout | None = None, **options: Any
) -> AsyncGenerator[aiohttp.ClientSession]:
    """Open a session under a policy, and see that nothing is left when it ends."""
    middleware = PolicyMiddleware(policy, **options)
    async with aiohttp.ClientSession(
        middlewares=(middleware,), timeout=limits or aiohttp.ClientTimeout()
    ) as session:
        yield session
        assert session.connector
        # A writer that was cancelled gives its connection back a step later.
        for _ in range(3):
            await asyncio.sleep(0)
        assert not session.connector._acquired
    assert held_by(policy) == 0


def held_by(policy: Policy) -> int:
    """Return the permits and leases that are held, and the calls under watch of a timeout."""
    held = 0
    for stage in policy.snapshot()["stages"]:
        held += stage.get("in_flight", 0) + stage.get("running", 0)
        held += sum(each["in_flight"] for each in stage.get("resources", {}).values())
    return held


def states_of(policy: Policy) -> list[str]:
    """Return the states of the resources of a policy, in their order."""
    return [each["standing"] for each in policy.snapshot()["stages"][-1]["resources"].values()]


def retrying(attempts: int = 3) -> Policy:
    """Return a policy whose every stage can hold something."""
    return Policy("aio").with_timeout(5).with_retry(attempts, wait=0).with_concurrency(4)


# --- attempts -----------------------------------------------------------------------------------


@pytest.mark.covers("aiohttp", "retry")
@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_bad_answer_is_tried_again(server: Server, status: int):
    """The caller sees the good one alone."""
    url = await server.script({"status": status}, {"body": "at last"})

    async with session_under(retrying()) as session, session.get(url) as response:
        text = await response.text()

    assert (response.status, text, await server.count(url)) == (200, "at last", 2)


@pytest.mark.covers("aiohttp", "retry")
async def test_a_bad_request_is_the_callers_mistake(server: Server):
    """It is returned as it is, after one attempt."""
    url = await server.script({"status": 404, "body": "nothing here"})

    async with session_under(retrying()) as session, session.get(url) as response:
        text = await response.text()

    assert (response.status, text, await server.count(url)) == (404, "nothing here", 1)


@pytest.mark.covers("aiohttp", "retry")
async def test_the_last_bad_answer_is_returned_when_attempts_are_spent(server: Server):
    """With its body still to be read."""
    url = await server.script({"status": 503, "body": "busy"})

    async with session_under(retrying()) as session, session.get(url) as response:
        text = await response.text()

    assert (response.status, text, await server.count(url)) == (503, "busy", 3)


@pytest.mark.covers("aiohttp", "retry")
async def test_raise_for_status_of_the_session_sees_the_last_answer(server: Server):
    """It raises what it would have raised without a policy."""
    url = await server.script({"status": 500})

    async with session_under(retrying(2)) as session:
        with pytest.raises(aiohttp.ClientResponseError) as raised:
            await session.get(url, raise_for_status=True)

    assert raised.value.status == 500


@pytest.mark.covers("aiohttp", "classified")
async def test_no_connection_is_tried_again_and_raised_as_it_is(server: Server):
    """The client runs nothing again after a ``ClientConnectorError``, so it keeps its type."""
    log = EventLog()
    policy = Policy("aio", observers=[log]).with_retry(3, wait=0)

    async with session_under(policy) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("http://127.0.0.1:9/")

    assert [event.verdict for event in log.of(RetryScheduled)] == [VerdictKind.TRANSIENT] * 2


@pytest.mark.covers("aiohttp", "classified")
async def test_what_an_answer_means_can_be_said(server: Server):
    """A function of the response comes before the status."""
    url = await server.script({"headers": {"X-Busy": "1"}}, {})

    def classify(response: aiohttp.ClientResponse) -> str | None:
        return "overloaded" if "X-Busy" in response.headers else None

    async with (
        session_under(retrying(), classify=classify) as session,
        session.get(url) as response,
    ):
        await response.read()

    assert (response.status, await server.count(url)) == (200, 2)


@pytest.mark.covers("aiohttp", "server hint")
async def test_retry_after_is_waited_for(server: Server):
    """In milliseconds, where the server says them."""
    url = await server.script({"status": 429, "headers": {"Retry-After-Ms": "150"}}, {})
    began = time.monotonic()

    async with session_under(retrying()) as session, session.get(url) as response:
        await response.read()

    assert response.status == 200
    assert 0.15 <= time.monotonic() - began < 1


@pytest.mark.covers("aiohttp", "junk")
@pytest.mark.parametrize("hint", ["soon", "-5", "inf", "nan", "1e309", "Wed, 99 Foo 2026", ""])
async def test_a_hint_that_makes_no_sense_says_nothing(server: Server, hint: str):
    """The next attempt follows at once."""
    url = await server.script({"status": 503, "headers": {"Retry-After": hint}}, {})
    began = time.monotonic()

    async with session_under(retrying()) as session, session.get(url) as response:
        await response.read()

    assert response.status == 200
    assert time.monotonic() - began < 1


@pytest.mark.covers("aiohttp", "junk")
async def test_a_hint_of_days_is_not_waited_for(server: Server):
    """114 hours are above the cap: the caller gets the answer now."""
    url = await server.script({"status": 429, "headers": {"Retry-After": str(114 * 3600)}}, {})
    began = time.monotonic()

    async with session_under(retrying()) as session, session.get(url) as response:
        await response.read()

    assert (response.status, await server.count(url)) == (429, 1)
    assert time.monotonic() - began < 1


@pytest.mark.covers("aiohttp", "junk")
@pytest.mark.parametrize(
    ("raw", "requests"),
    [
        ("no HTTP at all\r\n\r\n", 1),
        ("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", 1),
        ("HTTP/1.1 200 OK\r\nContent-Le", 3),
        ("H", 3),
    ],
)
async def test_what_is_no_answer_is_an_error(server: Server, raw: str, requests: int):
    """Nonsense stays nonsense; a connection that was lost may be better next time."""
    url = await server.script({"raw": raw})

    async with session_under(retrying()) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(url)

    assert await server.count(url) == requests


@pytest.mark.covers("aiohttp", "discard")
async def test_bad_answers_give_back_their_connections(server: Server):
    """With two connections in all, six answers of 503 do not exhaust them."""
    chunks = ["x" * 1000, 0.2, "x"]
    url = await server.script(*[{"status": 503, "chunks": chunks}] * 6, {"body": "well"})
    policy = Policy("aio").with_retry(7, wait=0)
    connector = aiohttp.TCPConnector(limit=2)
    session = aiohttp.ClientSession(connector=connector, middlewares=(PolicyMiddleware(policy),))

    async with session, session.get(url) as response:
        text = await response.text()
        during = len(connector._acquired)

    assert (text, during) == ("well", 0)
    assert await server.count(url) == 7


# --- finding 5 and 6: what aiohttp does by itself -----------------------------------------------


@pytest.mark.finding(5)
@pytest.mark.covers("aiohttp", "own retries")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_aiohttp_does_not_run_the_attempts_again(server: Server, method: str):
    """Three attempts are three requests, and the error says what the last one met."""
    url = await server.script({"reset": True})

    async with session_under(retrying()) as session:
        with pytest.raises(RequestFailedError) as raised:
            await session.request(method, url)

    assert await server.count(url) == 3
    assert isinstance(raised.value, aiohttp.ClientConnectionError)
    assert not isinstance(raised.value, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
    cause = raised.value.__cause__
    assert isinstance(cause, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
    assert "3 attempts" in str(raised.value.__notes__)


@pytest.mark.finding(5)
@pytest.mark.covers("aiohttp", "own retries")
async def test_a_policy_without_retry_sends_one_request(server: Server):
    """The second one that aiohttp makes is off with it."""
    url = await server.script({"reset": True})

    async with session_under(Policy("aio").with_concurrency(1)) as session:
        with pytest.raises(RequestFailedError):
            await session.get(url)

    assert await server.count(url) == 1


@pytest.mark.finding(6)
@pytest.mark.covers("aiohttp", "deadline")
async def test_the_sessions_own_time_limit_is_never_retried(server: Server):
    """Its bare ``TimeoutError`` comes when the time is over for all attempts."""
    url = await server.script({"delay": 1})
    policy = Policy("aio").with_retry(4, wait=0.2)
    began = time.monotonic()

    async with session_under(policy, limits=aiohttp.ClientTimeout(total=0.2)) as session:
        with pytest.raises(TimeoutError) as raised:
            await session.get(url)

    assert type(raised.value) is TimeoutError
    assert time.monotonic() - began < 0.35
    assert await server.count(url) == 1


@pytest.mark.finding(6)
async def test_the_sessions_own_time_limit_ends_a_wait_between_attempts(server: Server):
    """It comes as a cancel there, which no stage swallows."""
    url = await server.script({"status": 503})
    policy = Policy("aio").with_retry(4, wait=5)

    async with session_under(policy, limits=aiohttp.ClientTimeout(total=0.2)) as session:
        with pytest.raises(TimeoutError):
            await session.get(url)

    assert await server.count(url) == 1


@pytest.mark.covers("aiohttp", "retry")
async def test_a_socket_that_is_silent_is_tried_again(server: Server):
    """``sock_read`` is of one attempt; it has a type of its own."""
    url = await server.script({"delay": 1}, {})

    async with (
        session_under(retrying(), limits=aiohttp.ClientTimeout(sock_read=0.1)) as session,
        session.get(url) as response,
    ):
        await response.read()

    assert (response.status, await server.count(url)) == (200, 2)


# --- deadlines ----------------------------------------------------------------------------------


@pytest.mark.covers("aiohttp", "deadline")
async def test_the_policys_time_limit_ends_a_request(server: Server):
    """With its own error, and without waiting for aiohttp's five minutes."""
    url = await server.script({"delay": 1})
    began = time.monotonic()

    async with session_under(Policy("aio").with_timeout(0.1)) as session:
        with pytest.raises(CallTimeoutError):
            await session.get(url)

    assert time.monotonic() - began < 0.5


@pytest.mark.covers("aiohttp", "deadline")
async def test_an_attempts_time_limit_leads_to_the_next_one(server: Server):
    """The connection of the one that was cut off is not used again."""
    url = await server.script({"delay": 1}, {})
    policy = Policy("aio").with_retry(3, wait=0).with_timeout(0.1)

    async with session_under(policy) as session, session.get(url) as response:
        await response.read()

    assert (response.status, await server.count(url)) == (200, 2)


READERS = {
    "read": lambda response: response.read(),
    "text": lambda response: response.text(),
    "readany": lambda response: _drain(response.content.iter_any()),
    "lines": lambda response: _drain(response.content),
    "chunks": lambda response: _drain(response.content.iter_chunked(3)),
    "exactly": lambda response: response.content.readexactly(10_000),
}


async def _drain(items: AsyncIterator[Any]) -> None:
    async for _ in items:
        pass


@pytest.mark.covers("aiohttp", "deadline")
@pytest.mark.parametrize("how", READERS)
async def test_the_policys_time_limit_ends_the_reading_of_a_body(server: Server, how: str):
    """However it is read; the cancel behind it stays inside."""
    url = await server.script({"chunks": ["a\n", 2, "b\n"]})
    began = time.monotonic()

    async with session_under(Policy("aio").with_timeout(0.15).with_concurrency(1)) as session:
        with pytest.raises(CallTimeoutError):
            async with session.get(url) as response:
                await READERS[how](response)

    task = asyncio.current_task()
    assert task
    assert task.cancelling() == 0
    assert time.monotonic() - began < 1


@pytest.mark.covers("aiohttp", "deadline")
@pytest.mark.parametrize("how", READERS)
async def test_the_policys_time_limit_ends_reading_without_a_block(server: Server, how: str):
    """There the read itself is all that can raise it."""
    url = await server.script({"chunks": ["a\n", 2, "b\n"]})
    policy = Policy("aio").with_timeout(0.1).with_concurrency(1)

    async with session_under(policy) as session:
        response = await session.get(url)
        with pytest.raises(CallTimeoutError):
            await READERS[how](response)
        held = held_by(policy)
        response.close()

    assert held == 0


@pytest.mark.covers("aiohttp", "deadline")
async def test_the_policys_time_limit_ends_a_block_that_does_not_read(server: Server):
    """What the caller sees is the policy's error, and not a cancel from nowhere."""
    url = await server.script({"chunks": ["a", 2, "b"]})

    async with session_under(Policy("aio").with_timeout(0.1).with_concurrency(1)) as session:
        with pytest.raises(CallTimeoutError):
            async with session.get(url):
                await asyncio.sleep(1)

    task = asyncio.current_task()
    assert task
    assert task.cancelling() == 0


@pytest.mark.covers("aiohttp", "deadline")
async def test_the_policys_time_limit_ends_reading_in_another_task(server: Server):
    """The cancel went to the task that had sent the request, which is over."""
    url = await server.script({"chunks": ["a", *[0.04, "b"] * 20]})
    began = time.monotonic()

    async with session_under(Policy("aio").with_timeout(0.15).with_concurrency(1)) as session:
        response = await asyncio.ensure_future(_run(session.get(url)))
        with pytest.raises(CallTimeoutError):
            await response.read()

    assert 0.15 <= time.monotonic() - began < 0.6


@pytest.mark.finding(6)
@pytest.mark.covers("aiohttp", "deadline")
async def test_the_sessions_own_time_limit_ends_the_reading_of_a_body(server: Server):
    """It keeps its type, and the stages hear of it."""
    url = await server.script({"chunks": ["a", 2, "b"]})
    policy = Policy("aio").with_breaker(failures=1, recover_after=30).with_concurrency(1)

    async with session_under(policy, limits=aiohttp.ClientTimeout(total=0.2)) as session:
        async with session.get(url) as response:
            with pytest.raises(TimeoutError) as raised:
                await response.read()
        with pytest.raises(CircuitOpenError):
            await session.get(url)

    assert type(raised.value) is TimeoutError


@pytest.mark.covers("aiohttp", "deadline")
async def test_an_attempts_time_limit_is_not_for_the_body(server: Server):
    """A good answer is committed: what follows is the reader's time."""
    url = await server.script({"chunks": ["a", 0.3, "b"]})
    policy = Policy("aio").with_retry(2, wait=0).with_timeout(0.15)

    async with session_under(policy) as session, session.get(url) as response:
        text = await response.text()

    assert text == "ab"


# --- what is held -------------------------------------------------------------------------------


@pytest.mark.covers("aiohttp", "streams")
async def test_permit_and_lease_are_held_until_the_body_was_read(server: Server):
    """And not a moment longer."""
    url = await server.script({"chunks": ["a", 0.1, "b"]})
    policy = Policy("aio").with_concurrency(1).rotating(["k"], inject=None)

    async with session_under(policy) as session:
        response = await session.get(url)
        during = held_by(policy)
        text = await response.text()
        after = held_by(policy)

    assert (during, text, after) == (2, "ab", 0)


@pytest.mark.covers("aiohttp", "streams")
async def test_a_body_that_came_with_its_headers_holds_nothing(server: Server):
    """The client has given its connection back before anybody reads it."""
    url = await server.script({"body": "small"})
    policy = Policy("aio").with_concurrency(1)

    async with session_under(policy) as session:
        response = await session.get(url)
        await asyncio.sleep(0.05)
        held = held_by(policy)
        text = await response.text()

    assert (held, text) == (0, "small")


@pytest.mark.covers("aiohttp", "streams")
@pytest.mark.parametrize("how", ["release", "close", "break", "error"])
async def test_a_body_that_is_not_read_gives_everything_back(server: Server, how: str):
    """Released, closed, left early, or left with an error of the caller's."""
    url = await server.script({"chunks": ["a", 1, "b"]})
    log = EventLog()
    policy = Policy("aio", observers=[log]).with_concurrency(1).rotating(["k"], inject=None)

    async with session_under(policy) as session:
        with contextlib.suppress(ZeroDivisionError):
            async with session.get(url) as response:
                during = held_by(policy)
                match how:
                    case "release":
                        response.release()
                    case "close":
                        response.close()
                    case "break":
                        async for _ in response.content.iter_any():
                            break
                    case _:
                        raise ZeroDivisionError
        after = held_by(policy)

    assert (during, after) == (2, 0)
    assert [event.outcome for event in log.of(CallEnded)] == ["success"]


@pytest.mark.covers("aiohttp", "streams")
@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")
async def test_an_answer_that_is_collected_gives_everything_back(server: Server):
    """When its session has gone; before that aiohttp itself keeps it alive."""
    url = await server.script({"chunks": ["a", 1, "b"]})
    policy = Policy("aio").with_concurrency(1)
    session = aiohttp.ClientSession(middlewares=(PolicyMiddleware(policy),))
    response: Any = await session.get(url)
    during = held_by(policy)

    await session.close()
    del response
    for _ in range(3):
        await asyncio.sleep(0.01)
        gc.collect()

    assert (during, held_by(policy)) == (1, 0)


@pytest.mark.covers("aiohttp", "streams")
@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")
async def test_an_answer_may_be_collected_in_another_thread(server: Server):
    """The stages hear of it in the loop that is theirs."""
    url = await server.script({"chunks": ["a", 1, "b"]})
    policy = Policy("aio").with_concurrency(1)
    session = aiohttp.ClientSession(middlewares=(PolicyMiddleware(policy),))
    left = [await session.get(url)]
    during = held_by(policy)

    await asyncio.to_thread(lambda: left.pop().close())
    await asyncio.sleep(0.01)
    after = held_by(policy)
    await session.close()

    assert (during, after) == (1, 0)


def test_an_answer_that_outlives_its_loop_gives_everything_back(server: Server):
    """The policy may be used in the next one."""
    policy = Policy("aio").with_concurrency(1)

    async def leave() -> aiohttp.ClientResponse:
        url = await server.script({"chunks": ["a", 1, "b"]})
        async with aiohttp.ClientSession(middlewares=(PolicyMiddleware(policy),)) as session:
            return await session.get(url)

    response = asyncio.run(leave())
    during = held_by(policy)
    response.release()

    assert (during, held_by(policy)) == (1, 0)


@pytest.mark.covers("aiohttp", "streams")
async def test_an_answer_without_a_body_is_held_until_the_request_was_written(server: Server):
    """All such answers share one empty body, which is left as it is."""
    url = await server.script({"status": 204, "unread": True})
    policy = Policy("aio").with_concurrency(1)

    async def slowly() -> AsyncGenerator[bytes]:
        yield b"x"
        await asyncio.sleep(0.2)
        yield b"x"

    async with session_under(policy) as session:
        response = await session.put(url, data=slowly())
        during = held_by(policy)
        await response.read()
        await response.wait_for_close()
        after = held_by(policy)

    assert (response.status, during, after) == (204, 1, 0)


@pytest.mark.covers("aiohttp", "streams")
async def test_an_answer_is_no_cycle_because_it_was_held(server: Server):
    """When it was read nothing of it waits for the collector."""
    url = await server.script({"chunks": ["a", 0.01, "b"]})

    async with session_under(retrying()) as session:
        response = await session.get(url)
        await response.read()
        seen = weakref.ref(response)
        gc.disable()
        try:
            del response
            is_gone = seen() is None
        finally:
            gc.enable()

    assert is_gone


@pytest.mark.covers("aiohttp", "junk")
async def test_a_body_that_breaks_off_is_told_to_the_stages(server: Server):
    """The reader gets aiohttp's error, the breaker a failure; it is not sent again."""
    url = await server.script({"chunks": ["a", 0.05, "break"]})
    policy = Policy("aio").with_breaker(failures=1, recover_after=30).with_retry(3, wait=0)

    async with session_under(policy) as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with session.get(url) as response:
                await response.read()
        with pytest.raises(CircuitOpenError):
            await session.get(url)

    assert await server.count(url) == 1


@pytest.mark.covers("aiohttp", "junk")
async def test_a_body_that_broke_off_while_nobody_read_is_told_too(server: Server):
    """When the answer is released."""
    url = await server.script({"chunks": ["a", "break"]})
    policy = Policy("aio").with_breaker(failures=1, recover_after=30)

    async with session_under(policy) as session:
        async with session.get(url):
            await asyncio.sleep(0.1)
        with pytest.raises(CircuitOpenError):
            await session.get(url)


@pytest.mark.covers("aiohttp", "streams")
async def test_a_web_socket_is_under_the_policy_until_it_is_open(server: Server):
    """Its time limits would otherwise end the conversation."""
    url = await server.script({"upgrade": True})
    policy = Policy("aio").with_timeout(0.1).with_concurrency(1)

    async with session_under(policy) as session, session.ws_connect(url) as socket:
        during = held_by(policy)
        await asyncio.sleep(0.2)
        await socket.send_str("hello")
        said = await socket.receive_str()

    assert (during, said) == (0, "hello")


# --- bodies of requests -------------------------------------------------------------------------


async def _nine_bytes() -> AsyncGenerator[bytes]:
    for part in (b"one", b"two", b"six"):
        await asyncio.sleep(0)
        yield part


@pytest.mark.finding(4)
@pytest.mark.covers("aiohttp", "replay")
@pytest.mark.parametrize("step", [{"status": 503}, {"status": 429, "unread": True}])
async def test_a_body_that_can_be_read_once_is_never_sent_empty(
    server: Server, step: dict[str, Any]
):
    """The first answer is the last one."""
    url = await server.script(step, {})

    async with (
        session_under(retrying(), replay="always") as session,
        session.put(url, data=_nine_bytes()) as response,
    ):
        await response.read()

    bodies = [entry["body"] for entry in await server.log(url)]
    assert response.status == step["status"]
    assert bodies in (["onetwosix"], [None])


@pytest.mark.finding(4)
@pytest.mark.covers("aiohttp", "replay")
async def test_a_body_that_can_be_read_once_is_not_sent_again_after_a_failure(server: Server):
    """Nor by aiohttp itself."""
    url = await server.script({"reset": True}, {})

    async with session_under(retrying(), replay="always") as session:
        with pytest.raises(RequestFailedError):
            await session.put(url, data=_nine_bytes())

    assert await server.count(url) == 1


@pytest.mark.covers("aiohttp", "replay")
async def test_a_body_that_was_not_begun_is_sent_by_the_next_attempt(server: Server):
    """Where no connection was made nothing of it was read."""
    url = await server.script({})
    ways = iter(["http://127.0.0.1:9", server.here])

    async def elsewhere(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.url = request.url.with_port(int(next(ways).rpartition(":")[2]))
        return await handler(request)

    session = aiohttp.ClientSession(middlewares=(PolicyMiddleware(retrying()), elsewhere))
    async with session, session.post(url, data=_nine_bytes()) as response:
        await response.read()

    assert [entry["body"] for entry in await server.log(url)] == ["onetwosix"]


@pytest.mark.finding(4)
async def test_a_custom_stage_cannot_send_an_empty_body_either(server: Server):
    """It calls again whatever it is told, and gets an error instead of a lie."""
    url = await server.script({"status": 503}, {})

    async def stubborn(call: Call, call_next: Handler) -> Any:
        try:
            return await call_next(call)
        except Exception:  # noqa: BLE001 - as it says
            return await call_next(call)

    async with session_under(Policy("aio").with_stage(stubborn)) as session:
        with pytest.raises(aiohttp.ClientPayloadError, match="used the request's body up"):
            await session.put(url, data=_nine_bytes())

    assert await server.count(url) == 1


@pytest.mark.covers("aiohttp", "replay")
@pytest.mark.parametrize(
    "body",
    [b"ninebytes", "ninebytes", {"a": "1"}, io.BytesIO(b"ninebytes")],
    ids=["bytes", "text", "form", "file"],
)
async def test_a_body_that_can_be_sent_again_is_sent_whole(server: Server, body: Any):
    """Bytes, texts, forms and files that can seek."""
    url = await server.script({"status": 503}, {"status": 429}, {})

    async with session_under(retrying()) as session, session.post(url, data=body) as response:
        await response.read()

    bodies = [entry["body"] for entry in await server.log(url)]
    assert response.status == 200
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert bodies[0]


@pytest.mark.covers("aiohttp", "replay")
async def test_a_large_body_that_was_refused_half_way_is_sent_whole(server: Server):
    """The writer of the first attempt has let go of it."""
    url = await server.script({"status": 503, "unread": True}, {})
    body = io.BytesIO(b"x" * 900_000)

    async with session_under(retrying()) as session, session.post(url, data=body) as response:
        await response.read()

    assert response.status == 200
    assert len((await server.log(url))[-1]["body"]) == 900_000


@pytest.mark.covers("aiohttp", "replay")
async def test_expect_continue_is_waited_for_by_each_attempt(server: Server):
    """The future of the first one was used up, or cancelled."""
    url = await server.script({"status": 503, "unread": True}, {})

    async with (
        session_under(retrying()) as session,
        session.post(url, data=b"x" * 1000, expect100=True) as response,
    ):
        await response.read()

    assert response.status == 200
    assert len((await server.log(url))[-1]["body"]) == 1000


SAFE = [
    ("POST", {"status": 500}, {}, 1),
    ("POST", {"reset": True}, {}, 1),
    ("PATCH", {"status": 502}, {}, 1),
    ("POST", {"status": 429}, {}, 2),
    ("POST", {"status": 503}, {}, 2),
    ("POST", {"status": 500}, {"headers": {"Idempotency-Key": "1"}}, 2),
    ("PUT", {"status": 500}, {}, 2),
]


@pytest.mark.covers("aiohttp", "replay")
@pytest.mark.parametrize(("method", "step", "options", "requests"), SAFE)
async def test_what_the_server_may_have_acted_on_is_not_sent_again(
    server: Server, method: str, step: dict[str, Any], options: dict[str, Any], requests: int
):
    """A POST or PATCH follows a refusal; anything else only with a key or a method for that."""
    url = await server.script(step, {})

    async with session_under(retrying()) as session:
        with contextlib.suppress(RequestFailedError):
            await session.request(method, url, data=b"x", **options)

    assert await server.count(url) == requests


@pytest.mark.covers("aiohttp", "replay")
async def test_an_attempt_that_was_cut_off_may_have_been_acted_on(server: Server):
    """A POST that ran into its time limit is not sent again, unless the user says so."""
    url = await server.script({"delay": 1})
    policy = Policy("aio").with_retry(2, wait=0).with_timeout(0.1)

    async with session_under(policy) as session:
        with pytest.raises(CallTimeoutError):
            await session.post(url, data=b"x")
    once = await server.count(url)
    async with session_under(policy, replay="always") as session:
        with pytest.raises(CallTimeoutError):
            await session.post(url, data=b"x")

    assert (once, await server.count(url)) == (1, 3)


# --- keys ---------------------------------------------------------------------------------------


def keyed(server: Server, *ids: str, **options: Any) -> Policy:
    """Return a policy that rotates over keys named after their ids."""
    keys = [Resource(f"secret-{each}", id=each, origins=[server.here]) for each in ids]
    return retrying().rotating(Pool(keys, **{"pick": "round_robin", **options}))


@pytest.mark.covers("aiohttp", "rotation")
async def test_each_attempt_has_a_key_of_its_own(server: Server):
    """One that is limited rests, one that is refused is taken out."""
    url = await server.script({"status": 429}, {"status": 401}, {})
    policy = keyed(server, "a", "b", "c")

    async with (
        session_under(policy, header="Authorization", form="Bearer {}") as session,
        session.get(url) as response,
    ):
        await response.read()

    sent = [entry["headers"]["Authorization"] for entry in await server.log(url)]
    assert sent == ["Bearer secret-a", "Bearer secret-b", "Bearer secret-c"]
    assert states_of(policy) == ["cooling", "disabled", "ready"]


@pytest.mark.covers("aiohttp", "rotation")
async def test_a_key_is_shown_by_no_answer_and_no_error(server: Server):
    """It was in the request for as long as that was written; the caller's header is back."""
    url = await server.script({"status": 500})
    policy = keyed(server, "a")

    async with session_under(policy, header="X-Key") as session:
        async with session.get(url, headers={"X-Key": "mine"}) as response:
            shown = response.request_info.headers["X-Key"]
        with pytest.raises(aiohttp.ClientResponseError) as raised:
            response.raise_for_status()

    assert shown == "mine"
    assert "secret" not in repr(raised.value)
    assert {entry["headers"]["X-Key"] for entry in await server.log(url)} == {"secret-a"}


@pytest.mark.finding(2)
@pytest.mark.covers("aiohttp", "origins")
async def test_a_redirect_to_another_host_takes_no_key_along(server: Server):
    """The first hop has it, the second goes without the policy."""
    target = (await server.script({"body": "there"})).replace(server.here, server.there)
    url = await server.script({"status": 302, "goes_to": target})
    policy = keyed(server, "a")

    async with session_under(policy, header="X-Key") as session, session.get(url) as response:
        text = await response.text()

    (first,), (second,) = await server.log(url), await server.log(target)
    assert text == "there"
    assert first["headers"]["X-Key"] == "secret-a"
    assert "X-Key" not in second["headers"]


@pytest.mark.covers("aiohttp", "origins")
async def test_a_redirect_on_the_same_host_has_a_key_and_an_attempt_of_its_own(server: Server):
    """Each hop is a request to the policy."""
    target = await server.script({"status": 503}, {"body": "there"})
    url = await server.script({"status": 307, "goes_to": target})
    policy = keyed(server, "a", "b")

    async with session_under(policy, header="X-Key") as session, session.get(url) as response:
        text = await response.text()

    keys = [entry["headers"]["X-Key"] for entry in await server.log(url) + await server.log(target)]
    assert text == "there"
    assert keys == ["secret-a", "secret-b", "secret-a"]


@pytest.mark.covers("aiohttp", "origins")
async def test_the_middleware_may_say_for_what_origins_it_is(server: Server):
    """Requests to others are sent as they are."""
    url = await server.script({"status": 503}, {})
    policy = retrying().rotating(["k"])

    async with session_under(policy, header="X-Key", origins=[server.there]) as session:
        async with session.get(url) as other:
            await other.read()
        async with session.get(url.replace(server.here, server.there)) as own:
            await own.read()

    keys = [entry["headers"].get("X-Key") for entry in await server.log(url)]
    assert (other.status, own.status, keys) == (503, 200, [None, "k"])


@pytest.mark.parametrize(
    "options",
    [
        {"header": "X-Key"},
        {"header": "X-Key", "form": "Bearer"},
        {"header": "X-Key", "origins": ["nowhere"]},
        {"header": "X-Key", "origins": ["http://a"], "proxies": True},
        {"replay": "sometimes"},
        {"classify": "nobody"},
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]):
    """When the middleware is made."""
    with pytest.raises(ConfigError):
        PolicyMiddleware(Policy("aio").rotating(["k"]), **options)


@pytest.mark.covers("aiohttp", "quota headers")
async def test_a_good_answer_that_says_nothing_is_left_rests_its_key(server: Server):
    """Before the next request would be refused."""
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    url = await server.script({"headers": headers}, {})
    policy = keyed(server, "a", "b")

    async with session_under(policy, header="X-Key") as session:
        for _ in range(3):
            async with session.get(url) as response:
                await response.read()

    keys = [entry["headers"]["X-Key"] for entry in await server.log(url)]
    assert keys == ["secret-a", "secret-b", "secret-b"]


@pytest.mark.covers("aiohttp", "rotation")
@pytest.mark.parametrize(("method", "requests"), [("GET", 2), ("POST", 1)])
async def test_an_attempt_on_a_key_that_is_lost_begins_elsewhere_if_that_does_no_harm(
    server: Server, method: str, requests: int
):
    """An older one has met a limit; a POST under way may have been acted on."""
    older = await server.script({"delay": 0.1, "status": 429}, {})
    younger = await server.script({"delay": 0.4}, {})
    policy = keyed(server, "a", "b", pick="primary_backup")

    async def read(session: aiohttp.ClientSession, method: str, url: str) -> int:
        async with session.request(method, url) as response:
            await response.read()
        return response.status

    async with session_under(policy, header="X-Key") as session:
        first = asyncio.ensure_future(read(session, "GET", older))
        await asyncio.sleep(0.05)
        statuses = [await read(session, method, younger), await first]

    assert statuses == [200, 200]
    assert await server.count(younger) == requests


@pytest.mark.covers("aiohttp", "rotation")
async def test_a_refusal_by_the_sessions_proxy_is_not_the_keys_fault(server: Server):
    """407 leaves the key as it is."""
    url = await server.script({"status": 407})
    policy = keyed(server, "a")

    async with session_under(policy, header="X-Key") as session, session.get(url) as response:
        await response.read()

    assert (response.status, await server.count(url)) == (407, 1)
    assert states_of(policy) == ["ready"]


# --- proxies ------------------------------------------------------------------------------------


def proxied(*urls: str, **options: Any) -> Policy:
    """Return a policy that rotates over proxies."""
    ids = {str(place): url for place, url in enumerate(urls)}
    return retrying().rotating(Pool(ids, **{"pick": "round_robin", **options}))


@pytest.mark.covers("aiohttp", "rotation")
async def test_each_attempt_goes_through_a_proxy_of_its_own(server: Server):
    """The password of one is not shown to the next."""
    url = await server.script({"status": 503}, {})
    first, second = server.proxies
    policy = proxied(first.replace("//", "//user:secret@"), second)

    async with session_under(policy, proxies=True) as session, session.get(url) as response:
        text = await response.text()
        shown = dict(response.request_info.headers)

    log = await server.log(url)
    assert text == "well"
    assert [entry["port"] for entry in log] == [
        int(each.rpartition(":")[2]) for each in server.proxies
    ]
    assert ["Proxy-Authorization" in entry["headers"] for entry in log] == [True, False]
    assert "Proxy-Authorization" not in shown


@pytest.mark.covers("aiohttp", "rotation")
async def test_a_proxy_that_is_dead_rests_and_one_that_refuses_is_taken_out(server: Server):
    """The third serves."""
    url = await server.script({"status": 407}, {})
    policy = proxied("http://127.0.0.1:9", *server.proxies)

    async with session_under(policy, proxies=True) as session, session.get(url) as response:
        await response.read()

    assert response.status == 200
    assert states_of(policy) == ["cooling", "disabled", "ready"]


@pytest.mark.covers("aiohttp", "rotation")
async def test_without_rotation_there_is_no_proxy_to_go_through(server: Server):
    """The request is sent as the session says."""
    url = await server.script({})

    async with session_under(retrying(), proxies=True) as session, session.get(url) as response:
        await response.read()

    assert server.here.endswith(str((await server.log(url))[0]["port"]))


@pytest.mark.covers("aiohttp", "rotation")
async def test_a_proxy_that_refuses_a_tunnel_is_taken_out(server: Server):
    """There 407 comes as an exception."""
    policy = proxied(*server.proxies)

    async with session_under(policy, proxies=True) as session:
        with pytest.raises(aiohttp.ClientHttpProxyError):
            await session.get("https://127.0.0.1:1/")

    assert states_of(policy) == ["disabled", "disabled"]


@pytest.mark.covers("aiohttp", "rotation")
@pytest.mark.parametrize("status", [401, 402])
async def test_what_a_target_says_of_the_callers_key_is_not_the_proxys_fault(
    server: Server, status: int
):
    """It is the caller's answer."""
    url = await server.script({"status": status})
    policy = proxied(*server.proxies)

    async with session_under(policy, proxies=True) as session, session.get(url) as response:
        await response.read()

    assert (response.status, states_of(policy)) == (status, ["ready", "ready"])


# --- cancels ------------------------------------------------------------------------------------


class Cancelled:
    """Runs an operation and cancels its task at the n-th time that it waits."""

    def __init__(self, operation: Any, at: int) -> None:
        self._operation = operation
        self._left = at

    def __await__(self) -> Iterator[Any]:
        steps = self._operation.__await__()
        act: Any = lambda: next(steps)  # noqa: E731
        while True:
            try:
                waited_for = act()
            except StopIteration as stop:
                return stop.value
            self._left -= 1
            task = asyncio.current_task()
            assert task
            if self._left == 0:
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                sent = yield waited_for
            except BaseException as error:  # noqa: BLE001 - handed on
                act = lambda error=error: steps.throw(error)  # noqa: E731
            else:
                act = lambda sent=sent: steps.send(sent)  # noqa: E731


@pytest.mark.covers("aiohttp", "discard")
async def test_a_cancel_at_any_point_leaves_nothing_behind(server: Server):
    """No permit, no lease, no connection; and the policy serves the next request."""
    steps = [
        {"status": 503},
        {"status": 429, "chunks": ["a", 0.005, "b"]},
        {"chunks": ["a", 0.005, "b"]},
    ]
    policy = keyed(server, "a", "b", cooldown=0.0)
    points = 0

    while True:
        points += 1
        url = await server.script(*steps)
        async with session_under(policy, header="X-Key") as session:

            async def read(session=session, url=url) -> None:
                async with session.post(url, data=b"nine bytes") as answer:
                    await answer.read()

            victim = asyncio.ensure_future(_run(Cancelled(read(), points)))
            await asyncio.wait([victim])
            await asyncio.sleep(0)
        if not victim.cancelled():
            break

    assert points > 8
    assert victim.exception() is None


async def _run(awaitable: Any) -> Any:
    return await awaitable


async def test_a_fallback_must_answer_with_an_answer(server: Server):
    """Anything else would break in the middle of aiohttp."""
    url = await server.script({"status": 503})

    async with session_under(Policy("aio").with_fallback(value="nothing")) as session:
        with pytest.raises(PolicyError, match="answered with str"):
            await session.get(url)


def test_a_missing_aiohttp_is_named_with_its_extra():
    """The error says what to install."""
    program = "import sys; sys.modules['aiohttp'] = None; import penstock.integrations.aiohttp"

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "pip install 'penstock[aiohttp]'" in ran.stderr


async def test_what_else_aiohttp_may_ask_its_timer_is_answered(server: Server):
    """The one that the policy stands in for."""
    url = await server.script({"chunks": ["a", 0.05, "b"]})
    limits = aiohttp.ClientTimeout(total=5)

    async with (
        session_under(retrying(), limits=limits) as session,
        session.get(url) as response,
    ):
        timer: Any = response.content._timer
        before = timer._cancelled
        await response.read()

    assert before is False
    assert response.content._timer is not timer


@pytest.mark.covers("aiohttp", "types")
def test_it_is_a_middleware_to_sessions_and_to_type_checkers():
    """``tests/typing/middleware_right_uses.py`` is checked by mypy and pyright."""
    middleware: aiohttp.ClientMiddlewareType = PolicyMiddleware(Policy("aio"))

    assert inspect.iscoroutinefunction(type(middleware).__call__)
