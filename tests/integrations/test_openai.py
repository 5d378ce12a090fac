from __future__ import annotations

import asyncio
import io
import operator
import pickle
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AsyncStream, OpenAI

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

pytestmark = pytest.mark.integration

MESSAGES: Any = [{"role": "user", "content": "what does water do?"}]
ASK: Any = {"model": "gpt-test", "messages": MESSAGES}

QUOTA = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "pay first"}
LIMITED = {"type": "requests", "code": "rate_limit_exceeded"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve for all tests of this file."""
    with serve("llm") as url:
        yield url


@pytest.fixture
async def clients() -> AsyncIterator[Any]:
    """Make clients of a script, and close them."""
    made: list[AsyncOpenAI] = []

    def make(script: Script, key: str = "key-a", **options: Any) -> AsyncOpenAI:
        settings = {"max_retries": 0, "base_url": f"{script.url}/v1"} | options
        # Certificates take longer to load than most of these tests take.
        settings.setdefault("http_client", openai.DefaultAsyncHttpxClient(verify=False))
        made.append(AsyncOpenAI(api_key=key, **settings))
        return made[-1]

    yield make
    for client in made:
        await client.close()


async def failure_of(client: AsyncOpenAI) -> Exception:
    """Return what a call fails with."""
    with pytest.raises(openai.OpenAIError) as caught:
        await client.chat.completions.create(**ASK)
    return caught.value


# --- verdicts and retries -----------------------------------------------------------------------


@pytest.mark.covers("openai", "classified")
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ({"status": 400}, VerdictKind.CALLER_BUG),
        ({"status": 401, "error": {"code": "invalid_api_key"}}, VerdictKind.AUTH),
        ({"status": 408}, VerdictKind.TRANSIENT),
        ({"status": 409}, VerdictKind.TRANSIENT),
        ({"status": 422}, VerdictKind.CALLER_BUG),
        ({"status": 429, "error": LIMITED}, VerdictKind.RATE_LIMITED),
        ({"status": 429, "error": QUOTA}, VerdictKind.QUOTA_EXHAUSTED),
        ({"status": 500}, VerdictKind.TRANSIENT),
        ({"status": 503}, VerdictKind.OVERLOADED),
        ({"reset": "at once"}, VerdictKind.TRANSIENT),
    ],
    ids=str,
)
async def test_errors_get_the_verdict_that_they_mean(
    server: str, clients: Any, step: Any, kind: VerdictKind
):
    """Of the SDK's own exceptions: the error's code says more than the status."""
    script = Script(server, {"*": [step]})

    failure = await failure_of(clients(script))

    assert classify(failure).kind is kind


@pytest.mark.covers("openai", "retry")
@pytest.mark.covers("openai", "replay")
@pytest.mark.finding(3)
async def test_what_may_pass_is_tried_again(server: str, clients: Any):
    """By the stand-in's method, which is no coroutine function; each time with the whole body."""
    steps = [{"status": 500}, {"reset": "at once"}, {"status": 409}, {}]
    script = Script(server, {"*": steps})
    client = Policy("p").with_retry(4, wait=0.01).wrap_client(clients(script))

    answer = await client.chat.completions.create(**ASK)

    assert answer.choices[0].message.content == TEXT
    assert [request["body"] for request in script.seen] == [ASK] * 4


@pytest.mark.covers("openai", "replay")
@pytest.mark.parametrize("rotates", [False, True])
async def test_an_open_file_is_sent_whole_each_time(server: str, clients: Any, *, rotates: bool):
    """The first attempt has read it to its end; the second begins where the first began."""
    script = Script(server, {"*": [{"status": 500}, {}]})
    policy: Any = Policy("p").with_retry(2, wait=0.01)
    client = (policy.rotating(["a"]) if rotates else policy).wrap_client(clients(script))

    await client.files.create(file=io.BytesIO(b"water" * 500), purpose="batch")

    sizes = [request["body"]["size"] for request in script.seen]
    assert len(sizes) == 2
    assert sizes[0] == sizes[1] > 2500


@pytest.mark.covers("openai", "retry")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_cannot_pass_is_not_tried_again(server: str, clients: Any, status: int):
    """The caller's mistakes and, without another key, a refused key."""
    script = Script(server, {"*": [{"status": status}]})
    client = Policy("p").with_retry(4, wait=0.01).wrap_client(clients(script))

    with pytest.raises(openai.APIStatusError):
        await client.chat.completions.create(**ASK)

    assert len(script.seen) == 1


@pytest.mark.covers("openai", "server hint")
@pytest.mark.parametrize("name", ["retry-after-ms", "x-ms-retry-after-ms"])
async def test_the_word_of_the_server_is_obeyed(server: str, clients: Any, name: str):
    """The wait is the server's, not the back-off's, which is shorter."""
    limited = {"status": 429, "error": LIMITED, "headers": {name: "150", "retry-after": "1"}}
    script = Script(server, {"*": [limited]})
    client = Policy("p").with_retry(2, wait=0.001).wrap_client(clients(script))

    began = time.monotonic()
    await client.chat.completions.create(**ASK)

    assert 0.15 <= time.monotonic() - began < 0.8


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.covers("openai", "rotation")
async def test_calls_go_on_over_five_keys(server: str, clients: Any):
    """One revoked, one limited, one unpaid, one that is overloaded once, and a good one."""
    script = Script(
        server,
        {
            "revoked": [{"status": 401, "error": {"code": "invalid_api_key"}}] * 20,
            "limited": [{"status": 429, "error": LIMITED, "headers": {"retry-after": "40"}}] * 20,
            "unpaid": [{"status": 429, "error": QUOTA}] * 20,
            "busy": [{"status": 503}],
        },
    )
    keys = {name: name for name in ("revoked", "limited", "unpaid", "busy", "good")}
    policy = Policy("p").with_retry(5, wait=0.01).rotating(keys, pick="round_robin")
    client = policy.wrap_client(clients(script, "never sent"))

    answers = await asyncio.gather(*(client.chat.completions.create(**ASK) for _ in range(10)))

    resources = policy.snapshot()["stages"][1]["resources"]
    states = {name: resource["standing"] for name, resource in resources.items()}
    assert [answer.choices[0].message.content for answer in answers] == [TEXT] * 10
    assert {states["revoked"], states["unpaid"]} == {"disabled"}
    assert states["limited"] == "cooling"
    assert {answer.id for answer in answers} <= {"chatcmpl-busy", "chatcmpl-good"}
    assert "never sent" not in script.keys


@pytest.mark.covers("openai", "rotation")
async def test_each_attempt_has_a_key_of_its_own(server: str, clients: Any):
    """Also where the same connection is used again: the copies share the HTTP client."""
    script = Script(server, {"a": [{"status": 500}], "b": [{"status": 500}]})
    policy = Policy("p").with_retry(3, wait=0.01).rotating(["a", "b", "c"], pick="round_robin")
    client = policy.wrap_client(clients(script))

    answer = await client.responses.create(model="gpt-test", input="hello")

    assert answer.output_text == TEXT
    assert script.keys == ["a", "b", "c"]


async def test_a_client_for_azure_is_known_too(server: str):
    """It derives from the SDK's client, and its key goes by another header."""
    script = Script(server, {})
    azure = AsyncAzureOpenAI(
        api_key="none", api_version="1", base_url=f"{script.url}/v1", max_retries=0
    )
    client = Policy("p").rotating(["a"]).wrap_client(azure)

    async with client:
        await client.chat.completions.create(**ASK)

    assert script.seen[0]["headers"]["api-key"] == "a"


@pytest.mark.covers("openai", "quota headers")
async def test_a_good_answer_says_that_a_key_is_spent(server: str, clients: Any):
    """It rests until its quota is back, before there is any 429; whichever way it was asked."""
    spent = {
        "headers": {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-reset-requests": "6m0s",
        }
    }
    script = Script(server, {key: [spent] for key in "abcde"})
    policy = Policy("p").rotating(list("abcde"), pick="primary_backup")
    client = policy.wrap_client(clients(script))

    answer = await client.chat.completions.create(**ASK)
    response = await client.responses.create(model="gpt-test", input="hello")
    stream = await client.chat.completions.create(**ASK, stream=True)
    raw = await client.chat.completions.with_raw_response.create(**ASK)
    models = [model async for model in client.models.list()]

    assert type(answer).__name__ == "ChatCompletion"
    assert response.output_text == TEXT
    assert isinstance(stream, AsyncStream)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == TEXT
    assert raw.parse().choices[0].message.content == TEXT
    assert [model.id for model in models] == ["model-0", "model-1"]
    assert script.keys == list("abcde")
    with pytest.raises(NoResourceError):
        await client.chat.completions.create(**ASK)


@pytest.mark.covers("openai", "quota headers")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("chat.completions.create", ASK),
        ("chat.completions.parse", ASK),
        ("audio.speech.create", {"model": "tts", "input": "water", "voice": "alloy"}),
        ("files.content", {"file_id": "file-1"}),
        ("files.delete", {"file_id": "file-1"}),
        ("models.list", {}),
        ("post", {"path": "/anything", "cast_to": object, "body": {}}),
    ],
)
async def test_what_listens_to_headers_changes_no_answer(
    server: str, clients: Any, name: str, arguments: Any
):
    """Of parsed answers, pages and files: the same as without a policy."""
    raw = clients(Script(server, {}))
    wrapped = Policy("p").rotating(["a"]).wrap_client(raw)

    plain = await operator.attrgetter(name)(raw)(**arguments)
    answer = await operator.attrgetter(name)(wrapped)(**arguments)

    assert type(answer) is type(plain)


