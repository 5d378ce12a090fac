from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc import aio

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
from penstock.events import CallEnded, RetryScheduled
from penstock.integrations.grpc import interceptors
from penstock.testing import EventLog
from tests.integrations.serving import serve

pytestmark = pytest.mark.integration

Play = list[dict[str, Any]]

# Without it gRPC retries by itself where a service config says so.
OPTIONS = [("grpc.enable_retries", 0)]


class Service:
    """The service of servers/grpc_service.py."""

    def __init__(self, ports: str) -> None:
        self.here, self.there = (f"127.0.0.1:{port}" for port in ports.split())
        self._names = 0

    def play(self, *plays: Play) -> bytes:
        """Return a request that asks for these plays, one after the other."""
        self._names += 1
        return json.dumps({"name": str(self._names), "plays": plays}).encode()

    async def told(self, request: bytes) -> list[dict[str, Any]]:
        """Return what has come of a request."""
        async with aio.insecure_channel(self.here) as channel:
            name = json.loads(request)["name"].encode()
            return json.loads(await channel.unary_unary("/calls/Told")(name))

    async def ended(self, request: bytes, *ways: str) -> list[str]:
        """Return how the RPCs of a request have ended, when they have, or as it was after 2 s."""
        by = time.monotonic() + 2
        while [each["ended"] for each in await self.told(request)] != list(ways):
            if time.monotonic() > by:
                break
            await asyncio.sleep(0.01)
        return [each["ended"] for each in await self.told(request)]

    async def count(self, request: bytes) -> int:
        """Return how often a request has come."""
        return len(await self.told(request))


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Serve while the tests of this file run."""
    with serve("grpc_service") as ports:
        yield Service(ports)


class Stub:
    """What protobuf would make of the service."""

    def __init__(self, channel: Any) -> None:
        self.one = channel.unary_unary("/calls/One")
        self.many = channel.unary_stream("/calls/Many")
        self.count = channel.stream_unary("/calls/Count")


@contextlib.asynccontextmanager
async def stub_under(policy: Policy, address: str, **options: Any) -> AsyncGenerator[Stub]:
    """Open a channel under a policy, and see that nothing is left when it ends."""
    intercept = interceptors(policy, **options)
    async with aio.insecure_channel(address, interceptors=intercept, options=OPTIONS) as channel:
        yield Stub(channel)
        # The end of a stream that was left is told a few steps later.
        await until(lambda: held_by(policy) == 0)


def held_by(policy: Policy) -> int:
    """Return the permits and leases that are held, and the calls under watch of a timeout."""
    held = 0
    for stage in policy.snapshot()["stages"]:
        held += stage.get("in_flight", 0) + stage.get("running", 0)
        held += sum(each["in_flight"] for each in stage.get("resources", {}).values())
    return held


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so; the test's time limit bounds it."""
    while not condition():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.005)


def states_of(policy: Policy) -> list[str]:
    """Return the states of the resources of a policy, in their order."""
    return [each["standing"] for each in policy.snapshot()["stages"][-1]["resources"].values()]


def retrying(attempts: int = 3) -> Policy:
    """Return a policy whose every stage can hold something."""
    return Policy("rpc").with_timeout(5).with_retry(attempts, wait=0).with_concurrency(4)


def fails(code: str, **trailing: str) -> Play:
    """Return a play that ends with a status."""
    return [{"fail": code, "trailing": trailing}]


WELL: Play = [{"send": "well"}]


# --- one response ------------------------------------------------------------------------------


@pytest.mark.covers("grpc", "retry")
@pytest.mark.parametrize("code", ["UNAVAILABLE", "ABORTED"])
async def test_a_failure_that_may_pass_is_tried_again(service: Service, code: str):
    """The caller sees the response alone, and the metadata of the call that brought it."""
    request = service.play(fails(code), WELL)

    async with stub_under(retrying(), service.here) as stub:
        call = stub.one(request)
        response = await call
        status = await call.code()

    assert (response, status, await service.count(request)) == (b"well", grpc.StatusCode.OK, 2)


