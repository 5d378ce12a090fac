"""The transports of httpx and httpx2 against a server that misbehaves."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from penstock import CallTimeoutError, CircuitOpenError, ConfigError, Policy, Pool, Resource
from tests.integrations.httpx_kits import KITS, Kit
from tests.integrations.scripting import Scripts, scripts

pytestmark = pytest.mark.integration


def shows(*behaviours: str) -> pytest.MarkDecorator:
    """Run a test with httpx and with httpx2, each for its own row of the table."""
    return pytest.mark.parametrize(
        "kit",
        [
            pytest.param(
                kit, id=kit.name, marks=[pytest.mark.covers(kit.name, b) for b in behaviours]
            )
            for kit in KITS
        ],
    )


@pytest.fixture(scope="module")
def script() -> Iterator[Scripts]:
    """Register the steps that the server takes."""
    with scripts() as running:
        yield running


def in_flight(policy: Policy) -> int:
    """Return how many permits and leases are out."""
    stages = {stage["stage"]: stage for stage in policy.snapshot()["stages"]}
    permits: int = stages["concurrency"]["in_flight"] if "concurrency" in stages else 0
    rotation = stages.get("rotation", {"resources": {}})
    return permits + sum(r["in_flight"] for r in rotation["resources"].values())


def retrying(attempts: int = 3, **options: Any) -> Policy:
    """Return a policy that tries again at once."""
    return Policy("api").with_retry(attempts=attempts, wait=0, **options)


BAD = {"status": 503, "body": "bad" * 1000}


@shows("retry", "classified")
async def test_bad_statuses_are_tried_again(kit: Kit, script: Scripts):
    """Two 503 in a row are two failed attempts."""
    steps = script(BAD, BAD, {"body": "good"})

    async with kit.client(retrying()) as client:
        response = await client.get(steps.url)

    assert (response.status_code, response.text) == (200, "good")
    assert len(steps.arrived()) == 3


@shows("retry")
@pytest.mark.parametrize("status", [400, 404, 422, 501])
async def test_what_no_other_attempt_would_change_is_returned_at_once(
    kit: Kit, script: Scripts, status: int
):
    """The caller's mistakes are not tried again; a 501 is a failure like any other of a server."""
    steps = script({"status": status})

    async with kit.client(retrying(2)) as client:
        response = await client.get(steps.url)

    assert response.status_code == status
    assert len(steps.arrived()) == (2 if status == 501 else 1)


@shows("discard")
@pytest.mark.finding(8)
async def test_answers_that_are_thrown_away_give_their_connections_back(kit: Kit, script: Scripts):
    """Four answers that nobody reads do not exhaust a pool of two connections."""
    steps = script(BAD, BAD, BAD, BAD, {"body": "good"})
    inner = kit.inner(connections=2)
    timeout = kit.lib.Timeout(5, pool=0.3)

    async with kit.client(retrying(5), inner, client_timeout=timeout) as client:
        response = await client.get(steps.url)

    assert response.text == "good"
    assert len(steps.arrived()) == 5


@shows("discard")
async def test_the_last_answer_is_returned_and_can_be_read(kit: Kit, script: Scripts):
    """When no attempt follows, the caller gets the answer as it is, and nothing is held for it."""
    steps = script({"status": 503, "body": "busy 1"}, {"status": 503, "body": "busy 2"})
    policy = retrying(2).with_concurrency(1)

    async with kit.client(policy) as client, client.stream("GET", steps.url) as response:
        held = in_flight(policy)
        body = await response.aread()

    assert (response.status_code, body, held) == (503, b"busy 2", 0)


@shows("classified", "retry")
async def test_connection_errors_are_tried_again_and_raised_as_they_are(
    kit: Kit, unused_tcp_port: int
):
    """Nobody listens: the client's own error comes out, with a note about the attempts."""
    async with kit.client(retrying(3)) as client:
        with pytest.raises(kit.lib.ConnectError) as raised:
            await client.get(f"http://127.0.0.1:{unused_tcp_port}/")

    assert "3 attempts" in " ".join(raised.value.__notes__)
    assert raised.value.request.url.port == unused_tcp_port