@pytest.mark.covers("openai", "origins")
async def test_a_key_stays_with_its_server(server: str, clients: Any):
    """A redirect to another host has no key; a resource for another host is refused at once."""
    other = Script(server, {})
    elsewhere = f"{other.url.replace('127.0.0.1', 'localhost')}/v1/chat/completions"
    script = Script(server, {"*": [{"status": 307, "headers": {"location": elsewhere}}]})
    client = Policy("p").rotating(["secret"]).wrap_client(clients(script))

    await client.chat.completions.create(**ASK)

    assert script.keys == ["secret"]
    assert other.keys == [""]
    assert "secret" not in str(other.seen)
    key = Resource("secret", origins=["https://api.openai.com"])
    with pytest.raises(ConfigError, match=r"resource '1' is for https://api\.openai\.com"):
        Policy("p").rotating([key]).wrap_client(clients(script))


def test_resources_that_are_no_texts_need_a_bind():
    """The message has the line; with it the type of the resource is the user's affair."""
    client = AsyncOpenAI(api_key="none", max_retries=0)

    with pytest.raises(ConfigError, match="no texts are no API keys for AsyncOpenAI"):
        Policy("p").rotating([{"key": "a"}]).wrap_client(client)


# --- copies, what comes back, how it is closed --------------------------------------------------