@pytest.mark.covers("grpc", "retry")
@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"])
async def test_the_callers_mistakes_are_not_tried_again(service: Service, code: str):
    """The error is gRPC's own, as it is, and the call tells of it."""
    request = service.play(fails(code))

    async with stub_under(retrying(), service.here) as stub:
        call = stub.one(request)
        with pytest.raises(aio.AioRpcError) as raised:
            await call
        status = await call.code()

    assert raised.value.code() is status is grpc.StatusCode[code]
    assert await service.count(request) == 1


@pytest.mark.covers("grpc", "retry")
async def test_the_last_error_is_raised_as_it_is(service: Service):
    """With a note that says how often it was tried."""
    request = service.play(fails("UNAVAILABLE"))

    async with stub_under(retrying(), service.here) as stub:
        with pytest.raises(aio.AioRpcError) as raised:
            await stub.one(request)

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "3 attempts" in str(raised.value.__notes__)
    assert await service.count(request) == 3


KINDS = {
    "UNAVAILABLE": VerdictKind.TRANSIENT,
    "ABORTED": VerdictKind.TRANSIENT,
    "RESOURCE_EXHAUSTED": VerdictKind.RATE_LIMITED,
    "DEADLINE_EXCEEDED": VerdictKind.TIMEOUT,
}


@pytest.mark.covers("grpc", "classified")
@pytest.mark.parametrize("code", KINDS)
async def test_a_status_has_the_verdict_that_it_means(service: Service, code: str):
    """The table is in the classifier, which knows gRPC without importing it."""
    request = service.play(fails(code), WELL)
    log = EventLog()
    policy = Policy("rpc", observers=[log]).with_retry(2, wait=0)

    async with stub_under(policy, service.here) as stub:
        await stub.one(request)

    assert [event.verdict for event in log.of(RetryScheduled)] == [KINDS[code]]
    assert [event.operation for event in log.of(CallEnded)] == ["calls/One"]


@pytest.mark.covers("grpc", "classified")
async def test_no_connection_is_unavailable():
    """It is tried again, too."""
    log = EventLog()
    policy = Policy("rpc", observers=[log]).with_retry(2, wait=0)

    async with stub_under(policy, "127.0.0.1:9") as stub:
        with pytest.raises(aio.AioRpcError) as raised:
            await stub.one(b"")

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(log.of(RetryScheduled)) == 1


@pytest.mark.covers("grpc", "server hint")
async def test_the_servers_pushback_is_obeyed(service: Service):
    """As many milliseconds as it says."""
    request = service.play(fails("UNAVAILABLE", **{"grpc-retry-pushback-ms": "150"}), WELL)
    began = time.monotonic()

    async with stub_under(retrying(), service.here) as stub:
        response = await stub.one(request)

    assert response == b"well"
    assert 0.15 <= time.monotonic() - began < 1


@pytest.mark.covers("grpc", "server hint")
async def test_a_negative_pushback_is_a_no(service: Service):
    """The failure is the caller's at once."""
    request = service.play(fails("UNAVAILABLE", **{"grpc-retry-pushback-ms": "-1"}), WELL)

    async with stub_under(retrying(), service.here) as stub:
        with pytest.raises(aio.AioRpcError):
            await stub.one(request)

    assert await service.count(request) == 1


@pytest.mark.covers("grpc", "junk")
@pytest.mark.parametrize("hint", ["inf", "nan", "1e999", "999999999"])
async def test_a_pushback_that_makes_no_sense_delays_nothing(service: Service, hint: str):
    """Nobody waits eleven days, or for ever."""
    request = service.play(fails("UNAVAILABLE", **{"grpc-retry-pushback-ms": hint}), WELL)
    began = time.monotonic()

    async with stub_under(retrying(), service.here) as stub:
        with contextlib.suppress(aio.AioRpcError):
            await stub.one(request)

    assert time.monotonic() - began < 1