@shows("own retries")
async def test_the_server_sees_as_many_requests_as_the_policy_makes(kit: Kit, script: Scripts):
    """Neither the client nor its transport tries again by itself."""
    steps = script({"drop": True})

    async with kit.client(retrying(3)) as client:
        with pytest.raises(kit.lib.RemoteProtocolError):
            await client.get(steps.url)

    assert len(steps.arrived()) == 3


@shows("server hint")
@pytest.mark.parametrize("header", [("Retry-After", "0.2"), ("retry-after-ms", "200")])
async def test_the_servers_word_about_when_to_come_back_is_obeyed(
    kit: Kit, script: Scripts, header: tuple[str, str]
):
    """The hint is waited for, though the policy's own back-off is none."""
    steps = script({"status": 429, "headers": dict([header])}, {})
    began = time.monotonic()

    async with kit.client(retrying()) as client:
        response = await client.get(steps.url)

    assert response.status_code == 200
    assert time.monotonic() - began >= 0.2


@shows("rotation", "server hint")
async def test_a_limited_key_rests_and_the_next_one_serves(kit: Kit, script: Scripts):
    """A 429 cools the key for as long as it says; the request goes on with the other key."""
    steps = script({"status": 429, "headers": {"Retry-After": "60"}}, {})
    keys = Pool({"a": "key-a", "b": "key-b"}, pick="primary_backup")
    policy = retrying().rotating(keys)

    transport = {"header": "Authorization", "form": "Bearer {}", "origins": [script.origin()]}
    async with kit.client(policy, **transport) as client:
        response = await client.post(steps.url, json={"n": 1})

    assert response.status_code == 200
    used = [request["headers"]["authorization"] for request in steps.arrived()]
    assert used == ["Bearer key-a", "Bearer key-b"]
    assert [request["body"].replace(" ", "") for request in steps.arrived()] == ['{"n":1}'] * 2
    assert 55 < keys.snapshot()["resources"]["a"]["cooling_for"] <= 60


@shows("rotation", "classified")
async def test_a_refused_key_is_disabled(kit: Kit, script: Scripts):
    """A 401 takes the key out, also for a request that is not idempotent."""
    steps = script({"status": 401}, {})
    keys = Pool({"a": "key-a", "b": "key-b"}, pick="primary_backup")

    async with kit.client(
        retrying().rotating(keys), header="x-api-key", origins=[script.origin()]
    ) as client:
        response = await client.post(steps.url)

    assert response.status_code == 200
    assert [r["headers"]["x-api-key"] for r in steps.arrived()] == ["key-a", "key-b"]
    assert keys.snapshot()["resources"]["a"]["standing"] == "disabled"


@shows("quota headers")
async def test_a_good_answer_that_says_nothing_is_left_rests_its_key(kit: Kit, script: Scripts):
    """The key is not used again before its quota is back, and nothing has failed."""
    spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m"}
    steps = script({"headers": spent}, {})
    keys = Pool({"a": "key-a", "b": "key-b"}, pick="primary_backup")

    async with kit.client(
        retrying().rotating(keys), header="x-api-key", origins=[script.origin()]
    ) as client:
        for _ in range(2):
            await client.get(steps.url)

    assert [r["headers"]["x-api-key"] for r in steps.arrived()] == ["key-a", "key-b"]


@shows("origins")
@pytest.mark.finding(2)
@pytest.mark.parametrize("status", [302, 307])
async def test_a_key_stays_with_its_origin_when_a_redirect_leaves_it(
    kit: Kit, script: Scripts, status: int
):
    """Hops within the origin have a key each; the hop to another one goes without key or policy."""
    target = script({})
    steps = script(
        {"status": status, "headers": {"Location": "again"}},
        {"status": status, "headers": {"Location": target.on(1)}},
    )
    keys = Pool({"a": "key-a", "b": "key-b"}, pick="round_robin")
    policy = retrying().rotating(keys)

    async with kit.client(
        policy,
        header="Authorization",
        form="Bearer {}",
        origins=[script.origin(0)],
        client_follow_redirects=True,
    ) as client:
        response = await client.get(steps.url + "/")

    assert response.status_code == 200
    keys_seen = [r["headers"]["authorization"] for r in steps.arrived()]
    assert sorted(keys_seen) == ["Bearer key-a", "Bearer key-b"]
    assert "authorization" not in target.arrived()[0]["headers"]
    requests = [each.request for each in [*response.history, response]]
    assert not any("authorization" in request.headers for request in requests)


