from __future__ import annotations

import asyncio

import httpx
import pytest

from penstock.demo.drive import Requests

pytestmark = pytest.mark.virtual_time


def requests_to(*seen: dict[str, int]) -> Requests:
    """Return requests to a server that shows these counts, one after the other."""
    answers = list(seen)

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/seen":
            return httpx.Response(200, json=answers.pop(0) if len(answers) > 1 else answers[0])
        return httpx.Response(200, json={"call": int(request.url.path.rpartition("/")[2])})

    transport = httpx.MockTransport(handle)
    return Requests(httpx.AsyncClient(base_url="http://test", transport=transport))


async def test_an_answer_is_known_by_its_call() -> None:
    """What comes back says which call it belongs to."""
    assert await requests_to({}).fetch(42) == 42


async def test_a_server_that_is_behind_is_waited_for() -> None:
    """The last requests may have been sent and given up before the server has read them."""
    requests = requests_to({"200": 3}, {"200": 4}, {"200": 4, "503": 1}, {"200": 99})
    requests.sent = 5

    seen = await requests.seen_by_server()

    assert seen == {"200": 4, "503": 1}


async def test_a_server_that_stays_behind_is_not_waited_for_long() -> None:
    """After two seconds its counts are what they are, and the summary says that they differ."""
    requests = requests_to({"200": 3})
    requests.sent = 5

    seen = await requests.seen_by_server()

    assert seen == {"200": 3}
    assert 2 <= asyncio.get_running_loop().time() < 2.2