@pytest.mark.covers("openai", "types")
async def test_what_comes_back_is_what_the_types_say(server: str, clients: Any):
    """The overloads of ``create`` tell a stream from an answer; a copy is a client."""
    script = Script(server, {"*": [{"status": 500}]})
    client = Policy("p").with_retry(2, wait=0.01).wrap_client(clients(script))

    answer = await client.with_options(timeout=5).chat.completions.create(**ASK)
    stream = await client.with_raw_response.chat.completions.create(**ASK, stream=True)

    assert isinstance(client, AsyncOpenAI)
    assert isinstance(client.with_options(timeout=5), AsyncOpenAI)
    assert type(answer).__name__ == "ChatCompletion"
    assert isinstance(stream.parse(), AsyncStream)
    await stream.http_response.aclose()
    assert len(script.seen) == 3


@pytest.mark.parametrize(
    "only", ["chat.completions.create", "chat.completions.with_raw_response.create"]
)
async def test_a_raw_response_is_the_same_method_for_only(server: str, clients: Any, only: str):
    """Whichever of the two is named, and wherever the detour is taken."""
    script = Script(server, {"*": [{"status": 500}, {}] * 3})
    client = Policy("p").with_retry(2, wait=0.01).wrap_client(clients(script), only=[only])

    await client.chat.completions.create(**ASK)
    await client.chat.completions.with_raw_response.create(**ASK)
    await client.with_raw_response.chat.completions.create(**ASK)

    assert len(script.seen) == 6


async def test_open_streams_are_returned_as_they_are(server: str, clients: Any):
    """A context manager is more than one call: ``policy.stream`` is for those."""
    script = Script(server, {})
    client = Policy("p").with_retry(2).wrap_client(clients(script))

    async with client.chat.completions.with_streaming_response.create(**ASK) as response:
        assert (await response.parse()).choices[0].message.content == TEXT


