from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from penstock.demo.rotation.keys import value_of
from penstock.demo.rotation.service import KeyedService
from penstock.demo.script import Answer, Kind, Script
from penstock.demo.server import DemoServer

pytestmark = pytest.mark.integration


class Told(Script):
    """A script that was told what to answer, whichever the call."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(1, 1)
        self.answers = list(answers)

    def next(self, call: int) -> Answer:
        return self.answers.pop(0)


@asynccontextmanager
async def client_of(*answers: Answer) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the answers and yield a client of the server."""
    server = await DemoServer(Told(*answers), KeyedService(7)).start()
    port = server.sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.close()


async def test_a_good_answer_names_its_call() -> None:
    """The client can tell that it got the answer to its own question."""
    async with client_of(Answer(Kind.OK, 0)) as client:
        response = await client.get("/work/42")

    assert (response.status_code, response.json()) == (200, {"call": 42})


async def test_a_refusal_carries_its_hint() -> None:
    """The headers of the script reach the client."""
    hints = (("retry-after-ms", "250"), ("Retry-After", "1"))
    async with client_of(Answer(Kind.RATE_LIMITED, 0, hints)) as client:
        response = await client.get("/work/0")

    assert response.status_code == 429
    assert response.headers["retry-after-ms"] == "250"
    assert response.headers["Retry-After"] == "1"


async def test_a_busy_server_says_503() -> None:
    """An overloaded server still answers."""
    async with client_of(Answer(Kind.OVERLOADED, 0)) as client:
        response = await client.get("/work/0")

    assert response.status_code == 503


async def test_a_reset_is_a_connection_error() -> None:
    """The client sees the connection break before any answer; the next request works again."""
    async with client_of(Answer(Kind.RESET, 0), Answer(Kind.OK, 0)) as client:
        with pytest.raises(httpx.ReadError):
            await client.get("/work/0")
        response = await client.get("/work/0")

    assert response.status_code == 200


async def test_a_slow_answer_outlasts_the_patience_of_its_client() -> None:
    """Whoever gives up gets nothing, and the server stays in service."""
    async with client_of(Answer(Kind.SLOW, 0.2), Answer(Kind.OK, 0)) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/work/0", timeout=0.05)
        response = await client.get("/work/1")
        await asyncio.sleep(0.2)

    assert response.json() == {"call": 1}


async def test_the_server_counts_what_it_has_seen() -> None:
    """Every request but the question for the counts is counted, on one connection too."""
    async with client_of(Answer(Kind.OK, 0), Answer(Kind.OK, 0), Answer(Kind.OVERLOADED, 0)) as c:
        for call in range(3):
            await c.get(f"/work/{call}")
        seen = (await c.get("/seen")).json()

    assert seen == {"200": 2, "503": 1}


async def test_a_key_decides_what_its_request_meets() -> None:
    """The header carries it; who sends none, or a wrong one, is refused."""
    async with client_of() as client:
        good, revoked, wrong = [
            await client.get("/keyed/3", headers={"Authorization": f"Bearer {value}"})
            for value in (value_of(7, "good"), value_of(7, "revoked"), "wrong")
        ]
        without = await client.get("/keyed/3")
        seen = (await client.get("/seen/keys")).json()

    assert (good.status_code, good.json()) == (200, {"call": 3})
    assert [answer.status_code for answer in (revoked, wrong, without)] == [401, 401, 401]
    assert seen == {"tight": {}, "roomy": {}, "revoked": {"401": 1}, "slow": {}, "good": {"200": 1}}


async def test_a_key_above_its_limit_is_told_when_to_come_back() -> None:
    """The answer is 429 with Retry-After in whole seconds."""
    headers = {"Authorization": f"Bearer {value_of(7, 'tight')}"}
    async with client_of() as client:
        answers = await asyncio.gather(
            *(client.get("/keyed/0", headers=headers) for _ in range(11))
        )

    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 1
    assert refused[0].headers["Retry-After"] == "1"
