from __future__ import annotations

import asyncio
import operator
import pickle
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic, AsyncAnthropicVertex, AsyncStream

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
ASK: Any = {"model": "claude-test", "max_tokens": 20, "messages": MESSAGES}

LIMITED = {"type": "rate_limit_error"}
OVERLOADED = {"type": "overloaded_error", "message": "Overloaded"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve for all tests of this file."""
    with serve("llm") as url:
        yield url


@pytest.fixture
async def clients() -> AsyncIterator[Any]:
    """Make clients of a script, and close them."""
    made: list[AsyncAnthropic] = []

    def make(script: Script, key: str = "key-a", **options: Any) -> AsyncAnthropic:
        settings = {"max_retries": 0, "base_url": script.url} | options
        # Certificates take longer to load than most of these tests take.
        settings.setdefault("http_client", anthropic.DefaultAsyncHttpxClient(verify=False))
        made.append(AsyncAnthropic(api_key=key, **settings))
        return made[-1]

    yield make
    for client in made:
        await client.close()


async def failure_of(client: AsyncAnthropic) -> Exception:
    """Return what a call fails with."""
    with pytest.raises(anthropic.AnthropicError) as caught:
        await client.messages.create(**ASK)
    return caught.value


def text_of(events: list[Any]) -> str:
    """Return the text of a stream's events."""
    return "".join(e.delta.text for e in events if e.type == "content_block_delta")


# --- verdicts and retries -----------------------------------------------------------------------


@pytest.mark.covers("anthropic", "classified")
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ({"status": 400, "error": {"type": "invalid_request_error"}}, VerdictKind.CALLER_BUG),
        ({"status": 401, "error": {"type": "authentication_error"}}, VerdictKind.AUTH),
        ({"status": 402, "error": {"type": "billing_error"}}, VerdictKind.QUOTA_EXHAUSTED),
        ({"status": 409}, VerdictKind.TRANSIENT),
        ({"status": 413, "error": {"type": "request_too_large"}}, VerdictKind.CALLER_BUG),
        ({"status": 429, "error": LIMITED}, VerdictKind.RATE_LIMITED),
        ({"status": 500}, VerdictKind.TRANSIENT),
        ({"status": 529, "error": OVERLOADED}, VerdictKind.OVERLOADED),
        ({"reset": "at once"}, VerdictKind.TRANSIENT),
    ],
    ids=str,
)
async def test_errors_get_the_verdict_that_they_mean(
    server: str, clients: Any, step: Any, kind: VerdictKind
):
    """Of the SDK's own exceptions: the error's type says more than the status."""
    script = Script(server, {"*": [step]})

    failure = await failure_of(clients(script))

    assert classify(failure).kind is kind


@pytest.mark.covers("anthropic", "retry")
@pytest.mark.covers("anthropic", "replay")
async def test_what_may_pass_is_tried_again(server: str, clients: Any):
    """By the stand-in's method; each time with the whole body."""
    steps = [{"status": 529, "error": OVERLOADED}, {"reset": "at once"}, {"status": 409}, {}]
    script = Script(server, {"*": steps})
    client = Policy("p").with_retry(4, wait=0.01).wrap_client(clients(script))

    answer = await client.messages.create(**ASK)

    assert answer.content[0].text == TEXT
    assert [request["body"] for request in script.seen] == [ASK] * 4


@pytest.mark.covers("anthropic", "retry")
@pytest.mark.parametrize("status", [400, 401, 413])
async def test_what_cannot_pass_is_not_tried_again(server: str, clients: Any, status: int):
    """The caller's mistakes and, without another key, a refused key."""
    script = Script(server, {"*": [{"status": status}]})
    client = Policy("p").with_retry(4, wait=0.01).wrap_client(clients(script))

    with pytest.raises(anthropic.APIStatusError):
        await client.messages.create(**ASK)

    assert len(script.seen) == 1


