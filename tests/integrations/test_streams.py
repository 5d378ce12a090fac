"""``policy.stream`` over real SDKs, against servers that break off, fail in a 200, and stall."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.request import Request, urlopen

import pytest

from penstock import CallTimeoutError, Policy, Pool, Resource
from penstock.events import AttemptEnded
from penstock.testing import EventLog
from tests.integrations.serving import serve
from tests.integrations.stream_kinds import KINDS, Kind

pytestmark = [
    pytest.mark.integration,
    # google-genai's own.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

ALL = [
    pytest.param("openai", marks=pytest.mark.covers("openai", "streams")),
    pytest.param("anthropic", marks=pytest.mark.covers("anthropic", "streams")),
    pytest.param("google_genai", marks=pytest.mark.covers("google_genai", "streams")),
    pytest.param("httpx", marks=pytest.mark.covers("httpx", "streams")),
    pytest.param("aiohttp", marks=pytest.mark.covers("aiohttp", "streams")),
]
WITH_EVENTS = ALL[:3]

JUNK = ": a comment\n\nnonsense\n\nnonsense: more of it\n\nretry: never\n\n"

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where streams are served."""
    with serve("sse") as url:
        yield url


class Script:
    """What the server plays in one test, request by request; see ``servers/sse.py``."""

    def __init__(self, server: str, kind: Kind, *plays: list[Any]) -> None:
        number = next(_numbers)
        self.url = f"{server}/{number}"
        self._about = f"{server}/scripts/{number}"
        told = [[{"send": x} if isinstance(x, str) else x for x in play] for play in plays]
        request = Request(self._about, json.dumps(told).encode(), method="PUT")
        urlopen(request, timeout=5).read()
        self.kind = kind
        self.log = EventLog()
        self.pool = Pool({"one": "key-1", "two": "key-2"})
        policy = Policy("chat", observers=[self.log]).with_timeout(9).with_retry(3, wait=0.01)
        policy = policy.with_breaker(failures=9).with_concurrency(2).with_timeout(2)
        self.policy = policy.rotating(self.pool)

    def stream(self, stack: AsyncExitStack, idle: float | None = None) -> Any:
        """Return the stream of this script's answers."""
        opened = self.kind.opening(self.url, stack)
        return self.policy.stream(opened).reading(first=self.kind.first, idle=idle)

    async def read(self, words: list[str] | None = None, idle: float | None = None) -> list[str]:
        """Return the words that the reader gets."""
        words = [] if words is None else words
        async with AsyncExitStack() as stack, self.stream(stack, idle) as items:
            async for item in items:
                words += filter(None, [self.kind.text(item)])
        return words

    def told(self, what: str) -> list[str]:
        """Return of each request its ``key``, or how it ``ended``."""
        told: list[dict[str, str]] = json.load(urlopen(self._about, timeout=5))
        return [each[what] for each in told]

    def verdicts(self) -> list[str]:
        """Return how the attempts were judged."""
        return [event.verdict.value for event in self.log.of(AttemptEnded)]

    def balances(self) -> bool:
        """Return True if nothing is held: permits, leases, probes, timers."""
        stages = {stage["stage"]: stage for stage in self.policy.snapshot()["stages"]}
        held = stages["concurrency"]["in_flight"], stages["breaker"]["probes_out"]
        return not (any(held) or stages["timeout"]["running"] or self.pool.stats().in_flight)


async def _failure(reading: Awaitable[object]) -> BaseException:
    # Not ``pytest.raises``: most of these are classes of SDKs, told apart by their names.
    (failure,) = await asyncio.gather(reading, return_exceptions=True)
    assert isinstance(failure, BaseException)
    return failure


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Kind:
    """The SDK by its name."""
    found: Kind = KINDS[request.param]
    return found