@pytest.mark.covers("openai", "discard")
async def test_failed_attempts_give_their_connection_back(server: str, clients: Any):
    """With one connection in the pool five attempts get through."""
    script = Script(server, {"*": [{"status": 503}] * 4})
    limits = httpx2.Limits(max_connections=1)
    http = httpx2.AsyncClient(limits=limits, timeout=httpx2.Timeout(5, pool=0.2))
    client = Policy("p").with_retry(5, wait=0.01).wrap_client(clients(script, http_client=http))

    answer = await client.chat.completions.create(**ASK)

    assert answer.choices[0].message.content == TEXT


@pytest.mark.covers("openai", "deadline")
async def test_no_attempt_outlives_the_deadline(server: str, clients: Any):
    """A slow answer is given up, its connection too, and no further attempt is begun."""
    script = Script(server, {"*": [{"slow": 5}, {}]})
    http = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=1))
    raw = clients(script, http_client=http)
    client = Policy("p").with_timeout(0.2).with_retry(3, wait=0.01).wrap_client(raw)

    began = time.monotonic()
    with pytest.raises(CallTimeoutError):
        await client.chat.completions.create(**ASK)

    assert time.monotonic() - began < 0.6
    assert (await raw.chat.completions.create(**ASK)).id
    assert len(script.seen) == 2


# --- streams ------------------------------------------------------------------------------------


@pytest.mark.covers("openai", "streams")
@pytest.mark.parametrize("then", ["reset", "cut", {"type": "server_error"}], ids=str)
async def test_a_stream_is_opened_again_until_its_first_item(server: str, clients: Any, then: Any):
    """What ``create`` alone would not see: the answer had begun with a 200."""
    script = Script(server, {"*": [{"items": 0, "then": then}, {}]})
    policy = Policy("p").with_retry(3, wait=0.01).with_concurrency(1)
    create = clients(script).chat.completions.create

    async with policy.stream(create, **ASK, stream=True) as chunks:
        held = policy.snapshot()["stages"][1]["in_flight"]
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    assert text == TEXT
    assert held == 1
    assert policy.snapshot()["stages"][1]["in_flight"] == 0
    assert len(script.seen) == 2


@pytest.mark.covers("openai", "streams")
@pytest.mark.parametrize("then", ["reset", "cut", {"type": "server_error"}], ids=str)
async def test_after_its_first_item_a_stream_is_not_replayed(server: str, clients: Any, then: Any):
    """The reader gets what there is, then the SDK's error; the pool hears of it."""
    script = Script(server, {"*": [{"items": 2, "then": then}, {}]})
    policy = Policy("p").with_retry(3, wait=0.01).rotating(["a"])
    client = clients(script)
    words: list[str] = []

    def opened(key: Resource[str]) -> Any:
        return client.with_options(api_key=key.value).chat.completions.create(**ASK, stream=True)

    async def read() -> None:
        async with policy.stream(opened) as chunks:
            async for chunk in chunks:
                words.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - it breaks off

    with pytest.raises((openai.APIError, httpx2.TransportError)) as caught:
        await read()

    assert words == list(WORDS[:2])
    assert classify(caught.value).kind is VerdictKind.TRANSIENT
    assert len(script.seen) == 1


# --- its own retries ----------------------------------------------------------------------------


@pytest.mark.covers("openai", "own retries")
@pytest.mark.finding(7)
async def test_retries_of_the_client_itself_are_warned_about(server: str, clients: Any):
    """They multiply: four attempts of two requests are eight. The warning points at the line."""
    wait = {"retry-after-ms": "1"}
    script = Script(server, {"*": [{"status": 500, "headers": wait}] * 8})
    policy = Policy("p").with_retry(4, wait=0.001)

    with pytest.warns(PolicyOrderWarning, match=r"4 x 2 = 8 requests") as caught:
        client = policy.wrap_client(clients(script, max_retries=1))
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(**ASK)

    assert len(script.seen) == 8
    assert "AsyncOpenAI(max_retries=0)" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.covers("openai", "own retries")