@pytest.mark.covers("anthropic", "server hint")
async def test_the_word_of_the_server_is_obeyed(server: str, clients: Any):
    """The wait is the server's, not the back-off's, which is shorter."""
    limited = {"status": 429, "error": LIMITED, "headers": {"retry-after": "0.15"}}
    script = Script(server, {"*": [limited]})
    client = Policy("p").with_retry(2, wait=0.001).wrap_client(clients(script))

    began = time.monotonic()
    await client.messages.create(**ASK)

    assert 0.15 <= time.monotonic() - began < 0.8


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.covers("anthropic", "rotation")
async def test_calls_go_on_over_five_keys(server: str, clients: Any):
    """One revoked, one limited, one unpaid, one that is overloaded once, and a good one."""
    script = Script(
        server,
        {
            "revoked": [{"status": 401, "error": {"type": "authentication_error"}}] * 20,
            "limited": [{"status": 429, "error": LIMITED, "headers": {"retry-after": "40"}}] * 20,
            "unpaid": [{"status": 402, "error": {"type": "billing_error"}}] * 20,
            "busy": [{"status": 529, "error": OVERLOADED}],
        },
    )
    keys = {name: name for name in ("revoked", "limited", "unpaid", "busy", "good")}
    policy = Policy("p").with_retry(5, wait=0.01).rotating(keys, pick="round_robin")
    client = policy.wrap_client(clients(script, "never sent"))

    answers = await asyncio.gather(*(client.messages.create(**ASK) for _ in range(10)))

    resources = policy.snapshot()["stages"][1]["resources"]
    standings = {name: resource["standing"] for name, resource in resources.items()}
    assert [answer.content[0].text for answer in answers] == [TEXT] * 10
    assert {standings["revoked"], standings["unpaid"]} == {"disabled"}
    assert standings["limited"] == "cooling"
    assert {answer.id for answer in answers} <= {"msg-busy", "msg-good"}
    assert "never sent" not in script.keys


@pytest.mark.covers("anthropic", "quota headers")
@pytest.mark.parametrize("counter", ["requests", "input-tokens", "output-tokens"])
async def test_a_good_answer_says_that_a_key_is_spent(server: str, clients: Any, counter: str):
    """It rests until its quota is back, before there is any 429; whichever way it was asked."""
    family = f"anthropic-ratelimit-{counter}"
    spent = {
        "headers": {
            f"{family}-limit": "50",
            f"{family}-remaining": "0",
            f"{family}-reset": "2099-01-01T00:00:00Z",
        }
    }
    script = Script(server, {key: [spent] for key in "abc"})
    policy = Policy("p").rotating(list("abc"), pick="primary_backup")
    client = policy.wrap_client(clients(script))

    answer = await client.messages.create(**ASK)
    stream = await client.messages.create(**ASK, stream=True)
    raw = await client.messages.with_raw_response.create(**ASK)

    assert type(answer).__name__ == "Message"
    assert isinstance(stream, AsyncStream)
    assert text_of([event async for event in stream]) == TEXT
    assert (await raw.parse()).content[0].text == TEXT
    assert script.keys == list("abc")
    with pytest.raises(NoResourceError):
        await client.messages.create(**ASK)


@pytest.mark.covers("anthropic", "quota headers")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("messages.create", ASK),
        ("messages.count_tokens", {"model": "claude-test", "messages": MESSAGES}),
        ("models.list", {}),
        ("beta.files.download", {"file_id": "file-1"}),
        ("beta.messages.create", ASK),
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


@pytest.mark.covers("anthropic", "origins")
async def test_a_key_stays_with_its_server(server: str, clients: Any):
    """A redirect to another host has no key; a resource for another host is refused at once."""
    other = Script(server, {})
    elsewhere = f"{other.url.replace('127.0.0.1', 'localhost')}/v1/messages"
    script = Script(server, {"*": [{"status": 307, "headers": {"location": elsewhere}}]})
    client = Policy("p").rotating(["secret"]).wrap_client(clients(script))

    await client.messages.create(**ASK)

    assert script.keys == ["secret"]
    assert other.keys == [""]
    assert "secret" not in str(other.seen)
    key = Resource("secret", origins=["https://api.anthropic.com"])
    with pytest.raises(ConfigError, match=r"resource '1' is for https://api\.anthropic\.com"):
        Policy("p").rotating([key]).wrap_client(clients(script))


@pytest.mark.covers("anthropic", "origins")
async def test_a_key_goes_to_the_host_of_the_profile(server: str, tmp_path: Path):
    """The SDK's own copy with a key forgets a host that it has from a profile."""
    script = Script(server, {})
    token = {"source": "file", "path": str(tmp_path / "token")}
    rule = {"type": "oidc_federation", "federation_rule_id": "fdrl_1", "identity_token": token}
    profile = {"base_url": script.url, "organization_id": "org", "authentication": rule}
    raw = AsyncAnthropic(config=profile, max_retries=0)

    async with Policy("p").rotating(["a"]).wrap_client(raw) as client:
        await client.messages.create(**ASK)

    assert script.keys == ["a"]


# --- copies, what comes back, how it is closed --------------------------------------------------


@pytest.mark.covers("anthropic", "types")
async def test_what_comes_back_is_what_the_types_say(server: str, clients: Any):
    """The overloads of ``create`` tell a stream from an answer; a copy is a client."""
    script = Script(server, {"*": [{"status": 500}]})
    client = Policy("p").with_retry(2, wait=0.01).wrap_client(clients(script))

    answer = await client.with_options(timeout=5).messages.create(**ASK)
    stream = await client.messages.create(**ASK, stream=True)

    assert isinstance(client, AsyncAnthropic)
    assert isinstance(client.with_options(timeout=5), AsyncAnthropic)
    assert type(answer).__name__ == "Message"
    assert isinstance(stream, AsyncStream)
    await stream.close()
    assert len(script.seen) == 3


