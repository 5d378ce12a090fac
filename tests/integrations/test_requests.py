"""The adapter for requests against a server that misbehaves."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.auth import HTTPDigestAuth
from urllib3 import HTTPResponse

from penstock import CallTimeoutError, ConfigError, Policy, PolicyError, Pool
from penstock.integrations.http.raw import hold_with
from penstock.integrations.requests import PolicyAdapter
from tests.integrations.scripting import Scripts, scripts

pytestmark = pytest.mark.integration

BAD = {"status": 503, "body": "bad" * 1000}


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


def session(policy: Policy, **options: Any) -> requests.Session:
    """Return a session whose requests go through a policy."""
    made = requests.Session()
    made.trust_env = False
    made.mount("http://", PolicyAdapter(policy, **options))
    return made


@pytest.mark.covers("requests", "retry")
@pytest.mark.covers("requests", "classified")
@pytest.mark.covers("requests", "discard")
def test_bad_answers_are_closed_and_tried_again(script: Scripts):
    """Two 503 are two failed attempts, and give the one connection back."""
    steps = script(BAD, BAD, {"body": "good"})

    with session(retrying(), pool_maxsize=1, pool_block=True) as client:
        response = client.get(steps.url, timeout=2)

    assert (response.status_code, response.text) == (200, "good")
    assert len(steps.arrived()) == 3


@pytest.mark.covers("requests", "retry")
def test_the_last_answer_is_returned_and_can_be_read(script: Scripts):
    """When no attempt follows, the caller gets the answer as it is."""
    steps = script({"status": 503, "body": "busy"})

    with session(retrying(2)) as client:
        response = client.get(steps.url)

    assert (response.status_code, response.text, len(steps.arrived())) == (503, "busy", 2)


@pytest.mark.covers("requests", "own retries")
@pytest.mark.covers("requests", "classified")
def test_connection_errors_are_tried_again_and_raised_as_they_are(
    script: Scripts, unused_tcp_port: int
):
    """Nothing inside tries again by itself; a POST is tried again where nothing was sent."""
    steps = script({"drop": True})

    with session(retrying(3)) as client:
        with pytest.raises(requests.ConnectionError):
            client.get(steps.url)
        with pytest.raises(requests.ConnectionError) as raised:
            client.post(f"http://127.0.0.1:{unused_tcp_port}/")

    assert len(steps.arrived()) == 3
    assert "3 attempts" in " ".join(raised.value.__notes__)


@pytest.mark.covers("requests", "server hint")
@pytest.mark.covers("requests", "rotation")
@pytest.mark.covers("requests", "quota headers")
def test_keys_rest_when_the_server_says_so(script: Scripts):
    """A 429 or a good answer that says nothing is left: the next request has another key."""
    spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m"}
    steps = script({"status": 429, "headers": {"Retry-After": "60"}}, {"headers": spent}, {})
    keys = Pool({name: f"key-{name}" for name in "abc"}, pick="primary_backup")
    policy = retrying().rotating(keys)

    with session(policy, header="x-api-key", origins=[script.origin()]) as client:
        responses = [client.post(steps.url, json={}) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 200]
    used = [request["headers"]["x-api-key"] for request in steps.arrived()]
    assert used == ["key-a", "key-b", "key-c"]
    assert not any("x-api-key" in response.request.headers for response in responses)


@pytest.mark.covers("requests", "server hint")
def test_the_servers_word_about_when_to_come_back_is_obeyed(script: Scripts):
    """Without a pool the hint is waited for."""
    steps = script({"status": 429, "headers": {"Retry-After": "0.2"}}, {})
    began = time.monotonic()

    with session(retrying()) as client:
        response = client.get(steps.url)

    assert response.status_code == 200
    assert time.monotonic() - began >= 0.2


@pytest.mark.covers("requests", "origins")
@pytest.mark.finding(2)
@pytest.mark.parametrize("status", [302, 307])
def test_a_key_stays_with_its_origin_when_a_redirect_leaves_it(script: Scripts, status: int):
    """Each hop within the origin has a key; the hop to another port goes without key or policy."""
    target = script({})
    steps = script(
        {"status": status, "headers": {"Location": "again"}},
        {"status": status, "headers": {"Location": target.on(1)}},
    )
    policy = retrying().rotating(["a", "b"], pick="round_robin")

    with session(policy, header="x-api-key", origins=[script.origin()]) as client:
        response = client.get(steps.url + "/")

    assert response.status_code == 200
    assert sorted(r["headers"]["x-api-key"] for r in steps.arrived()) == ["a", "b"]
    assert "x-api-key" not in target.arrived()[0]["headers"]


@pytest.mark.covers("requests", "origins")
def test_an_error_does_not_show_the_key(script: Scripts):
    """The request of an error is the user's own."""
    steps = script({"drop": True})
    policy = Policy().rotating(["key"])

    with (
        session(policy, header="x-api-key", origins=[script.origin()]) as client,
        pytest.raises(requests.ConnectionError) as raised,
    ):
        client.get(steps.url)

    assert raised.value.request is not None
    assert "x-api-key" not in raised.value.request.headers