# --- before the answer begins -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL, indirect=True)
@pytest.mark.parametrize(("announced", "how"), [(False, "drop"), (True, "drop"), (True, "reset")])
async def test_a_connection_that_breaks_off_before_the_answer_is_opened_again_with_another_key(
    server: str, kind: Kind, announced: bool, how: str
):
    """Nobody has seen anything; what had announced the answer is dropped."""
    begun = kind.preamble if announced else []
    script = Script(server, kind, [*begun, {how: True}], kind.answer("a", "b"))

    assert await script.read() == ["a", "b"]
    assert sorted(script.told("key")) == ["key-1", "key-2"]
    assert script.verdicts() == ["transient", "ok"]
    assert script.balances()


@pytest.mark.parametrize("kind", WITH_EVENTS, indirect=True)
@pytest.mark.parametrize("announced", [False, True])
async def test_an_error_in_a_stream_that_began_with_a_200_is_a_failure_as_any_other(
    server: str, kind: Kind, announced: bool
):
    """Before the answer it is asked for again, with another key."""
    preamble = kind.preamble if announced else []
    script = Script(server, kind, [*preamble, kind.error], kind.answer("a", "b"))

    assert await script.read() == ["a", "b"]
    assert sorted(script.told("key")) == ["key-1", "key-2"]
    assert script.verdicts() == [kind.failed[1], "ok"]


@pytest.mark.parametrize("kind", ALL, indirect=True)
async def test_a_stall_before_the_answer_ends_the_attempt_at_its_limit(server: str, kind: Kind):
    """The preamble has come, and is no answer."""
    stalls = [*kind.preamble, {"wait": 9}]
    script = Script(server, kind, kind.answer("first"), stalls, kind.answer("a"))
    # A client's first request takes longer: it imports what it needs.
    await script.read()
    policy = Policy(observers=[script.log]).with_retry(2, wait=0).with_timeout(0.4)
    script.policy = policy.rotating(script.pool)

    assert await script.read() == ["a"]
    assert script.verdicts() == ["ok", "timeout", "ok"]
    assert script.told("ended") == ["read", "left", "read"]


@pytest.mark.parametrize("kind", WITH_EVENTS, indirect=True)
async def test_an_end_before_the_answer_is_a_failure(server: str, kind: Kind):
    """However orderly the body was ended: the service had announced an answer."""
    script = Script(server, kind, kind.preamble, kind.answer("a"))

    assert await script.read() == ["a"]
    assert script.verdicts() == ["transient", "ok"]


# --- after it has begun -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL, indirect=True)
@pytest.mark.parametrize("how", ["drop", "reset"])
async def test_a_connection_that_breaks_off_in_the_answer_is_the_readers(
    server: str, kind: Kind, how: str
):
    """As the SDK's own error, or what the SDK lets through; breaker and pool have counted it."""
    broken = [*kind.preamble, kind.word("a"), {"wait": 0.02}, {how: True}]
    script = Script(server, kind, broken, kind.answer("never"))
    words: list[str] = []

    failure = await _failure(script.read(words))

    name = type(failure).__name__
    assert name == (kind.broken if how == "drop" else kind.reset)
    assert words == ["a"]
    assert script.verdicts() == ["transient"]
    assert script.pool.stats().failures == 1
    assert script.policy.snapshot()["stages"][2]["failures"] == 1
    assert script.balances()


@pytest.mark.parametrize("kind", WITH_EVENTS, indirect=True)
async def test_an_error_event_in_the_answer_is_the_readers(server: str, kind: Kind):
    """Judged by what it says: its status is the 200 of the beginning."""
    script = Script(server, kind, [*kind.preamble, kind.word("a"), kind.error])
    words: list[str] = []

    failure = await _failure(script.read(words))

    assert (type(failure).__name__, *script.verdicts()) == kind.failed
    assert words == ["a"]
    assert script.pool.stats().failures == 1
    assert script.balances()


@pytest.mark.parametrize("kind", ALL, indirect=True)
async def test_a_stall_in_the_answer_ends_at_the_idle_limit(server: str, kind: Kind):
    """The connection is closed, and the pool has counted a timeout."""
    script = Script(server, kind, [*kind.preamble, kind.word("a"), {"wait": 9}])
    words: list[str] = []

    with pytest.raises(CallTimeoutError, match=r"no item of the stream came for 0\.2 s"):
        await script.read(words, idle=0.2)

    assert words == ["a"]
    assert script.verdicts() == ["timeout"]
    assert script.pool.stats().failures == 1
    assert script.told("ended") == ["left"]
    assert script.balances()