@pytest.mark.covers("grpc", "own retries")
async def test_the_service_config_is_not_heeded_when_retries_are_off(service: Service):
    """With them on, its three attempts would multiply with the policy's two."""
    retry = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": retry}]})
    counts = []

    for enabled in (0, 1):
        request = service.play(fails("UNAVAILABLE"))
        options = [("grpc.enable_retries", enabled), ("grpc.service_config", config)]
        intercept = interceptors(retrying(2))
        async with aio.insecure_channel(
            service.here, interceptors=intercept, options=options
        ) as channel:
            with pytest.raises(aio.AioRpcError):
                await Stub(channel).one(request)
        counts.append(await service.count(request))

    assert counts == [2, 6]


async def test_calls_that_stream_their_requests_are_left_alone(service: Service):
    """They work as without the interceptors."""

    async def three() -> AsyncGenerator[bytes]:
        for _ in range(3):
            yield b"x"

    async with stub_under(retrying(), service.here) as stub:
        counted = await stub.count(three())

    assert counted == b"3"


async def test_a_fallback_answers_in_place_of_the_service(service: Service):
    """With a message, or with several for a stream."""
    request = service.play(fails("UNAVAILABLE"))
    policy = Policy("rpc").with_fallback(value=[b"cached"])

    async with stub_under(policy, service.here) as stub:
        one = await stub.one(request)
        many = [message async for message in stub.many(request)]

    assert (one, many) == ([b"cached"], [b"cached"])


# --- keys --------------------------------------------------------------------------------------


def keyed(service: Service, *ids: str, attempts: int = 3, **options: Any) -> Policy:
    """Return a policy that rotates over keys named after their ids."""
    keys = [Resource(f"secret-{each}", id=each, origins=[f"http://{service.here}"]) for each in ids]
    return retrying(attempts).rotating(Pool(keys, **{"pick": "round_robin", **options}))


@pytest.mark.covers("grpc", "rotation")
@pytest.mark.parametrize("method", ["one", "many"])
async def test_each_attempt_has_a_key_of_its_own(service: Service, method: str):
    """One that is limited rests, those that are refused are taken out."""
    refusals = ["RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "PERMISSION_DENIED"]
    request = service.play(*map(fails, refusals), WELL)
    policy = keyed(service, "a", "b", "c", "d", attempts=4)
    options = {"target": f"http://{service.here}", "header": "Authorization", "form": "Bearer {}"}

    async with stub_under(policy, service.here, **options) as stub:
        await _all(getattr(stub, method)(request))

    sent = [each["metadata"]["authorization"] for each in await service.told(request)]
    assert sent == [f"Bearer secret-{each}" for each in "abcd"]
    assert states_of(policy) == ["cooling", "disabled", "disabled", "ready"]


async def _all(call: Any) -> list[bytes]:
    if hasattr(call, "__aiter__"):
        return [message async for message in call]
    return [await call]


async def _read(call: Any, seen: list[bytes]) -> None:
    # What came before an error, too.
    async for message in call:
        seen += [message]


@pytest.mark.covers("grpc", "rotation")
async def test_the_metadata_of_the_caller_is_kept(service: Service):
    """All of it but an entry in the key's place."""
    request = service.play(WELL)
    metadata = (("x-trace", "1"), ("x-key", "mine"))
    options = {"target": f"http://{service.here}", "header": "x-key"}

    async with stub_under(keyed(service, "a"), service.here, **options) as stub:
        await stub.one(request, metadata=metadata)

    (told,) = await service.told(request)
    assert told["metadata"]["x-trace"] == "1"
    assert told["metadata"]["x-key"] == "secret-a"


@pytest.mark.finding(2)
@pytest.mark.covers("grpc", "origins")
def test_a_channel_to_another_target_has_no_keys(service: Service):
    """That is said when it is made, and not by a key that has left."""
    policy = keyed(service, "a")

    with pytest.raises(ConfigError, match="no key may be sent"):
        interceptors(policy, target=f"http://{service.there}", header="x-key")
    with pytest.raises(ConfigError, match="no key may be sent"):
        interceptors(policy, target=f"https://{service.here}", header="x-key")


@pytest.mark.covers("grpc", "origins")
async def test_a_key_that_comes_later_goes_to_its_own_target_only(service: Service):
    """The other one is refused without being sent or shown."""
    request = service.play(WELL)
    policy = keyed(service, "a")
    target = f"http://{service.here}"

    async with stub_under(policy, service.here, target=target, header="x-key") as stub:
        pool = policy.stages[-1].pool
        pool.add(Resource("secret-b", id="b", origins=[f"http://{service.there}"]))
        pool.disable("a")
        with pytest.raises(PolicyError, match="'b' must not be sent to") as raised:
            await stub.one(request)

    assert "secret" not in str(raised.value)
    assert await service.count(request) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"header": "x-key"},
        {"header": "x-key", "origins": ["http://a:1"]},
        {"header": "x-key", "target": "http://a:1"},
        {"header": "x-key", "target": "a:1", "origins": ["http://a:1"]},
        {"header": "x-key", "target": "http://a:1", "origins": ["http://b:1"]},
        {"header": "x-key", "target": "http://a:1", "origins": ["http://a:1"], "form": "Bearer"},
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]):
    """When the interceptors are made."""
    with pytest.raises(ConfigError):
        interceptors(Policy("rpc").rotating(["k"]), **options)