@pytest.mark.covers("requests", "streams")
@pytest.mark.covers("requests", "discard")
def test_permit_and_lease_are_held_until_the_answer_is_closed(script: Scripts):
    """However it is read, left or forgotten."""
    steps = script({"chunks": ["one\n", "two\n"], "gap": 0.02})
    policy = Policy().with_concurrency(1).rotating(["a"])
    held: list[int] = []

    with session(policy, pool_maxsize=1, pool_block=True) as client:
        response = client.get(steps.url, stream=True)
        held.append(in_flight(policy))
        lines = list(response.iter_lines())
        held.append(in_flight(policy))
        with client.get(steps.url, stream=True) as response:
            held.append(in_flight(policy))
        held.append(in_flight(policy))
        raw = client.get(steps.url, stream=True).raw
        held.append(in_flight(policy))
        raw.read()
        held.append(in_flight(policy))
        del raw, response
        forgotten = client.get(steps.url, stream=True)
        held.append(in_flight(policy))
        # No cycle: nothing waits for the collector, which may close the socket before the answer.
        del forgotten
        held.append(in_flight(policy))

    assert lines == [b"one", b"two"]
    assert held == [2, 0, 2, 0, 2, 0, 2, 0]


@pytest.mark.covers("requests", "streams")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "step", [{"status": 204, "body": ""}, {"body": ""}, {"chunks": []}], ids=str
)
def test_an_answer_without_a_body_holds_nothing(script: Scripts, method: str, step: dict[str, Any]):
    """There is nothing to read, so its end is not waited for."""
    steps = script(step)
    policy = Policy().with_concurrency(1)

    with session(policy) as client:
        client.request(method, steps.url)

    assert in_flight(policy) == 0


class Ends:
    """Stands for what is held, and counts how often it is given back."""

    def __init__(self) -> None:
        self.closed = 0

    def check(self) -> None:
        """No time limit is over."""

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def _mocked(*, is_read: bool) -> HTTPResponse:
    body = io.BytesIO(b"a body")
    if is_read:
        body.close()
    return HTTPResponse(body, preload_content=False)


@pytest.mark.covers("requests", "streams")
@pytest.mark.parametrize(
    ("raw", "at_once"),
    [(_mocked(is_read=False), 0), (_mocked(is_read=True), 1), (object(), 1), (None, 1)],
    ids=["unread", "read", "anything", "nothing"],
)
def test_what_stands_for_an_answer_in_tests_holds_nothing_for_ever(raw: Any, at_once: int):
    """Without a connection the end of the body ends it; of other things nobody can tell."""
    held: Any = Ends()

    hold_with(raw, held)
    before = held.closed
    if not at_once:
        assert b"".join(raw.stream()) == b"a body"

    assert (before, held.closed) == (at_once, 1)


@pytest.mark.covers("requests", "junk")
@pytest.mark.covers("requests", "streams")
@pytest.mark.parametrize("reset", [False, True])
def test_a_body_that_breaks_off_is_a_failure_that_is_not_tried_again(script: Scripts, reset: bool):
    """The reader gets the error of requests, and the stages count it."""
    steps = script({"body": "x" * 100, "cut": 1, "reset": reset})
    policy = retrying().with_concurrency(1).with_breaker(failures=1)

    with session(policy) as client, pytest.raises(requests.RequestException):
        client.get(steps.url)

    assert in_flight(policy) == 0
    assert policy.snapshot()["stages"][2]["state"] == "open"
    assert len(steps.arrived()) == 1


