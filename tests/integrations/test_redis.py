from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from penstock import CallTimeoutError, ConfigError, Policy, PolicyOrderWarning, Resource
from penstock.classify import classify
from penstock.integrations.clients.known import known_client

pytestmark = pytest.mark.integration

Connect = Callable[..., Redis]


@pytest.fixture
async def connect(redis_folders: list[str]) -> AsyncIterator[Connect]:
    """Return what makes clients of the first server (or of another), which do not retry."""
    made: list[Redis] = []

    def one(server: int = 0, **options: Any) -> Redis:
        path = f"{redis_folders[server]}/redis.sock"
        own: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "decode_responses": True}
        made.append(Redis(unix_socket_path=path, **{**own, **options}))
        return made[-1]

    yield one
    for client in made:
        await client.aclose()


@pytest.fixture
async def admin(connect: Connect) -> Redis:
    """Return a client beside those of the test, with everything there was gone."""
    client = connect()
    await client.flushall()
    return client


@pytest.fixture
def policy() -> Policy:
    """Return a policy that retries at once."""
    return Policy("cache").with_timeout(5).with_retry(attempts=3, wait=0)


async def failure_of(attempt: Awaitable[Any]) -> BaseException:
    """Return what an awaitable raises."""
    (raised,) = await asyncio.gather(attempt, return_exceptions=True)
    assert isinstance(raised, BaseException), raised
    return raised


async def blocked(admin: Redis, clients: int = 1) -> None:
    """Wait until so many clients wait for an item."""
    while (await admin.info("clients"))["blocked_clients"] != clients:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def kill_blocked(admin: Redis) -> None:
    """Cut the connection of whoever waits for an item."""
    await blocked(admin)
    await admin.client_kill_filter(_type="normal", skipme=True)


# --- wrapping -----------------------------------------------------------------------------------


@pytest.mark.covers("redis", "retry")
async def test_a_connection_that_is_killed_in_a_command_is_made_anew(
    connect: Connect, admin: Redis, policy: Policy
):
    """The second attempt gets the item that came meanwhile."""
    client = policy.wrap_client(connect())

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(client.blpop(["jobs"], timeout=5))
        await kill_blocked(admin)
        await admin.rpush("jobs", "first")

    assert waiting.result() == ("jobs", "first")


@pytest.mark.covers("redis", "retry")
async def test_a_mistake_is_not_retried(connect: Connect, admin: Redis, policy: Policy):
    """A text is no list, however often it is asked."""
    client = policy.wrap_client(connect())
    await client.set("text", "water")

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await client.lpush("text", "wheel")

    assert int((await admin.info("commandstats"))["cmdstat_lpush"]["failed_calls"]) == 1
    await admin.config_resetstat()


@pytest.mark.covers("redis", "retry")
async def test_writes_wait_for_a_server_that_is_a_replica_for_a_while(
    connect: Connect, admin: Redis
):
    """A failover: the command is tried again until the server takes writes."""
    policy = Policy("cache").with_timeout(5).with_retry(attempts=20, wait=0.02)
    client = policy.wrap_client(connect())
    await admin.replicaof("127.0.0.1", "1")

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(client.set("text", "water"))
        await asyncio.sleep(0.05)
        still_waits = not writing.done()
        await admin.replicaof("NO", "ONE")

    assert still_waits
    assert writing.result() is True


@pytest.mark.covers("redis", "own retries")
@pytest.mark.finding(7)
async def test_a_client_that_retries_by_itself_is_warned_of(connect: Connect, policy: Policy):
    """Ten of its own times three of ours; the message has the line that switches it off."""
    client = Redis(unix_socket_path="/nowhere")

    with pytest.warns(PolicyOrderWarning, match=r"3 x 11 = 33 .*retry=Retry\(NoBackoff\(\), 0\)"):
        policy.wrap_client(client)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.wrap_client(connect())
        policy.wrap_client(Redis.from_url("redis://localhost"))


@pytest.mark.covers("redis", "own retries")
@pytest.mark.parametrize(
    ("client", "requests"),
    [
        (Redis(), 11),
        (Redis(retry=Retry(NoBackoff(), 3)), 4),
        (Redis.from_url("redis://localhost", retry_on_error=[OSError]), 2),
        (Redis.from_url("redis://localhost"), None),
        (RedisCluster("localhost"), 11),
        (RedisCluster("localhost", retry=Retry(NoBackoff(), 0)), 1),
    ],
)
def test_what_a_client_does_by_itself_is_known(client: Any, requests: int | None):
    """However it was made."""
    known = known_client(client)
    assert known is not None

    own = known.own_retries(client)

    assert (None if own is None else own.requests) == requests


def test_retries_without_end_are_warned_of_as_such(policy: Policy):
    """A negative number means that."""
    with pytest.warns(PolicyOrderWarning, match="without bound"):
        policy.wrap_client(Redis(retry=Retry(NoBackoff(), -1)))


@pytest.mark.parametrize(
    ("client", "instead"),
    [(redis.Redis(), "redis.asyncio.Redis"), (redis.Redis().pipeline(), "redis.asyncio.Redis")],
)
def test_a_client_that_blocks_is_refused(client: Any, instead: str, policy: Policy):
    """The message names what does not."""
    with pytest.raises(TypeError, match=instead):
        policy.wrap_client(client)