async def test_open_streams_are_returned_as_they_are(server: str, clients: Any):
    """A context manager is more than one call: ``policy.stream`` is for those."""
    script = Script(server, {})
    client = Policy("p").with_retry(2).wrap_client(clients(script))

    async with client.messages.stream(**ASK) as stream:
        assert await stream.get_final_text() == TEXT


@pytest.mark.covers("anthropic", "discard")
async def test_failed_attempts_give_their_connection_back(server: str, clients: Any):
    """With one connection in the pool five attempts get through."""
    script = Script(server, {"*": [{"status": 529}] * 4})
    limits = httpx2.Limits(max_connections=1)
    http = httpx2.AsyncClient(limits=limits, timeout=httpx2.Timeout(5, pool=0.2))
    client = Policy("p").with_retry(5, wait=0.01).wrap_client(clients(script, http_client=http))

    answer = await client.messages.create(**ASK)

    assert answer.content[0].text == TEXT


@pytest.mark.covers("anthropic", "deadline")
async def test_no_attempt_outlives_the_deadline(server: str, clients: Any):
    """A slow answer is given up, its connection too, and no further attempt is begun."""
    script = Script(server, {"*": [{"slow": 5}, {}]})
    http = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=1))
    raw = clients(script, http_client=http)
    client = Policy("p").with_timeout(0.2).with_retry(3, wait=0.01).wrap_client(raw)

    began = time.monotonic()
    with pytest.raises(CallTimeoutError):
        await client.messages.create(**ASK)

    assert time.monotonic() - began < 0.6
    assert (await raw.messages.create(**ASK)).id
    assert len(script.seen) == 2


# --- streams ------------------------------------------------------------------------------------


@pytest.mark.covers("anthropic", "streams")
@pytest.mark.parametrize("then", ["reset", "cut", OVERLOADED], ids=str)
async def test_a_stream_is_opened_again_until_its_first_item(server: str, clients: Any, then: Any):
    """What ``create`` alone would not see; an ``overloaded_error`` comes with status 200."""
    script = Script(server, {"*": [{"items": 0, "then": then}, {}]})
    policy = Policy("p").with_retry(3, wait=0.01).with_concurrency(1)
    create = clients(script).messages.create

    async with policy.stream(create, **ASK, stream=True) as events:
        held = policy.snapshot()["stages"][1]["in_flight"]
        text = text_of([event async for event in events])

    assert text == TEXT
    assert held == 1
    assert policy.snapshot()["stages"][1]["in_flight"] == 0
    assert len(script.seen) == 2


@pytest.mark.covers("anthropic", "streams")
async def test_the_stream_helper_is_opened_by_the_policy(server: str, clients: Any):
    """``messages.stream(...)`` is a context manager, and works in ``policy.stream``."""
    script = Script(server, {"*": [{"status": 529, "error": OVERLOADED}, {}]})
    policy = Policy("p").with_retry(3, wait=0.01)
    client = clients(script)

    async with policy.stream(lambda: client.messages.stream(**ASK)) as events:
        words = [event.text async for event in events if event.type == "text"]

    assert words == list(WORDS)
    assert len(script.seen) == 2


@pytest.mark.covers("anthropic", "streams")
@pytest.mark.parametrize(
    ("then", "kind"),
    [
        ("reset", VerdictKind.TRANSIENT),
        ("cut", VerdictKind.TRANSIENT),
        (OVERLOADED, VerdictKind.OVERLOADED),
        (LIMITED, VerdictKind.RATE_LIMITED),
        ({"type": "api_error"}, VerdictKind.TRANSIENT),
    ],
    ids=str,
)
async def test_after_its_first_item_a_stream_is_not_replayed(
    server: str, clients: Any, then: Any, kind: VerdictKind
):
    """The reader gets what there is, then the SDK's error; an event's type decides, not the 200."""
    script = Script(server, {"*": [{"items": 4, "then": then}, {}]})
    policy = Policy("p").with_retry(3, wait=0.01)
    create = clients(script).messages.create
    got: list[Any] = []

    async def read() -> None:
        async with policy.stream(create, **ASK, stream=True) as events:
            async for event in events:
                got.append(event)  # noqa: PERF401 - it breaks off

    with pytest.raises((anthropic.APIError, httpx2.TransportError)) as caught:
        await read()

    assert text_of(got) == "".join(WORDS[:2])
    assert classify(caught.value).kind is kind
    assert len(script.seen) == 1


# --- its own retries ----------------------------------------------------------------------------