@pytest.mark.covers("requests", "junk")
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "Thu, 99 Foo 2026 99:99:99 GMT"},
        {"Retry-After": "inf"},
        {"Retry-After": "-5"},
        {"RateLimit": '"default";r=;t=x', "RateLimit-Policy": ";;;"},
    ],
)
def test_headers_that_say_nothing_change_nothing(script: Scripts, headers: dict[str, str]):
    """They delay nothing, on bad answers and on good ones."""
    steps = script({"status": 503, "headers": headers}, {"headers": headers})
    began = time.monotonic()

    with session(retrying().rotating(["a"])) as client:
        response = client.get(steps.url)

    assert response.status_code == 200
    assert time.monotonic() - began < 1


@pytest.mark.covers("requests", "deadline")
@pytest.mark.parametrize("timeout", [None, 5, (5, None), (5, 5)])
def test_a_server_that_never_answers_costs_no_more_than_the_time_limit(
    script: Scripts, timeout: Any
):
    """The caller leaves at the limit; what is handed down ends the thread, and then its permit."""
    steps = script({"silent": True})
    policy = Policy().with_timeout(0.2).with_concurrency(1, max_queue=0)
    began = time.monotonic()

    with session(policy) as client:
        with pytest.raises(CallTimeoutError):
            client.get(steps.url, timeout=timeout)
        left_after = time.monotonic() - began
        while in_flight(policy):
            time.sleep(0.01)
        freed_after = time.monotonic() - began

    assert left_after < 2
    assert 0.25 <= freed_after < 3


@pytest.mark.covers("requests", "deadline")
@pytest.mark.covers("requests", "streams")
def test_the_limit_for_the_whole_call_is_seen_at_the_next_chunk(script: Scripts):
    """A thread that reads cannot be cancelled: it is told when it can be."""
    steps = script({"chunks": list("slowly"), "gap": 0.1}, {"chunks": list("stalls"), "gap": 5})
    policy = Policy().with_timeout(0.25).with_concurrency(1)

    with session(policy) as client:
        for _ in range(2):
            with pytest.raises(CallTimeoutError):
                client.get(steps.url)

    assert in_flight(policy) == 0


class Pipe(io.BytesIO):
    """A file that cannot be rewound, and does not say so before."""

    def tell(self) -> int:
        raise OSError("not a file")


@pytest.mark.covers("requests", "replay")
@pytest.mark.finding(4)
def test_bodies_that_are_gone_are_not_sent_again(script: Scripts, tmp_path: Path):
    """Iterators and pipes are sent once; bytes, forms and files are sent whole each time."""
    (tmp_path / "body").write_text("a longer file")
    steps = script(BAD)

    with session(retrying(2)) as client, (tmp_path / "body").open("rb") as file:
        client.put(steps.url, data=iter([b"some ", b"parts"]))
        client.put(steps.url, data=Pipe(b"a pipe"))
        file.seek(9)
        client.put(steps.url, data=file)
        client.put(steps.url, data={"name": "form"})

    bodies = [request["body"] for request in steps.arrived()]
    assert bodies == ["some parts", "a pipe", "file", "file", "name=form", "name=form"]


@pytest.mark.covers("requests", "replay")
def test_a_file_that_a_thread_is_still_sending_is_not_sent_by_another(
    script: Scripts, tmp_path: Path
):
    """Two threads at one file would each send a part of it."""
    (tmp_path / "body").write_text("a file")
    steps = script({"delay": 0.3}, {})
    policy = Policy().with_retry(2, wait=0).with_timeout(0.1)

    with (
        session(policy) as client,
        (tmp_path / "body").open("rb") as file,
        pytest.raises(CallTimeoutError),
    ):
        client.put(steps.url, data=file)

    assert len(steps.arrived()) == 1