@pytest.mark.covers("redis", "types")
async def test_a_wrapped_client_is_what_its_type_says(
    connect: Connect, admin: Redis, policy: Policy
):
    """So are its parts; a pipeline, a lock and a subscription are the client's own."""
    async with policy.wrap_client(connect()) as client:
        parts = [client.pipeline(), client.lock("gate"), client.pubsub()]

        assert isinstance(client, Redis)
        assert [type(part).__name__ for part in parts] == ["Pipeline", "Lock", "PubSub"]
        async with client.pipeline() as pipeline, client.lock("gate", timeout=5):
            assert await pipeline.set("text", "water").get("text").execute() == [True, "water"]


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    """The line that installs it is in the message."""
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "penstock.integrations.redis", raising=False)

    with pytest.raises(ImportError, match=r"pip install 'penstock\[redis\]'"):
        importlib.import_module("penstock.integrations.redis")


# --- rotation -----------------------------------------------------------------------------------


@pytest.mark.covers("redis", "rotation")
async def test_each_attempt_uses_the_client_of_its_endpoint(connect: Connect, admin: Redis):
    """The resources are clients; one that has no memory left rests, and the other serves."""
    first, second = connect(0), connect(1)
    endpoints = [Resource(first, id="first"), Resource(second, id="second")]
    policy = Policy("cache").with_retry(attempts=3, wait=0).rotating(endpoints, pick="round_robin")
    client = policy.wrap_client(first, bind=lambda _, endpoint: endpoint.value)
    await admin.replicaof("127.0.0.1", "1")

    try:
        answers = [await client.set(f"text{n}", "water") for n in range(3)]
    finally:
        await admin.replicaof("NO", "ONE")

    assert answers == [True, True, True]
    assert await second.dbsize() == 3
    assert await first.dbsize() == 0
    await second.flushall()


async def test_texts_are_no_endpoints(connect: Connect):
    """Nobody would close the clients that were made of them: whoever makes them does."""
    policy = Policy("cache").rotating(["redis://a", "redis://b"])

    with pytest.raises(ConfigError, match="bind"):
        policy.wrap_client(connect())


# --- what failures mean -------------------------------------------------------------------------


async def _read_only(admin: Redis, client: Redis) -> BaseException:
    await admin.replicaof("127.0.0.1", "1")
    try:
        return await failure_of(client.set("text", "water"))
    finally:
        await admin.replicaof("NO", "ONE")


async def _configured(admin: Redis, client: Redis, name: str, value: Any, back: Any) -> Any:
    await admin.config_set(name, value)
    try:
        return await failure_of(client.set("text", "water"))
    finally:
        await admin.config_set(name, back)


async def _no_memory(admin: Redis, client: Redis) -> BaseException:
    return await _configured(admin, client, "maxmemory", 1, 0)


async def _no_replicas(admin: Redis, client: Redis) -> BaseException:
    return await _configured(admin, client, "min-replicas-to-write", 1, 0)


async def _cannot_save(admin: Redis, client: Redis) -> BaseException:
    folder = Path((await admin.config_get("dir"))["dir"])
    gone = folder / "gone"
    gone.mkdir()
    await admin.config_set("dir", str(gone))
    gone.rmdir()
    await admin.bgsave()
    while (await admin.info("persistence"))["rdb_last_bgsave_status"] == "ok":  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    try:
        return await _configured(admin, client, "save", "3600 1", "")
    finally:
        await admin.config_set("dir", str(folder))
        await admin.save()


async def _loading(admin: Redis, client: Redis) -> BaseException:
    slow = {"rdbcompression": "no", "loading-process-events-interval-bytes": 1024}
    for name, value in slow.items():
        await admin.config_set(name, value)
    for n in range(4):
        await admin.set(f"text{n}", "x" * 4000)
    await client.ping()
    await admin.config_set("key-load-delay", 50_000)
    reloading = asyncio.create_task(admin.execute_command("DEBUG", "RELOAD"))
    await asyncio.sleep(0.05)
    try:
        return await failure_of(client.get("text0"))
    finally:
        await reloading
        await admin.config_set("key-load-delay", 0)


async def _killed(admin: Redis, client: Redis) -> BaseException:
    waiting = asyncio.create_task(client.blpop(["jobs"], timeout=5))
    await kill_blocked(admin)
    return await failure_of(waiting)


async def _mistake(_: Redis, client: Redis) -> BaseException:
    await client.set("text", "water")
    return await failure_of(client.lpush("text", "wheel"))


@pytest.mark.covers("redis", "classified")
@pytest.mark.parametrize(
    ("bring_about", "kind", "error"),
    [
        (_killed, "transient", "ConnectionError"),
        (_read_only, "transient", "ReadOnlyError"),
        (_loading, "overloaded", "BusyLoadingError"),
        (_no_memory, "overloaded", "OutOfMemoryError"),
        (_cannot_save, "overloaded", "ResponseError"),
        (_no_replicas, "transient", "ResponseError"),
        (_mistake, "caller_bug", "ResponseError"),
    ],
)
async def test_what_the_server_says_is_understood(
    connect: Connect, admin: Redis, bring_about: Any, kind: str, error: str
):
    """Brought about on a real server."""
    failure = await bring_about(admin, connect())

    assert type(failure).__name__ == error
    assert classify(failure).kind.value == kind