@pytest.mark.covers("anthropic", "own retries")
async def test_retries_of_the_client_itself_are_warned_about(server: str, clients: Any):
    """They multiply: three attempts of two requests are six."""
    wait = {"retry-after-ms": "1"}
    script = Script(server, {"*": [{"status": 500, "headers": wait}] * 6})
    policy = Policy("p").with_retry(3, wait=0.001)

    with pytest.warns(PolicyOrderWarning, match=r"3 x 2 = 6 requests.*Anthropic\(max_retries=0\)"):
        client = policy.wrap_client(clients(script, max_retries=1))
    with pytest.raises(anthropic.InternalServerError):
        await client.messages.create(**ASK)

    assert len(script.seen) == 6


@pytest.mark.covers("anthropic", "own retries")
def test_retries_of_one_of_the_two_are_no_matter():
    """No warning where the client does not retry, or where the policy does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Policy("p").with_retry(4).wrap_client(AsyncAnthropic(api_key="none", max_retries=0))
        Policy("p").with_timeout(4).wrap_client(AsyncAnthropic(api_key="none"))


def test_a_client_for_another_cloud_has_no_key_to_bind():
    """Its own retries are known all the same."""
    client = AsyncAnthropicVertex(region="a", project_id="b", access_token="c")

    with pytest.warns(PolicyOrderWarning, match=r"AsyncAnthropicVertex\(max_retries=0\)"):
        Policy("p").with_retry(3).wrap_client(client)
    with pytest.raises(ConfigError, match="how a AsyncAnthropicVertex takes a resource"):
        Policy("p").rotating(["a"]).wrap_client(client)


def test_a_client_that_blocks_is_refused():
    """The message names the class that waits."""
    with pytest.raises(TypeError, match=r"Anthropic blocks .* wrap AsyncAnthropic\(.*run_sync"):
        Policy("p").wrap_client(Anthropic(api_key="none"))


# --- junk and other processes -------------------------------------------------------------------


@pytest.mark.covers("anthropic", "junk")
@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "soon"},
        {"retry-after": "inf"},
        {"retry-after": "-20"},
        {
            "anthropic-ratelimit-requests-remaining": "many",
            "anthropic-ratelimit-requests-reset": "2026-99-99T00:00:00Z",
        },
    ],
    ids=str,
)
async def test_junk_in_headers_is_no_hint(server: str, clients: Any, headers: Any):
    """The back-off is waited, as if nothing were there; a good answer says nothing either."""
    limited = {"status": 429, "error": LIMITED, "headers": headers}
    script = Script(server, {"*": [limited, {"headers": headers}]})
    policy = Policy("p").with_retry(2, wait=0.01).rotating(["a", "b"])
    client = policy.wrap_client(clients(script))

    began = time.monotonic()
    await client.messages.create(**ASK)

    assert time.monotonic() - began < 0.5


@pytest.mark.covers("anthropic", "junk")
async def test_a_hint_of_days_is_not_slept(server: str, clients: Any):
    """114 hours: above the cap a call without a pool fails at once, with the server's error."""
    limited = {"status": 429, "error": LIMITED, "headers": {"retry-after": str(114 * 3600)}}
    script = Script(server, {"*": [limited] * 3})
    client = Policy("p").with_retry(3, wait=0.01).wrap_client(clients(script))

    began = time.monotonic()
    with pytest.raises(anthropic.RateLimitError):
        await client.messages.create(**ASK)

    assert time.monotonic() - began < 0.5


@pytest.mark.covers("anthropic", "junk")
@pytest.mark.parametrize(
    "step", [{"cut": True}, {"reset": "after a byte"}, {"reset": "at once"}], ids=str
)
async def test_an_answer_that_breaks_off_is_asked_again(server: str, clients: Any, step: Any):
    """In the middle of the body, after a byte, before the first."""
    script = Script(server, {"*": [step, {}]})
    client = Policy("p").with_retry(2, wait=0.01).wrap_client(clients(script))

    answer = await client.messages.create(**ASK)

    assert answer.content[0].text == TEXT


@pytest.mark.finding(14)
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ({"status": 429, "error": LIMITED}, VerdictKind.RATE_LIMITED),
        ({"status": 401}, VerdictKind.AUTH),
        ({"status": 529, "error": OVERLOADED}, VerdictKind.OVERLOADED),
    ],
    ids=str,
)
async def test_errors_come_out_of_another_process_with_their_verdict(
    server: str, clients: Any, step: Any, kind: VerdictKind
):
    """As they are where they can be pickled, in an envelope where not."""
    script = Script(server, {"*": [{**step, "headers": {"retry-after": "7"}}]})
    failure = await failure_of(clients(script))

    arrived = pickle.loads(pickle.dumps(sealed(failure))).opened()

    assert type(arrived) in (type(failure), RemoteError)
    assert classify(arrived).kind is kind
    assert classify(arrived).retry_after == classify(failure).retry_after