@pytest.mark.parametrize("kind", WITH_EVENTS, indirect=True)
async def test_an_answer_without_its_end_is_read_as_far_as_it_goes(server: str, kind: Kind):
    """No ``[DONE]``, no ``message_stop``: the SDKs take the body's end for the answer's."""
    script = Script(server, kind, [*kind.preamble, kind.word("a")])

    assert await script.read() == ["a"]
    assert script.verdicts() == ["ok"]


# --- junk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("openai", marks=pytest.mark.covers("openai", "junk")),
        pytest.param("anthropic", marks=pytest.mark.covers("anthropic", "junk")),
    ],
    indirect=True,
)
async def test_lines_that_say_nothing_are_skipped(server: str, kind: Kind):
    """By the SDKs: comments, unknown fields, lines that are no fields."""
    sent = [piece for part in kind.answer("a", "b") for piece in (JUNK, part)]
    script = Script(server, kind, sent)

    assert await script.read() == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(
            "openai", "JSONDecodeError", marks=pytest.mark.covers("openai", "junk"), id="openai"
        ),
        pytest.param(
            "anthropic",
            "JSONDecodeError",
            marks=pytest.mark.covers("anthropic", "junk"),
            id="anthropic",
        ),
        pytest.param(
            "google_genai",
            "UnknownApiResponseError",
            marks=pytest.mark.covers("google_genai", "junk"),
            id="google_genai",
        ),
    ],
    indirect=["kind"],
)
async def test_an_event_that_is_no_json_fails_as_the_sdk_has_it(server: str, kind: Kind, name: str):
    """A ``ValueError``, which is the caller's bug; whoever knows better says so."""
    junk = "event: content_block_delta\ndata: {half of\n\n"
    script = Script(server, kind, [junk], [junk], kind.answer("a"))

    failure = await _failure(script.read())

    assert isinstance(failure, ValueError)
    assert type(failure).__name__ == name
    assert script.verdicts() == ["caller_bug"]

    def knows(failure: BaseException) -> str | None:
        return "transient" if isinstance(failure, ValueError) else None

    script.policy = Policy(classify=knows).with_retry(2, wait=0).rotating(script.pool)
    assert await script.read() == ["a"]


# --- leaving ------------------------------------------------------------------------------------


async def _read_up_to_a_word(kind: Kind, stream: Any) -> None:
    async with stream as items:
        async for item in items:
            if kind.text(item):
                break


async def _read_on(kind: Kind, stream: Any, word: asyncio.Event) -> None:
    async with stream as items:
        async for item in items:
            if kind.text(item):
                word.set()


async def _drop(stream: Any) -> None:
    await stream.__aenter__()
    await anext(stream)


async def _leave_a_generator(kind: Kind, stream: Any) -> None:
    async def handed_on() -> AsyncIterator[Any]:
        async with stream as items:
            async for item in items:
                yield item

    async for item in handed_on():
        if kind.text(item):
            return


async def _leave(kind: Kind, stream: Any, how: str) -> None:
    match how:
        case "dropped":
            await _drop(stream)
        case "generator left":
            await _leave_a_generator(kind, stream)
        case "break":
            await _read_up_to_a_word(kind, stream)
        case _:
            word = asyncio.Event()
            task = asyncio.create_task(_read_on(kind, stream, word))
            await word.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


async def _soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.01)


@pytest.mark.finding(13)
@pytest.mark.parametrize("kind", ALL, indirect=True)
@pytest.mark.parametrize("how", ["break", "cancelled", "dropped", "generator left"])
async def test_whoever_leaves_a_stream_gives_back_what_it_held(server: str, kind: Kind, how: str):
    """Permit, lease and timers at once or with the collector, and the server is hung up on."""
    script = Script(server, kind, [*kind.preamble, kind.word("a"), {"wait": 9}])

    def hung_up() -> bool:
        if not kind.hangs_up:
            gc.collect()
        return script.told("ended") == ["left"]

    async with AsyncExitStack() as stack:
        await _leave(kind, script.stream(stack, idle=5), how)
        if how == "generator left":
            # The loop closes it, in a task.
            await _soon(script.balances)
        assert script.balances()
        await _soon(hung_up)

    assert script.pool.stats().failures == 0


