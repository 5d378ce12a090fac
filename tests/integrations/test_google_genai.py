from __future__ import annotations

import asyncio
import gc
import pickle
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import httpx2
import pytest
from google import genai
from google.genai import errors
from google.genai.types import HttpOptions, HttpRetryOptions

from penstock import (
    CallTimeoutError,
    ConfigError,
    NoResourceError,
    Policy,
    PolicyOrderWarning,
    RemoteError,
    Resource,
    VerdictKind,
)
from penstock.classify import classify
from penstock.workers.envelope import sealed
from tests.integrations.servers.llm_answers import TEXT, WORDS
from tests.integrations.servers.llm_script import Script
from tests.integrations.serving import serve

pytestmark = [
    pytest.mark.integration,
    # The SDK derives from aiohttp's session, which aiohttp would rather not have.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

ASK: Any = {"model": "gemini-test", "contents": "what does water do?"}
ONCE = HttpRetryOptions(attempts=1)
NONE = HttpRetryOptions(attempts=0)  # the SDK reads it as 1

LIMITED = {"type": "RESOURCE_EXHAUSTED"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve for all tests of this file."""
    with serve("llm") as url:
        yield url


@pytest.fixture
async def clients() -> AsyncIterator[Any]:
    """Make clients of a script, and close them."""
    async with AsyncExitStack() as made:

        def make(script: Script, key: str = "key-a", **options: Any) -> genai.Client:
            settings = {"base_url": script.url, "retry_options": ONCE} | options
            if "aiohttp_client" not in settings:
                # What the SDK is given it does not close.
                http = settings.setdefault("httpx_async_client", httpx2.AsyncClient(verify=False))
                made.push_async_callback(http.aclose)
            settings["httpx_client"] = httpx2.Client(verify=False)
            made.callback(settings["httpx_client"].close)
            client = genai.Client(api_key=key, http_options=HttpOptions(**settings))
            made.push_async_callback(client.aio.aclose)
            return client

        yield make


async def failure_of(client: genai.Client) -> Exception:
    """Return what a call fails with."""
    with pytest.raises((errors.APIError, httpx2.TransportError)) as caught:
        await client.aio.models.generate_content(**ASK)
    return caught.value


# --- verdicts and retries -----------------------------------------------------------------------


@pytest.mark.covers("google_genai", "classified")
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ({"status": 400, "error": {"type": "INVALID_ARGUMENT"}}, VerdictKind.CALLER_BUG),
        ({"status": 401, "error": {"type": "UNAUTHENTICATED"}}, VerdictKind.AUTH),
        ({"status": 404, "error": {"type": "NOT_FOUND"}}, VerdictKind.CALLER_BUG),
        ({"status": 429, "error": LIMITED}, VerdictKind.RATE_LIMITED),
        ({"status": 500, "error": {"type": "INTERNAL"}}, VerdictKind.TRANSIENT),
        ({"status": 503, "error": {"type": "UNAVAILABLE"}}, VerdictKind.OVERLOADED),
        ({"status": 504, "error": {"type": "DEADLINE_EXCEEDED"}}, VerdictKind.TIMEOUT),
        ({"reset": "at once"}, VerdictKind.TRANSIENT),
    ],
    ids=str,
)
async def test_errors_get_the_verdict_that_they_mean(
    server: str, clients: Any, step: Any, kind: VerdictKind
):
    """Of the SDK's own exceptions, and of the HTTP client's, which it does not wrap."""
    script = Script(server, {"*": [step]})

    failure = await failure_of(clients(script))

    assert classify(failure).kind is kind


@pytest.mark.covers("google_genai", "retry")
@pytest.mark.covers("google_genai", "replay")
async def test_what_may_pass_is_tried_again(server: str, clients: Any):
    """Through ``client.aio``; each time with the whole body."""
    steps = [{"status": 503}, {"reset": "at once"}, {"status": 500}, {}]
    script = Script(server, {"*": steps})
    client = Policy("p").with_retry(4, wait=0.01).wrap_client(clients(script))

    answer = await client.aio.models.generate_content(**ASK)

    assert answer.text == TEXT
    bodies = [request["body"] for request in script.seen]
    assert bodies == [bodies[0]] * 4
    assert bodies[0]["contents"]


@pytest.mark.covers("google_genai", "retry")
@pytest.mark.parametrize("status", [400, 401, 404])
async def test_what_cannot_pass_is_not_tried_again(server: str, clients: Any, status: int):
    """The caller's mistakes and, without another key, a refused key."""
    script = Script(server, {"*": [{"status": status}]})
    client = Policy("p").with_retry(4, wait=0.01).wrap_client(clients(script).aio)

    with pytest.raises(errors.ClientError):
        await client.models.generate_content(**ASK)

    assert len(script.seen) == 1


@pytest.mark.covers("google_genai", "server hint")
async def test_the_word_of_the_server_is_obeyed(server: str, clients: Any):
    """In a header; the wait is the server's, not the back-off's, which is shorter."""
    limited = {"status": 429, "error": LIMITED, "headers": {"retry-after": "0.15"}}
    script = Script(server, {"*": [limited]})
    client = Policy("p").with_retry(2, wait=0.001).wrap_client(clients(script))

    began = time.monotonic()
    await client.aio.models.generate_content(**ASK)

    assert 0.15 <= time.monotonic() - began < 0.8


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.covers("google_genai", "rotation")
async def test_calls_go_on_over_five_keys(server: str, clients: Any):
    """A client per key: one revoked, one limited, one overloaded once, and two good ones."""
    script = Script(
        server,
        {
            "revoked": [{"status": 401, "error": {"type": "UNAUTHENTICATED"}}] * 20,
            "limited": [{"status": 429, "error": LIMITED, "headers": {"retry-after": "40"}}] * 20,
            "busy": [{"status": 503}],
        },
    )
    keys = {name: name for name in ("revoked", "limited", "busy", "good", "better")}
    policy = Policy("p").with_retry(5, wait=0.01).rotating(keys, pick="round_robin")
    client = policy.wrap_client(clients(script, "never sent"))

    ask = client.aio.models.generate_content
    answers = await asyncio.gather(*(ask(**ASK) for _ in range(10)))

    resources = policy.snapshot()["stages"][1]["resources"]
    standings = {name: resource["standing"] for name, resource in resources.items()}
    assert [answer.text for answer in answers] == [TEXT] * 10
    assert standings["revoked"] == "disabled"
    assert standings["limited"] == "cooling"
    assert {answer.response_id for answer in answers} <= {"gem-busy", "gem-good", "gem-better"}
    assert "never sent" not in script.keys


@pytest.mark.covers("google_genai", "rotation")
@pytest.mark.parametrize("part", [False, True])
async def test_clients_for_keys_are_closed_with_the_client(server: str, *, part: bool):
    """Each has connections of its own where the user gives it none to share."""
    script = Script(server, {})
    options = HttpOptions(base_url=script.url, retry_options=ONCE)
    whole = genai.Client(api_key="none", http_options=options)
    policy = Policy("p").rotating(["a", "b"], pick="round_robin")

    async with policy.wrap_client(whole.aio) if part else policy.wrap_client(whole).aio as client:
        for _ in range(4):
            await client.models.generate_content(**ASK)

    # An open session would complain when it is collected.
    gc.collect()
    assert script.keys == ["a", "b", "a", "b"]


async def test_clients_for_keys_have_the_options_of_the_client(server: str, clients: Any):
    """Headers of the user's, the API version, the connections that are shared."""
    script = Script(server, {})
    session = aiohttp.ClientSession()
    options = {"headers": {"x-team": "water"}, "api_version": "v7", "aiohttp_client": session}
    client = Policy("p").rotating(["a"]).wrap_client(clients(script, **options))

    async with session:
        await client.aio.models.generate_content(**ASK)

    (request,) = script.seen
    assert request["path"].split("/")[3] == "v7"
    assert request["headers"]["x-team"] == "water"
    assert request["key"] == "a"


@pytest.mark.covers("google_genai", "quota headers")
async def test_a_good_answer_says_that_a_key_is_spent(server: str, clients: Any):
    """Where something between the client and Google says so: Google itself sends no such header."""
    spent = {"headers": {"ratelimit": '"default";r=0;t=60'}}
    script = Script(server, {"a": [spent]})
    policy = Policy("p").rotating(["a"])
    client = policy.wrap_client(clients(script))

    await client.aio.models.generate_content(**ASK)

    with pytest.raises(NoResourceError):
        await client.aio.models.generate_content(**ASK)


@pytest.mark.covers("google_genai", "origins")
@pytest.mark.parametrize("by", ["aiohttp", "httpx"])
async def test_a_redirect_is_not_followed(server: str, by: str):
    """The key's header would go along to another host."""
    other = Script(server, {})
    elsewhere = f"{other.url.replace('127.0.0.1', 'localhost')}/v1beta/models/g:generateContent"
    script = Script(server, {"*": [{"status": 307, "headers": {"location": elsewhere}}]})
    options = HttpOptions(base_url=script.url, retry_options=ONCE)
    if by == "httpx":
        options.async_client_args = {"transport": httpx2.AsyncHTTPTransport(verify=False)}
    raw = genai.Client(api_key="none", http_options=options)

    async with Policy("p").rotating(["secret"]).wrap_client(raw).aio as client:
        with pytest.raises(errors.APIError):
            await client.models.generate_content(**ASK)

    assert script.keys == ["secret"]
    assert other.seen == []


@pytest.mark.covers("google_genai", "origins")
async def test_a_resource_for_another_host_is_refused(server: str, clients: Any):
    """Before anything is sent."""
    script = Script(server, {})
    key = Resource("secret", origins=["https://generativelanguage.googleapis.com"])

    with pytest.raises(ConfigError, match="resource '1' is for https://generativelanguage"):
        Policy("p").rotating([key]).wrap_client(clients(script))

    assert script.seen == []


# --- what is covered ----------------------------------------------------------------------------


@pytest.mark.covers("google_genai", "types")
async def test_what_comes_back_is_what_the_types_say(server: str, clients: Any):
    """Both clients keep their class; what is for asyncio can be wrapped alone."""
    script = Script(server, {})
    raw = clients(script)
    policy = Policy("p").with_retry(2)

    client, part = policy.wrap_client(raw), policy.wrap_client(raw.aio)

    assert isinstance(client, genai.Client)
    assert isinstance(client.aio, type(raw.aio))
    assert isinstance(part, type(raw.aio))
    assert type(await part.models.generate_content(**ASK)).__name__ == "GenerateContentResponse"


async def test_what_blocks_is_refused_when_it_is_called(server: str, clients: Any):
    """The message has the same method for asyncio; left out by ``only=`` it can be called."""
    script = Script(server, {})
    raw = clients(script)

    client = Policy("p").wrap_client(raw)
    with pytest.raises(TypeError, match=r"models\.generate_content blocks .* aio\.models\.generat"):
        client.models.generate_content(**ASK)

    client = Policy("p").wrap_client(raw, only=["aio.*"])
    assert client.models.generate_content(**ASK).text == TEXT


async def test_a_chat_is_returned_as_it_is(server: str, clients: Any):
    """It keeps its own history: its messages go by ``policy.call``."""
    script = Script(server, {"*": [{"status": 503}]})
    policy = Policy("p").with_retry(2, wait=0.01)
    client = policy.wrap_client(clients(script))

    chat = client.aio.chats.create(model="gemini-test")
    answer = await policy.call(chat.send_message, "hello")

    assert answer.text == TEXT
    assert len(chat.get_history()) == 2


@pytest.mark.covers("google_genai", "discard")
async def test_failed_attempts_give_their_connection_back(server: str, clients: Any):
    """With one connection in the pool five attempts get through."""
    script = Script(server, {"*": [{"status": 503}] * 4})
    limits = httpx2.Limits(max_connections=1)
    http = httpx2.AsyncClient(limits=limits, timeout=httpx2.Timeout(5, pool=0.2))
    raw = clients(script, httpx_async_client=http)
    client = Policy("p").with_retry(5, wait=0.01).wrap_client(raw)

    answer = await client.aio.models.generate_content(**ASK)

    assert answer.text == TEXT


@pytest.mark.covers("google_genai", "deadline")
async def test_no_attempt_outlives_the_deadline(server: str, clients: Any):
    """A slow answer is given up, and no further attempt is begun."""
    script = Script(server, {"*": [{"slow": 5}, {}]})
    policy = Policy("p").with_timeout(0.2).with_retry(3, wait=0.01)
    client = policy.wrap_client(clients(script))

    began = time.monotonic()
    with pytest.raises(CallTimeoutError):
        await client.aio.models.generate_content(**ASK)

    assert time.monotonic() - began < 0.6
    assert len(script.seen) == 1


# --- streams ------------------------------------------------------------------------------------


@pytest.mark.covers("google_genai", "streams")
@pytest.mark.parametrize("step", [{"status": 503}, {"items": 0, "then": "reset"}], ids=str)
async def test_a_stream_is_opened_again_until_its_first_item(server: str, clients: Any, step: Any):
    """The SDK opens it when the first item is asked for: nothing but ``policy.stream`` sees it."""
    script = Script(server, {"*": [step, {}]})
    policy = Policy("p").with_retry(3, wait=0.01).with_concurrency(1)
    opened = clients(script).aio.models.generate_content_stream

    async with policy.stream(opened, **ASK) as chunks:
        held = policy.snapshot()["stages"][1]["in_flight"]
        words = [chunk.text async for chunk in chunks]

    assert words == list(WORDS)
    assert held == 1
    assert policy.snapshot()["stages"][1]["in_flight"] == 0
    assert len(script.seen) == 2


@pytest.mark.covers("google_genai", "streams")
@pytest.mark.parametrize("then", ["reset", "cut"])
async def test_after_its_first_item_a_stream_is_not_replayed(server: str, clients: Any, then: str):
    """The reader gets what there is, then the HTTP client's error."""
    script = Script(server, {"*": [{"items": 2, "then": then}, {}]})
    policy = Policy("p").with_retry(3, wait=0.01)
    opened = clients(script).aio.models.generate_content_stream
    words: list[str] = []

    async def read() -> None:
        async with policy.stream(opened, **ASK) as chunks:
            async for chunk in chunks:
                words.append(chunk.text)  # noqa: PERF401 - it breaks off

    with pytest.raises(httpx2.TransportError) as caught:
        await read()

    assert words == list(WORDS[:2])
    assert classify(caught.value).kind is VerdictKind.TRANSIENT
    assert len(script.seen) == 1


# --- its own retries ----------------------------------------------------------------------------


@pytest.mark.covers("google_genai", "own retries")
@pytest.mark.parametrize(
    ("retries", "requests"),
    [
        (HttpRetryOptions(attempts=3), 3),
        (HttpRetryOptions(), 5),
        # One hidden retry, after up to ten seconds, where it uses aiohttp.
        (None, 2),
    ],
    ids=str,
)
def test_retries_of_the_client_itself_are_warned_about(retries: Any, requests: int):
    """They multiply, and the line that switches them off is in the message."""
    client = genai.Client(api_key="none", http_options=HttpOptions(retry_options=retries))

    with pytest.warns(PolicyOrderWarning, match=f"4 x {requests} = {4 * requests} ") as caught:
        Policy("p").with_retry(4).wrap_client(client)

    assert "HttpRetryOptions(attempts=1)" in str(caught[0].message)


@pytest.mark.covers("google_genai", "own retries")
def test_a_client_that_sends_once_is_no_matter():
    """No warning; without aiohttp no retry is hidden either."""
    http = HttpOptions(httpx_async_client=httpx2.AsyncClient(verify=False))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in (HttpOptions(retry_options=ONCE), HttpOptions(retry_options=NONE), http):
            client = genai.Client(api_key="none", http_options=options)
            Policy("p").with_retry(4).wrap_client(client)


# --- junk and other processes -------------------------------------------------------------------


@pytest.mark.covers("google_genai", "junk")
@pytest.mark.parametrize("value", ["soon", "inf", "-20", "Wed, 99 Foo 2026 00:00:00 GMT"])
async def test_junk_in_headers_is_no_hint(server: str, clients: Any, value: str):
    """The back-off is waited, as if nothing were there."""
    limited = {"status": 429, "error": LIMITED, "headers": {"retry-after": value}}
    script = Script(server, {"*": [limited]})
    client = Policy("p").with_retry(2, wait=0.01).wrap_client(clients(script))

    began = time.monotonic()
    await client.aio.models.generate_content(**ASK)

    assert time.monotonic() - began < 0.5


@pytest.mark.covers("google_genai", "junk")
@pytest.mark.parametrize(
    "step", [{"cut": True}, {"reset": "after a byte"}, {"reset": "at once"}], ids=str
)
async def test_an_answer_that_breaks_off_is_asked_again(server: str, clients: Any, step: Any):
    """In the middle of the body, after a byte, before the first."""
    script = Script(server, {"*": [step, {}]})
    client = Policy("p").with_retry(2, wait=0.01).wrap_client(clients(script))

    answer = await client.aio.models.generate_content(**ASK)

    assert answer.text == TEXT


@pytest.mark.finding(14)
async def test_errors_come_out_of_another_process_with_their_verdict(server: str, clients: Any):
    """As they are where they can be pickled, in an envelope where not."""
    limited = {"status": 429, "error": LIMITED, "headers": {"retry-after": "7"}}
    script = Script(server, {"*": [limited]})
    failure = await failure_of(clients(script))

    arrived = pickle.loads(pickle.dumps(sealed(failure))).opened()

    assert isinstance(arrived, errors.APIError | RemoteError)
    assert classify(arrived).kind is VerdictKind.RATE_LIMITED
    assert classify(arrived).retry_after == classify(failure).retry_after