def test_retries_of_one_of_the_two_are_no_matter():
    """No warning where the client does not retry, or where the policy does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Policy("p").with_retry(4).wrap_client(AsyncOpenAI(api_key="none", max_retries=0))
        Policy("p").with_retry(1).wrap_client(AsyncOpenAI(api_key="none"))
        Policy("p").with_timeout(4).wrap_client(AsyncOpenAI(api_key="none"))


def test_the_worst_case_may_have_no_bound():
    """A policy that retries for ever: the product is said in words."""
    with pytest.warns(PolicyOrderWarning, match="without bound"):
        Policy("p").with_retry(stop=lambda state: False, attempts=None).wrap_client(
            AsyncOpenAI(api_key="none")
        )


def test_a_client_that_blocks_is_refused():
    """The message names the class that waits, and what is there for code without a loop."""
    with pytest.raises(TypeError, match=r"OpenAI blocks .* wrap AsyncOpenAI\(.*run_sync"):
        Policy("p").wrap_client(OpenAI(api_key="none"))


# --- junk and other processes -------------------------------------------------------------------


@pytest.mark.covers("openai", "junk")
@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "soon"},
        {"retry-after": "inf"},
        {"retry-after": "-20"},
        {"retry-after-ms": "nan", "retry-after": "Wed, 99 Foo 2026 00:00:00 GMT"},
        {"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "later"},
        {"ratelimit": '"default";r=;t=x', "ratelimit-policy": "???"},
    ],
    ids=str,
)
async def test_junk_in_headers_is_no_hint(server: str, clients: Any, headers: Any):
    """The back-off is waited, as if nothing were there."""
    script = Script(server, {"*": [{"status": 429, "error": LIMITED, "headers": headers}]})
    client = Policy("p").with_retry(2, wait=0.01).wrap_client(clients(script))

    began = time.monotonic()
    await client.chat.completions.create(**ASK)

    assert time.monotonic() - began < 0.5


@pytest.mark.covers("openai", "junk")
async def test_a_hint_of_days_is_not_slept(server: str, clients: Any):
    """114 hours: above the cap a call without a pool fails at once, with the server's error."""
    limited = {"status": 429, "error": LIMITED, "headers": {"retry-after": str(114 * 3600)}}
    script = Script(server, {"*": [limited] * 3})
    client = Policy("p").with_retry(3, wait=0.01).wrap_client(clients(script))

    began = time.monotonic()
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(**ASK)

    assert time.monotonic() - began < 0.5


@pytest.mark.covers("openai", "junk")
@pytest.mark.parametrize(
    "step", [{"cut": True}, {"reset": "after a byte"}, {"reset": "at once"}], ids=str
)
async def test_an_answer_that_breaks_off_is_asked_again(server: str, clients: Any, step: Any):
    """In the middle of the body, after a byte, before the first."""
    script = Script(server, {"*": [step, {}]})
    client = Policy("p").with_retry(2, wait=0.01).wrap_client(clients(script))

    answer = await client.chat.completions.create(**ASK)

    assert answer.choices[0].message.content == TEXT


@pytest.mark.covers("openai", "junk")
@pytest.mark.parametrize("rotates", [False, True])
async def test_an_answer_that_is_no_json_is_the_callers_to_see(
    server: str, clients: Any, rotates: bool
):
    """The SDK raises what it raises without a policy: with raw responses in between, too."""
    script = Script(server, {"*": [{"body": "{not json"}] * 2})
    client = clients(script)
    policy: Any = Policy("p").with_retry(2, wait=0.01)

    with pytest.raises(ValueError, match=r".") as plain:
        await client.chat.completions.create(**ASK)
    wrapped = (policy.rotating(["a"]) if rotates else policy).wrap_client(client)
    with pytest.raises(type(plain.value)):
        await wrapped.chat.completions.create(**ASK)

    assert len(script.seen) == 2


@pytest.mark.finding(14)
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ({"status": 429, "error": LIMITED}, VerdictKind.RATE_LIMITED),
        ({"status": 429, "error": QUOTA}, VerdictKind.QUOTA_EXHAUSTED),
        ({"status": 401}, VerdictKind.AUTH),
        ({"status": 500}, VerdictKind.TRANSIENT),
    ],
    ids=str,
)
async def test_errors_come_out_of_another_process_with_their_verdict(
    server: str, clients: Any, step: Any, kind: VerdictKind
):
    """They cannot be pickled: a RemoteError stands for them, with status, code and hint."""
    script = Script(server, {"*": [{**step, "headers": {"retry-after": "7"}}]})
    failure = await failure_of(clients(script))

    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(failure))
    arrived = pickle.loads(pickle.dumps(sealed(failure))).opened()

    assert isinstance(arrived, RemoteError)
    assert arrived.type_name.startswith("openai.")
    assert arrived.status_code == step["status"]
    assert classify(arrived).kind is kind
    assert classify(arrived).retry_after == classify(failure).retry_after
    assert "key-a" not in repr(vars(arrived))