@pytest.mark.covers("grpc", "quota headers")
@pytest.mark.parametrize("method", ["one", "many"])
async def test_a_good_response_that_says_nothing_is_left_rests_its_key(
    service: Service, method: str
):
    """In its initial metadata."""
    said = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    request = service.play([{"say": said}, *WELL], WELL)
    policy = keyed(service, "a", "b")

    async with stub_under(
        policy, service.here, target=f"http://{service.here}", header="k"
    ) as stub:
        for _ in range(3):
            await _all(getattr(stub, method)(request))

    sent = [each["metadata"]["k"] for each in await service.told(request)]
    assert sent == ["secret-a", "secret-b", "secret-b"]


# --- deadlines ---------------------------------------------------------------------------------


@pytest.mark.covers("grpc", "deadline")
@pytest.mark.parametrize("method", ["one", "many"])
async def test_the_policys_time_limit_is_told_to_the_server_and_kept(service: Service, method: str):
    """The error is the policy's, and the server sees that nobody waits any more."""
    request = service.play([{"wait": 2}, *WELL])
    began = time.monotonic()

    async with stub_under(
        Policy("rpc").with_timeout(0.2).with_concurrency(1), service.here
    ) as stub:
        with pytest.raises(CallTimeoutError):
            await _all(getattr(stub, method)(request))

    took = time.monotonic() - began
    (told,) = await service.told(request)
    assert took < 0.6
    assert 0 < told["left"] < 0.35
    assert await service.ended(request, "left") == ["left"]


@pytest.mark.covers("grpc", "deadline")
@pytest.mark.parametrize("method", ["one", "many"])
async def test_an_attempts_time_limit_leads_to_the_next_one(service: Service, method: str):
    """The call that was cut off is cancelled."""
    request = service.play([{"wait": 2}], WELL)
    policy = Policy("rpc").with_retry(2, wait=0).with_timeout(0.15)

    async with stub_under(policy, service.here) as stub:
        responses = await _all(getattr(stub, method)(request))

    assert responses == [b"well"]
    assert await service.ended(request, "left", "read") == ["left", "read"]