@shows("origins")
async def test_the_origins_of_the_resources_count_where_the_transport_has_none(
    kit: Kit, script: Scripts
):
    """A resource says itself where it may be sent; one that does not is refused when built."""
    steps = script({"status": 302, "headers": {"Location": script.origin(1) + "/s/1"}}, {})
    here = Resource("key-a", id="a", origins=[script.origin(0)])

    async with kit.client(retrying().rotating([here]), header="x-api-key") as client:
        await client.get(steps.url)
        elsewhere = await client.get(steps.on(1))

    assert [r["headers"].get("x-api-key") for r in steps.arrived()] == ["key-a", None]
    assert elsewhere.status_code == 200
    with pytest.raises(ConfigError, match="origins"):
        kit.ours.PolicyTransport(retrying().rotating(["key"]), header="x-api-key")


@shows("streams")
async def test_permit_and_lease_are_held_until_the_answer_is_closed(kit: Kit, script: Scripts):
    """A stream holds them while it is read, however it is left."""
    steps = script({"chunks": ["one\n", "two\n", "three\n"], "gap": 0.02})
    policy = Policy().with_concurrency(1).rotating(["a"])
    held: list[int] = []

    async with kit.client(policy) as client:
        async with client.stream("GET", steps.url) as response:
            held.append(in_flight(policy))
            lines = [line async for line in response.aiter_lines()]
            held.append(in_flight(policy))
        async with client.stream("GET", steps.url) as response:
            async for _ in response.aiter_lines():
                break
            held.append(in_flight(policy))
        held.append(in_flight(policy))
        await client.get(steps.url)
        held.append(in_flight(policy))

    assert lines == ["one", "two", "three"]
    assert held == [2, 0, 2, 0, 0]


@shows("streams", "discard")
async def test_an_answer_that_is_forgotten_gives_everything_back(kit: Kit, script: Scripts):
    """Never closed and collected, it leaves permit, lease and connection to the next request."""
    steps = script({"chunks": ["one", "two"], "gap": 0.05})
    policy = Policy().with_concurrency(1).rotating(["a"])
    inner = kit.inner(connections=1)

    async with kit.client(policy, inner, client_timeout=1) as client:
        response = await client.send(client.build_request("GET", steps.url), stream=True)
        held = in_flight(policy)
        del response
        gc.collect()
        async with asyncio.timeout(1):
            again = await client.get(steps.url)

    assert (held, again.text, in_flight(policy)) == (2, "onetwo", 0)


@shows("junk", "streams")
@pytest.mark.parametrize("reset", [False, True])
async def test_a_body_that_breaks_off_is_a_failure_that_is_not_tried_again(
    kit: Kit, script: Scripts, reset: bool
):
    """The reader gets the client's error; the stages count it, and nothing stays held."""
    steps = script({"body": "x" * 100, "cut": 1, "reset": reset})
    policy = Policy().with_timeout(5).with_retry(3, wait=0).with_breaker(failures=1)
    policy = policy.with_concurrency(1)

    async with kit.client(policy) as client:
        with pytest.raises((kit.lib.RemoteProtocolError, kit.lib.ReadError)):
            await client.get(steps.url)
        held = in_flight(policy)
        with pytest.raises(CircuitOpenError):
            await client.get(steps.url)

    assert (len(steps.arrived()), held) == (1, 0)


@shows("junk", "deadline")
async def test_a_server_that_never_answers_costs_no_more_than_the_time_limit(
    kit: Kit, script: Scripts
):
    """Each attempt ends at its limit; then the policy's error comes out."""
    steps = script({"silent": True})
    policy = retrying(2).with_concurrency(1).with_timeout(0.15)

    async with kit.client(policy) as client:
        with pytest.raises(CallTimeoutError, match=r"timed out after 0\.15 s"):
            await client.get(steps.url)

    assert (len(steps.arrived()), in_flight(policy)) == (2, 0)


