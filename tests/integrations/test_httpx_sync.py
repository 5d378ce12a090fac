"""The transports of httpx and httpx2 for code without a loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock import Call, CallTimeoutError, ConcurrencyLimitedError, Policy, PolicyError, Pool
from penstock.integrations.http import threads as http_threads
from penstock.integrations.http.threads import in_thread
from tests.integrations.httpx_kits import KITS, Kit
from tests.integrations.scripting import Scripts, scripts

pytestmark = pytest.mark.integration

BAD = {"status": 503, "body": "bad" * 1000}


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


async def nothing() -> None:
    """Let the policy's loop do what was given to it before."""


def in_flight(policy: Policy) -> int:
    """Return how many permits and leases are out."""
    Policy().run_sync(nothing)
    total = 0
    for stage in policy.snapshot()["stages"]:
        total += stage.get("in_flight", 0)
        total += sum(r["in_flight"] for r in stage.get("resources", {}).values())
    return total


def retrying(attempts: int = 3) -> Policy:
    """Return a policy that tries again at once."""
    return Policy("api").with_retry(attempts, wait=0)


@shows("retry", "discard", "rotation")
def test_bad_answers_are_tried_again_with_other_keys(kit: Kit, script: Scripts):
    """As in a loop: statuses are judged, bad answers closed, keys put in."""
    steps = script(BAD, BAD, {"body": "good"})
    policy = retrying().rotating(["a", "b"], pick="round_robin")
    inner = kit.lib.HTTPTransport(limits=kit.lib.Limits(max_connections=1))
    timeout = kit.lib.Timeout(2, pool=0.3)

    with kit.sync_client(
        policy, inner, header="x-api-key", origins=[script.origin()], client_timeout=timeout
    ) as client:
        response = client.get(steps.url)

    assert response.text == "good"
    assert "x-api-key" not in response.request.headers
    assert {request["headers"]["x-api-key"] for request in steps.arrived()} == {"a", "b"}


@shows("streams")
def test_permit_and_lease_are_held_until_the_answer_is_closed(kit: Kit, script: Scripts):
    """A stream holds them while it is read, however it is left."""
    steps = script({"chunks": ["one\n", "two\n"], "gap": 0.02})
    policy = Policy().with_concurrency(1).rotating(["a"])
    held: list[int] = []

    with kit.sync_client(policy) as client:
        with client.stream("GET", steps.url) as response:
            held.append(in_flight(policy))
            lines = list(response.iter_lines())
            held.append(in_flight(policy))
        with client.stream("GET", steps.url) as response:
            first = response.iter_lines()
            next(first)
            held.append(in_flight(policy))
        held.append(in_flight(policy))
        forgotten = client.send(client.build_request("GET", steps.url), stream=True)
        held.append(in_flight(policy))
        del forgotten, response
        gc.collect()
        held.append(in_flight(policy))

    assert lines == ["one", "two"]
    assert held == [2, 0, 2, 0, 2, 0]


@shows("junk", "streams")
def test_a_body_that_breaks_off_is_a_failure_that_is_not_tried_again(kit: Kit, script: Scripts):
    """The reader gets the client's error, and the stages count it."""
    steps = script({"body": "x" * 100, "cut": 1})
    policy = retrying().with_concurrency(1).with_breaker(failures=1)

    with kit.sync_client(policy) as client, pytest.raises(kit.lib.RemoteProtocolError):
        client.get(steps.url)

    assert in_flight(policy) == 0
    assert policy.snapshot()["stages"][2]["state"] == "open"
    assert len(steps.arrived()) == 1


@shows("deadline")
def test_a_thread_that_was_left_counts_until_it_ends(kit: Kit, script: Scripts):
    """The caller leaves at the limit; the time handed down ends the thread, and then its permit."""
    steps = script({"delay": 5})
    policy = Policy().with_timeout(0.2).with_concurrency(1, max_queue=0)
    began = time.monotonic()

    with kit.sync_client(policy, client_timeout=None) as client:
        with pytest.raises(CallTimeoutError):
            client.get(steps.url)
        left_after = time.monotonic() - began
        while in_flight(policy):
            time.sleep(0.01)
        freed_after = time.monotonic() - began

    assert left_after < 2
    assert 0.25 <= freed_after < 3