@pytest.mark.covers("requests", "replay")
@pytest.mark.parametrize(
    ("step", "options", "headers", "times"),
    [
        ({"status": 503}, {}, {}, 2),
        ({"status": 500}, {}, {}, 1),
        ({"drop": True}, {}, {}, 1),
        ({"drop": True}, {}, {"idempotency-key": "1"}, 2),
        ({"status": 500}, {"replay": "always"}, {}, 2),
    ],
)
def test_a_post_is_sent_again_where_the_server_has_not_acted(
    script: Scripts,
    step: dict[str, Any],
    options: dict[str, Any],
    headers: dict[str, str],
    times: int,
):
    """A refusal or a promise of the caller's lets it be sent again; a doubt does not."""
    steps = script(step, {})

    with session(retrying(), **options) as client:
        try:
            client.post(steps.url, data=b"x", headers=headers)
        except requests.ConnectionError:
            assert times == 1

    assert len(steps.arrived()) == times


@pytest.mark.covers("requests", "retry")
def test_redirects_auth_handlers_and_cookies_work_above_it(script: Scripts):
    """Each request that the session makes for them is a call of its own."""
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    steps = script(
        BAD,
        {"status": 302, "headers": {"Location": "there", "Set-Cookie": "seen=1; Path=/"}},
        {"status": 401, "headers": challenge},
        BAD,
        {"body": "in"},
    )

    with session(retrying(2)) as client:
        client.auth = HTTPDigestAuth("user", "password")
        response = client.get(steps.url + "/here")

    arrived = steps.arrived()
    assert response.text == "in"
    assert [request["headers"].get("cookie") for request in arrived] == [
        None,
        None,
        *["seen=1"] * 3,
    ]
    assert ["authorization" in request["headers"] for request in arrived[2:]] == [False, True, True]


@pytest.mark.covers("requests", "rotation")
def test_each_attempt_goes_through_the_proxy_of_its_resource(script: Scripts, unused_tcp_port: int):
    """A dead proxy rests, one that wants another password is out, and the third one serves."""
    steps = script({"ports": {"1": {"status": 407}}})
    proxies = Pool(
        {
            "dead": f"http://127.0.0.1:{unused_tcp_port}",
            "asks": script.origin(1),
            "good": script.origin(2),
        },
        pick="primary_backup",
    )

    with session(
        retrying().rotating(proxies), proxies=lambda proxy: {"http": proxy.value}
    ) as client:
        responses = [client.get(steps.url) for _ in range(2)]

    standing = {name: r["standing"] for name, r in proxies.snapshot()["resources"].items()}
    assert [response.status_code for response in responses] == [200, 200]
    assert standing == {"dead": "cooling", "asks": "disabled", "good": "ready"}


@pytest.mark.covers("requests", "rotation")
def test_many_threads_share_the_limits_and_leave_nothing_behind(script: Scripts):
    """The policy's limits hold over all threads."""
    steps = script(BAD, {})
    policy = retrying().with_concurrency(8).rotating(["a", "b"], pick="round_robin")

    with (
        session(policy, header="x-api-key", origins=[script.origin()]) as client,
        ThreadPoolExecutor(20) as threads,
    ):
        answers = list(threads.map(lambda _: client.get(steps.url).status_code, range(100)))

    log = steps.log()
    assert set(answers) == {200}
    assert (log["most_open"] <= 8, log["open"], in_flight(policy)) == (True, 0, 0)


@pytest.mark.covers("requests", "classified")
def test_a_fallback_answers_with_a_response_of_its_own(script: Scripts):
    """It takes the place of the last bad answer; anything else is refused."""
    steps = script(BAD)
    instead = requests.Response()
    instead.status_code = 203

    with session(Policy().with_fallback(value=instead)) as client:
        kept = client.get(steps.url)
    wrong = session(Policy().with_fallback(value="text"))
    with wrong as client, pytest.raises(PolicyError, match="must return a Response"):
        client.get(steps.url)

    assert kept.status_code == 203


@pytest.mark.covers("requests", "types")
def test_it_is_an_adapter_to_sessions_and_to_type_checkers():
    """``tests/typing/http_right_uses.py`` is checked by mypy and pyright."""
    assert issubclass(PolicyAdapter, requests.adapters.HTTPAdapter)
    with pytest.raises(ConfigError, match="'replay' must be"):
        PolicyAdapter(Policy(), replay="never")  # type: ignore[arg-type]


async def test_a_thread_with_a_loop_is_refused():
    """It would stand still meanwhile."""
    with session(Policy()) as client, pytest.raises(PolicyError, match="running event loop"):
        client.get("http://127.0.0.1:9/")