@pytest.mark.covers("redis", "classified")
@pytest.mark.finding(7)
async def test_a_wrong_password_is_known_at_once(connect: Connect, admin: Redis, policy: Policy):
    """It comes as a connection error of the client's; trying it again would lock the account."""
    await admin.config_set("requirepass", "right")
    try:
        failure = await failure_of(policy.wrap_client(connect(password="wrong")).get("text"))
        log = await admin.acl_log()
    finally:
        await admin.config_set("requirepass", "")

    assert isinstance(failure, redis.ConnectionError)
    assert classify(failure).kind.value == "auth"
    assert sum(entry["count"] for entry in log) == 1


@pytest.mark.covers("redis", "classified")
async def test_a_server_that_is_not_there_is_transient(policy: Policy):
    """There is no password to be wrong."""
    client = Redis(unix_socket_path="/nowhere/redis.sock", retry=Retry(NoBackoff(), 0))

    failure = await failure_of(client.get("text"))

    assert classify(failure).kind.value == "transient"


# --- time, and what is covered ------------------------------------------------------------------


@pytest.mark.covers("redis", "deadline")
async def test_a_server_that_pauses_is_given_up_in_time(connect: Connect, admin: Redis):
    """Our time-out and the client's own are the same kind of failure; both give the slot back."""
    ours = Policy("cache").with_timeout(0.1).wrap_client(connect(max_connections=1))
    theirs = connect(max_connections=1, socket_timeout=0.1)
    await asyncio.gather(ours.ping(), theirs.ping())
    await admin.client_pause(200)

    failures = await asyncio.gather(ours.get("text"), theirs.get("text"), return_exceptions=True)
    await admin.client_unpause()

    assert [type(failure) for failure in failures] == [CallTimeoutError, redis.TimeoutError]
    assert [classify(failure).kind.value for failure in failures] == ["timeout", "timeout"]
    assert await asyncio.gather(ours.ping(), theirs.ping()) == [True, True]


@pytest.mark.covers("redis", "deadline")
async def test_a_cancelled_command_leaves_the_next_ones_their_own_answers(
    connect: Connect, admin: Redis, policy: Policy
):
    """Its answer, which may still come, is nobody else's: the connection is not used again."""
    client = policy.wrap_client(connect(max_connections=1))
    waiting = asyncio.create_task(client.blpop(["jobs"], timeout=5))
    await blocked(admin)

    waiting.cancel()
    await asyncio.wait([waiting])
    await blocked(admin, 0)
    await admin.rpush("jobs", "late")

    assert await client.set("text", "water") is True
    assert [await client.get("text"), await client.llen("jobs")] == ["water", 1]


@pytest.mark.covers("redis", "replay")
async def test_a_pipeline_of_a_wrapped_client_runs_once(
    connect: Connect, admin: Redis, policy: Policy
):
    """It forgets its commands when it sends them: a second attempt would do nothing, and well."""
    client = policy.wrap_client(connect())
    pipeline = client.pipeline().incr("count")
    await admin.client_pause(1000, all=False)

    sending = asyncio.create_task(pipeline.execute())
    await kill_blocked(admin)
    await admin.client_unpause()

    assert isinstance(await failure_of(sending), redis.ConnectionError)
    assert await pipeline.execute() == []
    assert await admin.get("count") is None


@pytest.mark.covers("redis", "replay")
async def test_a_pipeline_alone_is_refused(policy: Policy):
    """The message says what to do instead."""
    for client in (Redis(), RedisCluster("localhost")):
        with pytest.raises(TypeError, match=r"would send nothing; .*policy\.call"):
            policy.wrap_client(client.pipeline())


@pytest.mark.covers("redis", "replay")
async def test_a_pipeline_that_is_built_in_the_operation_is_retried(
    connect: Connect, admin: Redis, policy: Policy
):
    """Each attempt fills one of its own."""
    client = connect()
    pipelines: list[Any] = []

    async def work() -> Any:
        async with client.pipeline(transaction=True) as pipeline:
            pipelines.append(pipeline)
            pipeline.incr("count").get("count")
            if len(pipelines) == 1:
                raise redis.ConnectionError
            return await pipeline.execute()

    assert await policy.call(work) == [1, "1"]
    assert len(pipelines) == 2


@pytest.mark.covers("redis", "replay")
async def test_a_transaction_with_watches_is_retried_as_a_whole(
    connect: Connect, admin: Redis, policy: Policy
):
    """``client.transaction`` is one call: it makes a new pipeline each time."""
    client = policy.wrap_client(connect())
    attempts: list[int] = []

    def double(pipeline: Any) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise redis.ConnectionError
        pipeline.multi()
        pipeline.incrby("count", 2)

    assert await client.transaction(double, "count") == [2]
    assert len(attempts) == 2