@pytest.mark.covers("grpc", "deadline")
@pytest.mark.parametrize("method", ["one", "many"])
@pytest.mark.parametrize("plays", [[[{"wait": 2}]], [fails("UNAVAILABLE")]], ids=["hangs", "fails"])
async def test_the_callers_own_timeout_is_for_all_attempts(
    service: Service, method: str, plays: list[Play]
):
    """It ends them as it does without a policy; a wait that is too long for it is not begun."""
    request = service.play(*plays)
    policy = Policy("rpc").with_retry(5, wait=0.2).with_concurrency(1)
    began = time.monotonic()

    async with stub_under(policy, service.here) as stub:
        with pytest.raises(aio.AioRpcError) as raised:
            await _all(getattr(stub, method)(request, timeout=0.3))

    hangs = plays[0][0].get("wait")
    expected = "DEADLINE_EXCEEDED" if hangs else "UNAVAILABLE"
    assert raised.value.code() is grpc.StatusCode[expected]
    assert time.monotonic() - began < 0.6


@pytest.mark.covers("grpc", "deadline")
@pytest.mark.parametrize("method", ["one", "many"])
async def test_a_timeout_that_is_over_is_left_to_grpc(service: Service, method: str):
    """It says so at once."""
    async with stub_under(retrying(), service.here) as stub:
        with pytest.raises(aio.AioRpcError) as raised:
            await _all(getattr(stub, method)(service.play([{"wait": 1}]), timeout=0))

    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.covers("grpc", "deadline")
@pytest.mark.parametrize("how", ["policy", "caller"])
async def test_a_time_limit_ends_a_stream_that_goes_on(service: Service, how: str):
    """After its first message, too."""
    request = service.play([{"send": "a"}, {"wait": 2}, {"send": "b"}])
    policy = Policy("rpc").with_retry(2, wait=0).with_concurrency(1).with_timeout(0.1)
    options: dict[str, Any] = {"timeout": 0.3}
    if how == "policy":
        policy = Policy("rpc").with_timeout(0.3).with_retry(2, wait=0).with_timeout(0.1)
        options = {}
    began, seen = time.monotonic(), list[bytes]()

    async with stub_under(policy, service.here) as stub:
        with pytest.raises((CallTimeoutError, aio.AioRpcError)) as raised:
            await _read(stub.many(request, **options), seen)

    assert seen == [b"a"]
    assert 0.3 <= time.monotonic() - began < 0.8
    if how == "policy":
        assert isinstance(raised.value, CallTimeoutError)
    else:
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.covers("grpc", "deadline")
async def test_each_attempt_of_a_stream_tells_the_server_what_is_left_of_the_whole(
    service: Service,
):
    """Its own limit is not for the messages after the first."""
    request = service.play([{"wait": 0.3}, *fails("UNAVAILABLE")], WELL)
    policy = Policy("rpc").with_timeout(1).with_retry(2, wait=0).with_timeout(0.5)

    async with stub_under(policy, service.here) as stub:
        await _all(stub.many(request))

    first, second = [each["left"] for each in await service.told(request)]
    assert 0.9 < first < 1.2
    assert 0.2 < first - second < 0.5


@pytest.mark.covers("grpc", "deadline")
async def test_a_time_limit_behind_another_stage_ends_a_stream_at_its_next_message(
    service: Service,
):
    """What gRPC is told may be too late there."""
    request = service.play([{"send": "a"}, *[{"wait": 0.04}, {"send": "b"}] * 20])
    policy = Policy("rpc").with_concurrency(1).with_timeout(0.2).with_retry(2, wait=0)
    seen: list[bytes] = []
    began = time.monotonic()

    async with stub_under(policy, service.here) as stub:
        with pytest.raises(CallTimeoutError) as raised:
            await _read(stub.many(request), seen)

    assert len(seen) > 1
    assert raised.value.__cause__ is not raised.value
    assert 0.2 <= time.monotonic() - began < 0.6


