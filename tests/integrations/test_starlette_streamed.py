from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from penstock import Policy
from penstock.integrations.starlette import StreamedResponse, install

pytestmark = pytest.mark.covers("starlette", "streams")


class Words:
    """A source that is slow, and may fail."""

    def __init__(self, *words: str | bytes | Exception) -> None:
        self.words = words
        self.log: list[str] = []

    async def __call__(self) -> AsyncIterator[str | bytes]:
        self.log.append("opened")
        try:
            for word in self.words:
                await asyncio.sleep(1)
                if isinstance(word, Exception):
                    raise word
                yield word
        finally:
            self.log.append("closed")


class Client:
    """The server's side of a connection."""

    def __init__(self, *, gone_after: float | None = None, breaks: bool = False) -> None:
        self._gone_after = gone_after
        self._breaks = breaks
        self.sent: list[dict[str, Any]] = []

    @property
    def body(self) -> bytes:
        """What has arrived."""
        return b"".join(each.get("body", b"") for each in self.sent)

    async def receive(self) -> dict[str, Any]:
        """Say when the client has gone."""
        if self._gone_after is None:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._gone_after or 0)
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take a message."""
        if self._breaks and message.get("body"):
            raise OSError("the connection is gone")
        self.sent.append(message)

    async def get(self, response: StreamedResponse) -> None:
        """Have a response sent to this client."""
        await response({"type": "http"}, self.receive, self.send)


@pytest.fixture
def policy() -> Policy:
    """Return a policy that holds a permit."""
    return Policy("words").with_timeout(60).with_concurrency(1, max_queue=0)


def held(policy: Policy) -> tuple[int, int]:
    """Return what a policy holds."""
    timeout, concurrency = policy.snapshot()["stages"]
    return timeout["running"], concurrency["in_flight"]


async def test_items_are_sent_as_they_come(policy: Policy):
    """The status comes with the first; each is made into text, and the permit is held meanwhile."""
    client, words = Client(), Words("water", "drives")
    response = StreamedResponse(
        policy.stream(words), lambda word: f"data: {word}\n\n", media_type="text/event-stream"
    )

    sending = asyncio.create_task(client.get(response))
    await asyncio.sleep(0.5)
    before = list(client.sent)
    await asyncio.sleep(1)
    during = held(policy)
    await sending

    assert (before, during, held(policy)) == ([], (1, 1), (0, 0))
    assert client.body == b"data: water\n\ndata: drives\n\n"
    assert (b"content-type", b"text/event-stream; charset=utf-8") in client.sent[0]["headers"]
    assert [each.get("more_body") for each in client.sent[1:]] == [True, True, None]


async def test_a_stream_without_items_is_an_empty_answer(policy: Policy):
    """With the status that was given."""
    client = Client()

    await client.get(StreamedResponse(policy.stream(Words()), status_code=203))

    assert (client.sent[0]["status"], client.body) == (203, b"")


async def test_text_and_bytes_are_sent_as_they_are(policy: Policy):
    """And nobody watches the connection any longer."""
    client = Client()

    await client.get(StreamedResponse(policy.stream(Words("wäter ", b"drives"))))
    await asyncio.sleep(0)

    assert client.body == "wäter drives".encode()
    assert len(asyncio.all_tasks()) == 1


def _app(policy: Policy, words: Words) -> Starlette:
    async def endpoint(_: Request) -> StreamedResponse:
        return StreamedResponse(policy.stream(words))

    app = Starlette(routes=[Route("/", endpoint)])
    install(app)
    return app


async def _answers(app: Starlette, times: int = 1) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await asyncio.gather(*(client.get("/") for _ in range(times)))


async def test_a_refusal_is_still_an_answer(policy: Policy):
    """Nothing was sent before the stream was there."""
    answers = await _answers(_app(policy, Words("water", "drives")), times=2)

    assert [answer.status_code for answer in answers] == [200, 503]
    assert answers[0].text == "waterdrives"


@pytest.mark.covers("starlette", "retry")
async def test_a_stream_that_fails_before_its_first_item_is_opened_again():
    """The client sees one answer."""
    fails = [ConnectionError("closed")]

    async def words() -> AsyncIterator[str]:
        if fails:
            raise fails.pop()
        yield "water"

    client = Client()
    await client.get(StreamedResponse(Policy().with_retry(2, wait=1).stream(words)))

    assert client.body == b"water"


async def test_a_failure_in_the_middle_breaks_off(policy: Policy):
    """The server closes the connection without an end; the stream is closed."""
    client, words = Client(), Words("water", ConnectionError("closed"))

    with pytest.raises(ConnectionError):
        await client.get(StreamedResponse(policy.stream(words)))

    assert (client.body, words.log, held(policy)) == (b"water", ["opened", "closed"], (0, 0))
    assert client.sent[-1]["more_body"]


@pytest.mark.covers("starlette", "discard")
@pytest.mark.parametrize("seconds", [0.5, 1.5], ids=["before", "after"])
async def test_a_client_that_goes_closes_the_stream_at_once(policy: Policy, seconds: float):
    """Before the first item and after it, although the source is what is waited for."""
    client, words = Client(gone_after=seconds), Words("water", "drives")
    ran: list[str] = []
    response = StreamedResponse(
        policy.stream(words), background=BackgroundTask(_note, ran, "background")
    )

    await client.get(response)

    task: Any = asyncio.current_task()
    assert (words.log, held(policy), task.cancelling()) == (["opened", "closed"], (0, 0), 0)
    assert asyncio.get_running_loop().time() == seconds
    assert ran == ["background"]


async def _note(ran: list[str], what: str) -> None:
    ran.append(what)


async def test_a_server_that_says_so_is_believed(policy: Policy):
    """Those of ASGI 2.4 raise where the client has gone."""
    words = Words("water", "drives")

    with pytest.raises(ClientDisconnect):
        await Client(breaks=True).get(StreamedResponse(policy.stream(words)))

    assert (words.log, held(policy)) == (["opened", "closed"], (0, 0))


async def test_a_cancel_from_elsewhere_stays_a_cancel(policy: Policy):
    """The server stops; everything is closed before that."""
    words = Words("water", "drives")
    task = asyncio.create_task(Client().get(StreamedResponse(policy.stream(words))))
    await asyncio.sleep(1.5)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (words.log, held(policy)) == (["opened", "closed"], (0, 0))


async def test_the_policys_own_time_limit_is_no_client_that_has_gone(policy: Policy):
    """Its error is raised, not taken for the end of the connection."""
    words = Words("water", "drives", "the", "turbine")

    with pytest.raises(TimeoutError):
        await Client().get(StreamedResponse(policy.using(timeout=2.5).stream(words)))

    assert (words.log, held(policy)) == (["opened", "closed"], (0, 0))