@shows("deadline", "streams")
async def test_the_limit_for_the_whole_call_holds_while_the_body_is_read(kit: Kit, script: Scripts):
    """A slow body ends in the policy's own error; the limit of an attempt ends with the head."""
    steps = script({"chunks": list("slowly"), "gap": 0.1})
    policy = Policy().with_timeout(0.35).with_retry(2).with_timeout(0.2).with_concurrency(1)
    unbounded = policy.stages[1:]
    patient = Policy()
    for stage in unbounded:
        patient = patient.with_stage(stage)

    async with kit.client(policy) as client, kit.client(patient) as slow_client:
        with pytest.raises(CallTimeoutError):
            await client.get(steps.url)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        whole = await slow_client.get(steps.url)

    assert (whole.text, in_flight(policy)) == ("slowly", 0)


async def _dawdle(client: Any, url: str) -> None:
    async with client.stream("GET", url) as response:
        async for _ in response.aiter_bytes():
            await asyncio.sleep(5)


@shows("deadline")
async def test_a_limit_that_comes_between_two_chunks_is_the_policys_own_error(
    kit: Kit, script: Scripts
):
    """Whatever the reader waits for, it is the time of the call that is over."""
    steps = script({"chunks": ["one", "two"], "gap": 0.5})
    policy = Policy().with_timeout(0.15).with_concurrency(1)

    async with kit.client(policy) as client:
        with pytest.raises(CallTimeoutError):
            await _dawdle(client, steps.url)

    assert in_flight(policy) == 0