@pytest.mark.covers("grpc", "deadline")
async def test_a_reader_that_comes_late_is_told_of_the_time_limit(service: Service):
    """The stream had ended, and given everything back, before."""
    request = service.play([{"send": "a"}, {"wait": 2}])
    policy = Policy("rpc").with_timeout(0.1).with_retry(2, wait=0).with_concurrency(1)

    async with stub_under(policy, service.here) as stub:
        call = stub.many(request)
        first = await call.read()
        await until(lambda: held_by(policy) == 0)
        with pytest.raises(CallTimeoutError):
            await call.read()

    assert first == b"a"


@pytest.mark.covers("grpc", "deadline")
async def test_an_attempts_time_limit_is_not_for_the_messages_after_the_first(service: Service):
    """They take as long as they take."""
    request = service.play([{"send": "a"}, {"wait": 0.3}, {"send": "b"}])
    policy = Policy("rpc").with_timeout(5).with_retry(2, wait=0).with_timeout(0.15)

    async with stub_under(policy, service.here) as stub:
        messages = [message async for message in stub.many(request)]

    assert messages == [b"a", b"b"]


# --- streams -----------------------------------------------------------------------------------


@pytest.mark.covers("grpc", "streams")
async def test_a_stream_is_tried_again_until_its_first_message(service: Service):
    """The reader sees one stream, whole."""
    request = service.play(
        fails("UNAVAILABLE"), [{"wait": 0.01}, *fails("ABORTED")], [{"send": "a"}, {"send": "b"}]
    )

    async with stub_under(retrying(), service.here) as stub:
        call = stub.many(request)
        messages = [message async for message in call]
        status = await call.code()

    assert (messages, status) == ([b"a", b"b"], grpc.StatusCode.OK)
    assert await service.count(request) == 3


@pytest.mark.covers("grpc", "streams")
async def test_a_stream_is_committed_after_its_first_message(service: Service):
    """The error is the reader's, and the breaker's."""
    request = service.play([{"send": "a"}, {"wait": 0.02}, *fails("UNAVAILABLE")])
    policy = Policy("rpc").with_breaker(failures=1, recover_after=30).with_retry(3, wait=0)
    seen: list[bytes] = []

    async with stub_under(policy, service.here) as stub:
        with pytest.raises(aio.AioRpcError):
            await _read(stub.many(request), seen)
        with pytest.raises(CircuitOpenError):
            await stub.one(request)

    assert (seen, await service.count(request)) == ([b"a"], 1)


@pytest.mark.covers("grpc", "streams")
async def test_a_failure_that_nobody_reads_is_told_to_the_stages(service: Service):
    """The reader has had the message that it wanted."""
    request = service.play([{"send": "a"}, {"wait": 0.02}, *fails("UNAVAILABLE")])
    policy = Policy("rpc").with_breaker(failures=1, recover_after=30).with_concurrency(1)

    async with stub_under(policy, service.here) as stub:
        call = stub.many(request)
        message = await call.read()
        await until(lambda: held_by(policy) == 0)
        with pytest.raises(CircuitOpenError):
            await stub.one(request)

    assert message == b"a"


@pytest.mark.covers("grpc", "streams")
async def test_permit_and_lease_are_held_until_the_stream_ends(service: Service):
    """From the first message to the last, read in either style."""
    request = service.play([{"send": "a"}, {"wait": 0.1}, {"send": "b"}])
    policy = keyed(service, "k")

    async with stub_under(policy, service.here) as stub:
        call = stub.many(request)
        first = await call.read()
        during = held_by(policy)
        second = await call.read()
        end = await call.read()
        after = held_by(policy)

    assert (first, second, end) == (b"a", b"b", aio.EOF)
    assert (during, after) == (3, 0)


@pytest.mark.covers("grpc", "streams")
async def test_a_stream_is_a_call_like_any_other_to_its_reader(service: Service):
    """With metadata, a status, and callbacks for its end."""
    request = service.play([{"say": {"x-said": "1"}}, {"send": "a"}, {"wait": 0.02}])
    ended: list[object] = []

    async with stub_under(retrying(), service.here) as stub:
        call = stub.many(request)
        call.add_done_callback(ended.append)
        said = await call.initial_metadata()
        before = call.done(), len(ended)
        messages = [message async for message in call]
        call.add_done_callback(ended.append)
        details = await call.details()

    assert dict(said)["x-said"] == "1"
    assert (before, messages, details) == ((False, 0), [b"a"], "")
    assert ended == [call, call]
    assert call.done()