@shows("deadline")
def test_an_answer_that_comes_when_the_caller_has_left_is_closed(kit: Kit):
    """A blocking transport cannot be cancelled: what it brings too late is thrown away."""
    closed, arrived = threading.Event(), threading.Event()

    class Body(kit.lib.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            yield b""

        def close(self) -> None:
            closed.set()

    class Slow(kit.lib.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            arrived.wait()
            return kit.lib.Response(200, stream=Body())

    policy = Policy().with_timeout(0.05).with_concurrency(1, max_queue=0)
    with kit.sync_client(policy, Slow()) as client:
        with pytest.raises(CallTimeoutError):
            client.get("http://api.example/")
        with pytest.raises(ConcurrencyLimitedError):
            client.get("http://api.example/")
        arrived.set()
        assert closed.wait(1)
        while in_flight(policy):
            time.sleep(0.01)


@shows("deadline", "streams")
def test_the_limit_for_the_whole_call_is_seen_at_the_next_chunk(kit: Kit, script: Scripts):
    """A thread that reads cannot be cancelled either: it is told when it can be."""
    steps = script({"chunks": list("slowly"), "gap": 0.1})
    policy = Policy().with_timeout(0.25).with_concurrency(1)

    with kit.sync_client(policy) as client, pytest.raises(CallTimeoutError):
        client.get(steps.url)

    assert in_flight(policy) == 0


@shows("replay")
@pytest.mark.finding(4)
def test_a_body_that_is_gone_is_not_sent_again(kit: Kit, script: Scripts, tmp_path: Any):
    """Iterators and files are sent once: the first answer is returned."""
    (tmp_path / "body").write_text("a file")
    steps = script(BAD)

    with kit.sync_client(retrying()) as client, (tmp_path / "body").open("rb") as file:
        parts = client.put(steps.url, content=iter([b"some ", b"parts"]))
        whole = client.put(steps.url, content=file)
        form = client.put(steps.url, files={"file": file})

    bodies = [request["body"] for request in steps.arrived()]
    assert [parts.status_code, whole.status_code, form.status_code] == [503, 503, 503]
    assert bodies[:2] == ["some parts", "a file"]
    assert len(bodies) == 5  # the form rewinds its files by itself
    assert all("a file" in body for body in bodies[2:])


@shows("replay", "deadline")
def test_a_file_that_a_thread_is_still_sending_is_not_sent_by_another(
    kit: Kit, script: Scripts, tmp_path: Any
):
    """Two threads at one file would each send a part of it."""
    (tmp_path / "body").write_text("a file")
    steps = script({"delay": 0.3}, {})
    policy = Policy().with_retry(2, wait=0).with_timeout(0.1)

    with kit.sync_client(policy) as client, (tmp_path / "body").open("rb") as file:
        with pytest.raises(CallTimeoutError):
            client.put(steps.url, files={"file": file})
        again = client.put(steps.url, content=b"bytes")

    assert again.status_code == 200
    assert len(steps.arrived()) == 2


@shows("origins")
@pytest.mark.finding(2)
def test_a_key_stays_with_its_origin_when_a_redirect_leaves_it(kit: Kit, script: Scripts):
    """The hop to another port goes without key and policy."""
    target = script({})
    steps = script({"status": 307, "headers": {"Location": target.on(1)}})
    policy = retrying().rotating(["key"])

    with kit.sync_client(
        policy, header="x-api-key", origins=[script.origin()], client_follow_redirects=True
    ) as client:
        client.get(steps.url)

    assert [r["headers"].get("x-api-key") for r in steps.arrived()] == ["key"]
    assert [r["headers"].get("x-api-key") for r in target.arrived()] == [None]


@shows("rotation")
def test_each_proxy_has_a_transport_of_its_own(kit: Kit, script: Scripts, unused_tcp_port: int):
    """A dead proxy rests, and the other one serves."""
    steps = script({})
    proxies = Pool(
        {"dead": f"http://127.0.0.1:{unused_tcp_port}", "good": script.origin(2)},
        pick="primary_backup",
    )
    policy = retrying().rotating(proxies)

    with kit.sync_client(policy, lambda r: kit.lib.HTTPTransport(proxy=r.value)) as client:
        responses = [client.get(steps.url) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 200]
    assert proxies.snapshot()["resources"]["dead"]["standing"] == "cooling"


@shows("rotation")
def test_a_thread_is_not_moved_to_another_key(kit: Kit, script: Scripts):
    """An older call's 429 rests the key; the younger thread on it goes on to its end."""
    steps = script({"status": 429, "delay": 0.15}, {"delay": 0.3}, {})
    policy = retrying().rotating(["a", "b"], pick="primary_backup")

    with kit.sync_client(policy) as client, ThreadPoolExecutor(2) as threads:
        older = threads.submit(client.get, steps.url)
        time.sleep(0.05)
        younger = threads.submit(client.get, steps.url)
        statuses = [older.result().status_code, younger.result().status_code]

    assert (statuses, len(steps.arrived())) == ([200, 200], 3)


@shows("classified", "streams")
def test_an_error_that_closing_raises_reaches_the_stages(kit: Kit):
    """A body that cannot be closed is a failed call, and gives back what it held."""

    class Body(kit.lib.SyncByteStream):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[bytes]:
            yield b""

        def close(self) -> None:
            raise kit.lib.CloseError("reset")

    policy = Policy().with_concurrency(1).with_breaker(failures=1)
    inner = kit.lib.MockTransport(lambda _: kit.lib.Response(200, stream=Body()))
    with (
        kit.sync_client(policy, inner) as client,
        pytest.raises(kit.lib.CloseError),
        client.stream("GET", "http://api.example/"),
    ):
        pass

    assert (in_flight(policy), policy.snapshot()["stages"][1]["state"]) == (0, "open")


def _of_a_thread() -> Call:
    return Call(Policy().bound()[1], nothing)


async def test_work_that_no_thread_has_begun_is_not_begun_when_the_caller_has_left():
    """It would be sent for nobody."""
    loop, gate, begun = asyncio.get_running_loop(), threading.Event(), list[int]()
    http_threads._executors[loop] = ThreadPoolExecutor(1)
    busy = asyncio.create_task(in_thread(gate.wait, _of_a_thread(), print))
    await asyncio.sleep(0.01)
    call = _of_a_thread()
    waiting = asyncio.create_task(in_thread(lambda: begun.append(1), call, print))
    await asyncio.sleep(0.01)

    waiting.cancel()
    await asyncio.wait([waiting])
    gate.set()
    await busy
    http_threads._executors.pop(loop).shutdown()

    assert (waiting.cancelled(), begun, call.lingering.running) == (True, [], 0)


def test_a_thread_may_outlive_the_loop():
    """Nobody is left to be told of its end, and nobody is."""
    gate, threads = threading.Event(), list[threading.Thread]()

    def work() -> None:
        threads.append(threading.current_thread())
        gate.wait()

    async def leave() -> None:
        task = asyncio.create_task(in_thread(work, _of_a_thread(), print))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        http_threads._executors.pop(asyncio.get_running_loop()).shutdown(wait=False)

    asyncio.run(leave())
    gate.set()
    threads[0].join(1)

    assert not threads[0].is_alive()


@shows("streams", "rotation")
def test_many_threads_share_the_limits_and_leave_nothing_behind(kit: Kit, script: Scripts):
    """The policy's limits hold over all threads."""
    steps = script(BAD, {})
    policy = retrying().with_concurrency(8).rotating(["a", "b"], pick="round_robin")

    with (
        kit.sync_client(policy, header="x-api-key", origins=[script.origin()]) as client,
        ThreadPoolExecutor(20) as threads,
    ):
        answers = list(threads.map(lambda _: client.get(steps.url).status_code, range(100)))

    log = steps.log()
    assert set(answers) == {200}
    assert (log["most_open"] <= 8, log["open"], in_flight(policy)) == (True, 0, 0)


@shows("retry")
def test_a_fallback_answers_with_a_response_of_its_own(kit: Kit, script: Scripts):
    """It takes the place of the last bad answer; anything else is refused."""
    steps = script(BAD)
    instead = kit.lib.Response(200, text="kept")

    with kit.sync_client(Policy().with_fallback(value=instead)) as client:
        kept = client.get(steps.url)
    wrong = kit.sync_client(Policy().with_fallback(value="text"))
    with wrong as client, pytest.raises(PolicyError, match="must return a Response"):
        client.get(steps.url)

    assert kept.text == "kept"


@shows("discard")
def test_an_answer_that_was_read_before_it_came_holds_nothing(kit: Kit):
    """A mock's answers have their bodies: nobody closes them."""
    policy = Policy().with_concurrency(1)
    inner = kit.lib.MockTransport(lambda request: kit.lib.Response(200, text=request.url.path))
    client = kit.sync_client(policy, inner)

    text = client.get("http://api.example/items").text
    client.close()

    assert (text, in_flight(policy)) == ("/items", 0)


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.name)
async def test_a_thread_with_a_loop_is_refused(kit: Kit):
    """It would stand still meanwhile."""
    client = kit.sync_client(Policy(), kit.lib.MockTransport(lambda _: kit.lib.Response(200)))

    with pytest.raises(PolicyError, match="inside a running event loop"):
        client.get("http://api.example/")