@shows("deadline")
async def test_a_caller_that_leaves_gives_everything_back(kit: Kit, script: Scripts):
    """Cancelled before the head or within the body, a call leaves its connection to others."""
    slow = {"delay": 0.1, "chunks": ["one", "two"], "gap": 0.2}
    steps = script(slow, slow, {})
    policy = Policy().with_concurrency(1).rotating(["a"])
    inner = kit.inner(connections=1)

    async with kit.client(policy, inner, client_timeout=1) as client:
        for patience in (0.05, 0.2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(patience):
                    await client.get(steps.url)
        held = in_flight(policy)
        response = await client.get(steps.url)

    assert (held, response.status_code) == (0, 200)


async def _parts() -> AsyncIterator[bytes]:
    yield b"first "
    yield b"second"


@shows("replay")
@pytest.mark.finding(4)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_body_that_is_gone_is_not_sent_again(kit: Kit, script: Scripts, method: str):
    """The first answer is returned: a second request would have had an empty body."""
    steps = script(BAD, {})

    async with kit.client(retrying(), replay="always") as client:
        response = await client.request(method, steps.url, content=_parts())

    assert response.status_code == 503
    assert [request["body"] for request in steps.arrived()] == ["first second"]


@shows("replay")
async def test_a_body_that_was_not_begun_is_sent_when_a_server_is_reached(
    kit: Kit, script: Scripts, unused_tcp_port: int
):
    """Where the connection could not be made, an iterator is still whole."""
    steps = script({})
    dead = kit.inner(proxy=f"http://127.0.0.1:{unused_tcp_port}")
    alive = kit.inner()
    policy = retrying(2).rotating({"dead": dead, "alive": alive}, pick="primary_backup")

    async with kit.client(policy, lambda resource: resource.value) as client:
        response = await client.post(steps.url, content=_parts())

    assert response.status_code == 200
    assert [request["body"] for request in steps.arrived()] == ["first second"]


@shows("replay")
async def test_forms_with_files_are_sent_again_whole(kit: Kit, script: Scripts):
    """Bytes, JSON and files in a form can be sent twice; each attempt has all of it."""
    steps = script(BAD, {})

    async with kit.client(retrying()) as client:
        await client.post(steps.url, files={"file": b"contents"}, data={"name": "n"})

    bodies = [request["body"] for request in steps.arrived()]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert "contents" in bodies[0]


REPLAYS = [
    # method, headers, replay, step, how often it is sent
    ("GET", {}, "safe", {"status": 500}, 2),
    ("PUT", {}, "safe", {"drop": True}, 2),
    ("POST", {}, "safe", {"status": 503}, 2),
    ("POST", {}, "safe", {"status": 429}, 2),
    ("POST", {}, "safe", {"status": 500}, 1),
    ("POST", {}, "safe", {"status": 504}, 1),
    ("PATCH", {}, "safe", {"drop": True}, 1),
    ("POST", {}, "safe", {"status": 500, "headers": {"x-should-retry": "true"}}, 2),
    ("POST", {"Idempotency-Key": "1"}, "safe", {"status": 500}, 2),
    ("POST", {"Idempotency-Key": "1"}, "safe", {"drop": True}, 2),
    ("POST", {}, "always", {"status": 500}, 2),
    ("PATCH", {}, "always", {"drop": True}, 2),
]


@shows("replay", "retry")
@pytest.mark.parametrize("case", REPLAYS, ids=str)
async def test_what_is_not_idempotent_is_sent_again_where_the_server_has_not_acted(
    kit: Kit, script: Scripts, case: tuple[str, dict[str, str], str, dict[str, Any], int]
):
    """A refusal or a promise of the caller's lets it be sent again; a doubt does not."""
    method, headers, replay, step, times = case
    steps = script(step, {})

    async with kit.client(retrying(), replay=replay) as client:
        try:
            await client.request(method, steps.url, headers=headers, content=b"x")
        except kit.lib.TransportError:
            assert times == 1

    assert len(steps.arrived()) == times


JUNK = [
    {"Retry-After": "Thu, 99 Foo 2026 99:99:99 GMT"},
    {"Retry-After": "inf"},
    {"Retry-After": "-5"},
    {"Retry-After": "nan", "retry-after-ms": "soon"},
    {"RateLimit": '"default";r=;t=x', "RateLimit-Policy": ";;;"},
    {"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "1y"},
    {"Date": "yesterday", "Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
]


@shows("junk")
@pytest.mark.parametrize("headers", JUNK)
async def test_headers_that_say_nothing_change_nothing(
    kit: Kit, script: Scripts, headers: dict[str, str]
):
    """They delay nothing, on bad answers and on good ones."""
    steps = script({"status": 503, "headers": headers}, {"headers": headers})
    policy = retrying().rotating(["a"])
    began = time.monotonic()

    async with kit.client(policy) as client:
        response = await client.get(steps.url)

    assert response.status_code == 200
    assert time.monotonic() - began < 1
    assert policy.health().ready == 1


@shows("junk", "server hint")
async def test_a_hint_above_the_cap_is_not_slept_through(kit: Kit, script: Scripts):
    """114 hours: the answer is returned at once, and the key rests as long as the pool allows."""
    steps = script({"status": 429, "headers": {"Retry-After": "410400"}})
    keys = Pool(["key"], max_cooldown=600)
    policy = retrying().rotating(keys)
    began = time.monotonic()

    async with kit.client(policy) as client:
        response = await client.get(steps.url)

    assert response.status_code == 429
    assert time.monotonic() - began < 1
    earliest = policy.health().earliest_ready_in
    assert earliest is not None
    assert 500 < earliest <= 600


@shows("junk", "classified")
async def test_a_good_status_with_an_error_inside_is_a_good_answer_unless_it_is_judged(
    kit: Kit, script: Scripts
):
    """A transport sees the head alone; what else a header tells, ``classify`` can read."""
    error_event = 'event: error\ndata: {"error": {"type": "overloaded_error"}}\n\n'
    steps = script({"body": error_event, "headers": {"X-Busy": "1"}}, {"body": error_event})

    async with kit.client(retrying()) as client:
        first = await client.get(steps.url)
    judged = script({"body": error_event, "headers": {"X-Busy": "1"}}, {})
    async with kit.client(
        retrying(), classify=lambda r: "overloaded" if "x-busy" in r.headers else None
    ) as client:
        second = await client.get(judged.url)

    assert (first.text, len(steps.arrived())) == (error_event, 1)
    assert (second.text, len(judged.arrived())) == ("ok", 2)


@shows("classified")
async def test_a_preset_reads_what_its_provider_means(kit: Kit, script: Scripts):
    """403 is the caller's affair in general, and a refused key where a preset says so."""
    general, openai = script({"status": 403}, {}), script({"status": 403}, {})
    keys = {"a": "key-a", "b": "key-b"}

    async with kit.client(retrying().rotating(dict(keys))) as client:
        plain = await client.post(general.url)
    async with kit.client(retrying().rotating(dict(keys)), classify="openai") as client:
        judged = await client.post(openai.url)

    assert (plain.status_code, judged.status_code) == (403, 200)


@shows("retry")
async def test_redirects_auth_flows_and_cookies_work_above_it(kit: Kit, script: Scripts):
    """Each request that the client makes for them is a call of its own."""
    steps = script(
        {"status": 302, "headers": {"Location": "there", "Set-Cookie": "seen=1; Path=/"}},
        BAD,
        {"status": 401, "headers": {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}},
        BAD,
        {"body": "in"},
    )
    auth = kit.lib.DigestAuth("user", "password")

    async with kit.client(retrying(2), client_follow_redirects=True, client_auth=auth) as client:
        response = await client.get(steps.url + "/here")

    arrived = steps.arrived()
    assert response.text == "in"
    assert [request["target"].rpartition("/")[2] for request in arrived] == [
        *("here", "there", "there"),
        *("here", "here"),  # begun anew, now with the password
    ]
    assert [request["headers"].get("cookie") for request in arrived[:3]] == [None, *["seen=1"] * 2]
    assert ["authorization" in request["headers"] for request in arrived] == [
        *[False] * 3,
        True,
        True,
    ]


@shows("rotation")
async def test_each_proxy_has_a_transport_of_its_own(
    kit: Kit, script: Scripts, unused_tcp_port: int
):
    """A dead proxy rests, one that wants another password is out, and the rest serve."""
    steps = script({"ports": {"1": {"status": 407}}})
    made: list[Any] = []

    def through(proxy: Resource[str] | None) -> Any:
        assert proxy is not None
        made.append(proxy.id)
        return kit.inner(proxy=proxy.value)

    proxies = Pool(
        {
            "dead": f"http://127.0.0.1:{unused_tcp_port}",
            "asks": script.origin(1),
            "good": script.origin(2),
        },
        pick="primary_backup",
    )
    policy = retrying(3).rotating(proxies)

    async with kit.client(policy, through) as client:
        responses = [await client.get(steps.url) for _ in range(3)]

    standing = {name: r["standing"] for name, r in proxies.snapshot()["resources"].items()}
    assert [response.status_code for response in responses] == [200] * 3
    assert standing == {"dead": "cooling", "asks": "disabled", "good": "ready"}
    assert made == ["dead", "asks", "good"]
    assert [request["port"] for request in steps.arrived()] == [1, 2, 2, 2]


@shows("rotation")
async def test_a_proxy_that_refuses_a_tunnel_is_disabled(kit: Kit, script: Scripts):
    """Before TLS there is no answer to judge: the status is in the client's error."""
    proxies = Pool({"asks": script.origin(1)})
    policy = Policy().rotating(proxies)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        kit.client(policy, lambda _: kit.inner(proxy=url)) as client,
    ):
        with pytest.raises(kit.lib.ProxyError):
            await client.get("https://127.0.0.1:9/")

    assert proxies.snapshot()["resources"]["asks"]["standing"] == "disabled"


@shows("streams", "rotation")
async def test_five_hundred_requests_leave_nothing_behind(kit: Kit, script: Scripts):
    """No more than the cap are under way, every key is used, and at the end all is given back."""
    steps = script({"status": 503}, {"status": 503}, {})
    keys = Pool({name: f"key-{name}" for name in "abcd"}, pick="round_robin")
    policy = retrying(5).with_concurrency(20).rotating(keys)

    async with (
        kit.client(policy, header="x-api-key", origins=[script.origin()]) as client,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(client.get(steps.url)) for _ in range(500)]

    log = steps.log()
    assert {task.result().status_code for task in tasks} == {200}
    assert log["most_open"] <= 20
    assert len(log["arrived"]) == 502
    assert len({r["headers"]["x-api-key"] for r in log["arrived"]}) == 4
    assert (in_flight(policy), log["open"]) == (0, 0)


@shows("types")
def test_it_is_a_transport_to_the_client_and_to_type_checkers(kit: Kit):
    """``tests/typing/http_right_uses.py`` is checked by mypy and pyright."""
    assert issubclass(kit.ours.PolicyTransport, kit.lib.AsyncBaseTransport)
    assert issubclass(kit.ours.SyncPolicyTransport, kit.lib.BaseTransport)