@pytest.mark.covers("grpc", "streams")
async def test_a_stream_without_messages_is_over(service: Service):
    """That is no failure."""
    request = service.play([])

    async with stub_under(retrying(), service.here) as stub:
        messages = [message async for message in stub.many(request)]

    assert (messages, await service.count(request)) == ([], 1)


@pytest.mark.covers("grpc", "streams")
async def test_a_stream_that_is_cancelled_gives_everything_back(service: Service):
    """And the server sees it."""
    request = service.play([{"send": "a"}, {"wait": 2}, {"send": "b"}])
    policy = keyed(service, "k")

    async with stub_under(policy, service.here) as stub:
        call = stub.many(request)
        async for _ in call:
            break
        during = held_by(policy)
        call.cancel()
        await until(lambda: held_by(policy) == 0)

    assert during == 3
    assert await service.ended(request, "left") == ["left"]


@pytest.mark.covers("grpc", "streams")
async def test_a_stream_that_is_collected_gives_everything_back(service: Service):
    """Left with a ``break``, and nobody has it any more."""
    request = service.play([{"send": "a"}, {"wait": 2}, {"send": "b"}])
    policy = keyed(service, "k")

    async with stub_under(policy, service.here) as stub:
        async for _ in stub.many(request):
            break
        during = held_by(policy)
        await until(lambda: gc.collect() and held_by(policy) == 0)

    assert during == 3
    assert await service.ended(request, "left") == ["left"]


@pytest.mark.covers("grpc", "streams")
async def test_a_reader_that_is_cancelled_ends_the_stream(service: Service):
    """While it waits for the next message."""
    request = service.play([{"send": "a"}, {"wait": 2}, {"send": "b"}])
    log = EventLog()
    policy = Policy("rpc", observers=[log]).with_concurrency(1)

    async with stub_under(policy, service.here) as stub:
        reader = asyncio.ensure_future(_all(stub.many(request)))
        await asyncio.sleep(0.1)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        after = held_by(policy)

    assert after == 0
    assert [event.outcome for event in log.of(CallEnded)] == ["cancelled"]
    assert await service.ended(request, "left") == ["left"]


# --- cancels -----------------------------------------------------------------------------------


@pytest.mark.covers("grpc", "discard")
@pytest.mark.parametrize("method", ["one", "many"])
async def test_a_cancel_at_any_moment_leaves_nothing_behind(service: Service, method: str):
    """No permit, no lease, and nothing that goes on at the server."""
    plays = [
        [{"wait": 0.01}, *fails("UNAVAILABLE")],
        fails("RESOURCE_EXHAUSTED"),
        [{"wait": 0.01}, {"send": "a"}, {"wait": 0.01}, {"send": "b"}],
    ]
    policy = keyed(service, "a", "b", cooldown=0.0)
    cancelled = 0

    async with stub_under(
        policy, service.here, target=f"http://{service.here}", header="k"
    ) as stub:
        for moment in range(24):
            request = service.play(*plays)
            victim = asyncio.ensure_future(_all(getattr(stub, method)(request)))
            await asyncio.sleep(moment * 0.0025)
            victim.cancel()
            await asyncio.wait([victim])
            await until(lambda: held_by(policy) == 0)
            cancelled += victim.cancelled()
        last = await _all(getattr(stub, method)(service.play(WELL)))

    assert cancelled > 5
    assert last == [b"well"]


def test_a_missing_grpcio_is_named_with_its_extra():
    """The error says what to install."""
    program = "import sys; sys.modules['grpc'] = None; import penstock.integrations.grpc"

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "pip install 'penstock[grpc]'" in ran.stderr