@pytest.mark.parametrize("kind", ALL[:2], indirect=True)
@pytest.mark.parametrize("how", ["break", "cancelled", "dropped"])
async def test_a_half_open_breaker_has_its_probe_back(server: str, kind: Kind, how: str):
    """A reader that has enough has had an answer: the service is well again."""
    failing = [{"status": 503}]
    script = Script(server, kind, failing, [*kind.preamble, kind.word("a"), {"wait": 9}])
    policy = Policy().with_breaker(failures=1, recover_after=0.05)
    script.policy = policy.with_concurrency(1).with_timeout(2).rotating(script.pool)
    await _failure(script.read())
    await asyncio.sleep(0.06)

    async with AsyncExitStack() as stack:
        await _leave(kind, script.stream(stack), how)

    assert script.balances()
    state = script.policy.snapshot()["stages"][0]["state"]
    assert state == ("closed" if how == "break" else "half_open")


# --- context managers ---------------------------------------------------------------------------


def _helper(name: str, url: str, stack: AsyncExitStack) -> Any:
    if name == "openai":
        openai = pytest.importorskip("openai")
        client = openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0)
        stack.push_async_callback(client.close)
        return lambda key: client.with_options(api_key=key.value).chat.completions.stream(
            model="m", messages=[]
        )
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0)
    stack.push_async_callback(client.close)
    return lambda key: client.with_options(api_key=key.value).messages.stream(
        model="m", messages=[], max_tokens=9
    )


TEXT_EVENTS = {"openai": ("content.delta", "delta"), "anthropic": ("text", "text")}


@pytest.mark.parametrize("name", ALL[:2])
@pytest.mark.parametrize("leaves", [False, True])
async def test_the_helpers_of_sdks_are_entered_per_attempt_and_left(
    server: str, name: str, leaves: bool
):
    """``client.messages.stream()`` and ``client.chat.completions.stream()`` cannot be awaited."""
    kind = KINDS[name]
    last = [{"wait": 9}] if leaves else kind.end
    answer = [*kind.preamble, kind.word("a"), kind.word("b"), *last]
    script = Script(server, kind, [*kind.preamble, kind.error], answer)
    event_type, field = TEXT_EVENTS[name]
    words: list[str] = []

    async with AsyncExitStack() as stack:
        async with script.policy.stream(_helper(name, script.url, stack)) as events:
            async for event in events:
                if event.type == event_type:
                    words += filter(None, [getattr(event, field)])
                if leaves and words:
                    break
        await _soon(lambda: script.told("ended") == ["read", "left" if leaves else "read"])

    assert words == (["a"] if leaves else ["a", "b"])
    assert script.verdicts() == [kind.failed[1], "ok"]
    assert script.balances()


@pytest.mark.covers("httpx", "streams")
async def test_a_response_of_httpx_alone_cannot_be_read_and_is_closed_again(server: str):
    """The error says that it needs a generator; the connection is back in its pool."""
    httpx = pytest.importorskip("httpx")
    script = Script(server, KINDS["httpx"], ["data: a\n"], ["data: b\n"])
    limits = httpx.Limits(max_connections=1)

    async with httpx.AsyncClient(limits=limits, timeout=1) as client:
        with pytest.raises(TypeError, match=r"httpx\.Response is none; give it an async generator"):
            async with Policy().stream(lambda: client.stream("GET", script.url)):
                pass
        assert (await client.get(script.url)).text == "data: b\n"


# --- what the headers say -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        pytest.param(
            "openai",
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"},
            marks=pytest.mark.covers("openai", "quota headers"),
            id="openai",
        ),
        pytest.param(
            "anthropic",
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2099-01-01T00:00:00Z",
            },
            marks=pytest.mark.covers("anthropic", "quota headers"),
            id="anthropic",
        ),
    ],
    indirect=["kind"],
)
async def test_the_quota_in_the_headers_of_a_stream_reaches_the_pool(
    server: str, kind: Kind, headers: dict[str, str]
):
    """A key that is used up rests, although this answer was good."""
    script = Script(server, kind, [{"status": 200, "headers": headers}, *kind.answer("a")])

    assert await script.read() == ["a"]
    assert script.pool.stats().by_standing["cooling"] == 1
    assert script.pool.stats().failures == 0


# --- gRPC ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grpc_server() -> Iterator[str]:
    """Where a gRPC service plays what it is asked for."""
    pytest.importorskip("grpc")
    with serve("stream_grpc") as address:
        yield address


class Rpc:
    """Calls of one test; see ``servers/stream_grpc.py``."""

    def __init__(self, channel: Any, *plays: list[dict[str, Any]]) -> None:
        self.name = str(next(_numbers))
        self._request = json.dumps({"name": self.name, "plays": plays}).encode()
        self._play = channel.unary_stream("/streams/Play")
        self._told = channel.unary_unary("/streams/Told")

    def __call__(self, key: Resource[str]) -> Any:
        """Open the stream."""
        return self._play(self._request, metadata=(("key", key.value),))

    async def told(self, what: str) -> list[str]:
        """Return of each call its ``key``, or how it ``ended``."""
        return [each[what] for each in json.loads(await self._told(self.name.encode()))]


@pytest.fixture
async def channel(grpc_server: str) -> AsyncIterator[Any]:
    """A channel without retries of its own."""
    grpc = pytest.importorskip("grpc")
    async with grpc.aio.insecure_channel(
        grpc_server, options=[("grpc.enable_retries", 0)]
    ) as channel:
        yield channel


@pytest.mark.covers("grpc", "streams")
async def test_a_grpc_stream_is_opened_again_until_its_first_item(channel: Any):
    """With another key; then its failure is the reader's."""
    rpc = Rpc(
        channel, [{"fail": "UNAVAILABLE"}], [{"send": "a"}, {"send": "b"}, {"fail": "UNAVAILABLE"}]
    )
    pool = Pool({"one": "key-1", "two": "key-2"})
    policy = Policy().with_retry(3, wait=0).with_concurrency(1).rotating(pool)
    read: list[bytes] = []

    async def reader() -> None:
        async with policy.stream(rpc) as items:
            async for item in items:
                read.append(item)  # noqa: PERF401 - what came before the failure counts

    failure = await _failure(reader())

    assert type(failure).__name__ == "AioRpcError"
    assert read == [b"a", b"b"]
    assert sorted(await rpc.told("key")) == ["key-1", "key-2"]
    assert (pool.stats().failures, pool.stats().in_flight) == (2, 0)


@pytest.mark.covers("grpc", "streams")
async def test_a_grpc_stream_that_stalls_ends_at_the_idle_limit(channel: Any):
    """The call is cancelled, and the server knows."""
    rpc = Rpc(channel, [{"send": "a"}, {"wait": 9}])
    pool = Pool({"one": "key-1"})

    with pytest.raises(CallTimeoutError):
        async with Policy().rotating(pool).stream(rpc).reading(idle=0.1) as items:
            assert [item async for item in items]

    assert pool.stats().failures == 1
    assert await rpc.told("ended") == ["left"]


@pytest.mark.finding(13)
@pytest.mark.covers("grpc", "streams")
@pytest.mark.parametrize("how", ["break", "cancelled", "dropped"])
async def test_whoever_leaves_a_grpc_stream_gives_back_what_it_held(channel: Any, how: str):
    """And the server stops working for nobody."""
    rpc = Rpc(channel, [{"send": "a"}, {"wait": 9}])
    pool = Pool({"one": "key-1"})
    policy = Policy().with_concurrency(1).rotating(pool)
    kind = KINDS["httpx"]._replace(text=bytes.decode)

    await _leave(kind, policy.stream(rpc).reading(idle=5), how)

    assert policy.snapshot()["stages"][0]["in_flight"] == pool.stats().in_flight == 0
    async with asyncio.timeout(2):
        while await rpc.told("ended") != ["left"]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
