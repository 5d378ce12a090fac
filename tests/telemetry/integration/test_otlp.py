"""What a collector in another process gets from a program with the real SDK and exporters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).with_name("traced_program.py")

# In every value that nobody but the service may see.
SECRET = "hush"
KEYS = {"first": f"{SECRET}-key-1", "second": f"{SECRET}-key-2"}


@pytest.fixture(scope="module")
def ran(collector: Any, service: ThreadingHTTPServer) -> SimpleNamespace:
    """Run the program once: what it printed, and what the collector was sent."""
    url = f"http://{SECRET}-user:{SECRET}-password@127.0.0.1:{service.server_port}/"
    environment = {
        **os.environ,
        "KEYS": json.dumps(KEYS),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "NO_PROXY": "127.0.0.1",
    }
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    results = json.loads(finished.stdout)
    return SimpleNamespace(results=results, lines=finished.stderr, sent=collector.received())


def only(attempts: list[dict[str, Any]], name: str) -> list[Any]:
    """Return an attribute of each attempt."""
    return [attempt["attributes"].get(name) for attempt in attempts]


def seconds(span: dict[str, Any]) -> float:
    """Return how long a span took."""
    return (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9


def waited(spans: list[dict[str, Any]]) -> float:
    """Return the seconds of all waits on these spans."""
    facts = [fact for span in spans for fact in span["attributes"].items()]
    return sum(value for name, value in facts if name.startswith("penstock.wait."))


def counts(sent: Any, name: str, *shown: str) -> dict[Any, int]:
    """Return the values of a metric by attributes, or how many values a histogram has."""
    return {
        tuple(point["by"].get(each) for each in shown): int(point.get("asInt", point.get("count")))
        for point in sent.points(name)
    }


def test_the_calls_came_to_what_they_would_without_telemetry(ran: SimpleNamespace):
    """Found at the third attempt, failed, refused, timed out, raised."""
    assert ran.results == [
        ["found"],
        "HTTPStatusError",
        "CircuitOpenError",
        "CallTimeoutError",
        "ValueError",
    ]


def test_every_attempt_is_a_span_below_its_call(ran: SimpleNamespace):
    """With its number, its resource, what it meant and what it waited for."""
    call, attempts = ran.sent.call("search")

    assert call["name"] == "search get"
    assert call["attributes"] == {
        "penstock.policy.name": "search",
        "penstock.operation": "get",
        "penstock.request.id": "req-1",
        "penstock.tag.tenant": "acme",
        "penstock.attempts": 3,
        "penstock.outcome": "success",
    }
    assert call.get("status", {}) == {}
    assert [attempt["name"] for attempt in attempts] == ["attempt"] * 3
    assert only(attempts, "penstock.attempt.number") == [1, 2, 3]
    assert only(attempts, "penstock.resource.name") == ["first", "second", "second"]
    assert only(attempts, "penstock.verdict") == ["rate_limited", "overloaded", "ok"]
    assert only(attempts, "error.type") == ["HTTPStatusError", "HTTPStatusError", None]
    assert [attempt.get("status", {}) for attempt in attempts] == [
        {"code": "STATUS_CODE_ERROR"},
        {"code": "STATUS_CODE_ERROR"},
        {},
    ]


def test_waits_and_attempts_make_up_the_call(ran: SimpleNamespace):
    """The rate lets one start every half second; what is left is the time of the pipeline."""
    call, attempts = ran.sent.call("search")
    first, second, third = attempts

    assert waited([first]) == 0
    assert 0 < second["attributes"]["penstock.wait.rate_limit"] <= 0.5
    assert "penstock.wait.backoff" not in second["attributes"]
    assert third["attributes"]["penstock.wait.backoff"] >= 0.05
    assert 0 < third["attributes"]["penstock.wait.rate_limit"] <= 0.5
    whole = waited([call, *attempts]) + sum(map(seconds, attempts))
    assert seconds(call) - 0.25 <= whole <= seconds(call) + 0.001


def test_what_the_operation_records_is_below_its_attempt(ran: SimpleNamespace):
    """The attempt's span is the current one while the operation runs."""
    _, attempts = ran.sent.call("search")

    below = [[span["name"] for span in ran.sent.children(attempt)] for attempt in attempts]

    assert below == [["GET"]] * 3
    assert len({span["traceId"] for span in attempts}) == 1


def test_calls_that_fail_say_how(ran: SimpleNamespace):
    """A failure, a refusal without any attempt, a timeout."""
    calls = [
        span["attributes"]
        for span in sorted(ran.sent.spans, key=lambda each: int(each["startTimeUnixNano"]))
        if span.get("parentSpanId") is None
        and span["attributes"]["penstock.policy.name"] != "search"
    ]

    assert [
        [call[f"penstock.{name}"] for name in ("policy.name", "attempts", "outcome")]
        for call in calls
    ] == [
        ["mail", 2, "failure"],
        ["mail", 0, "rejected"],
        ["slow", 1, "timeout"],
        ["plain", 1, "failure"],
    ]
    assert [call["error.type"] for call in calls] == ran.results[1:]


def test_metrics_count_what_the_spans_tell(ran: SimpleNamespace):
    """Calls by how they ended, retries and refusals by why, and nobody under way any more."""
    by = ("penstock.policy.name", "penstock.outcome")

    assert counts(ran.sent, "penstock.call.duration", *by) == {
        ("search", "success"): 1,
        ("mail", "failure"): 1,
        ("mail", "rejected"): 1,
        ("slow", "timeout"): 1,
        ("plain", "failure"): 1,
    }
    assert counts(ran.sent, "penstock.retries", "penstock.policy.name", "penstock.verdict") == {
        ("search", "rate_limited"): 1,
        ("search", "overloaded"): 1,
        ("mail", "transient"): 1,
    }
    assert counts(ran.sent, "penstock.rejections", "penstock.stage", "error.type") == {
        ("breaker", "CircuitOpenError"): 1
    }
    assert set(counts(ran.sent, "penstock.active_calls", "penstock.policy.name").values()) == {0}


def test_metrics_show_the_state_at_the_end(ran: SimpleNamespace):
    """A circuit that is open, and a key that rests."""
    circuit = ("penstock.circuit.name", "penstock.circuit.state")

    circuits = counts(ran.sent, "penstock.circuit.state", *circuit)
    resources = counts(ran.sent, "penstock.resource.state", "penstock.resource.state")

    assert {key for key, value in circuits.items() if value} == {
        ("search", "closed"),
        ("mail", "open"),
    }
    assert {key: value for key, value in resources.items() if value} == {
        ("ready",): 1,
        ("cooling",): 1,
    }


def test_histograms_come_in_the_advised_buckets(ran: SimpleNamespace):
    """From 5 ms to two minutes."""
    bounds = [point["explicitBounds"] for point in ran.sent.points("penstock.call.duration")]

    assert all(each[0] == 0.005 for each in bounds)
    assert all(each[-1] == 120 for each in bounds)


def test_decisions_are_log_events_linked_to_the_span_of_their_call(ran: SimpleNamespace):
    """In the order in which they were made."""
    call, _ = ran.sent.call("search")
    events = [each for each in ran.sent.logs if each.get("spanId") == call["spanId"]]

    assert {each["traceId"] for each in events} == {call["traceId"]}
    assert [each["eventName"].removeprefix("penstock.") for each in events] == [
        "resource.selected",
        "resource.cooldown",
        "retry.scheduled",
        "resource.selected",
        "retry.scheduled",
        "resource.selected",
    ]
    cooldown = events[1]["attributes"]
    assert (cooldown["penstock.resource.name"], cooldown["penstock.resource.seconds"]) == (
        "first",
        60,
    )
    assert only(events, "penstock.retry.delay")[2::2] == [0, 0.05]


def test_decisions_of_a_breaker_are_log_events_too(ran: SimpleNamespace):
    """It opened, then refused a call."""
    spans = {span["spanId"]: span for span in ran.sent.spans}
    events = [
        each for each in ran.sent.logs if each["attributes"]["penstock.policy.name"] == "mail"
    ]

    names = [each["eventName"].removeprefix("penstock.") for each in events]
    assert [name for name in names if name in {"circuit.state_changed", "call.rejected"}] == [
        "circuit.state_changed",
        "call.rejected",
    ]
    assert all(spans[each["spanId"]]["name"] == "mail get" for each in events)


def test_no_byte_tells_a_key_a_url_or_the_text_of_an_error(ran: SimpleNamespace):
    """Headers and bodies of every export, and the lines of the log."""
    everything = ran.sent.bytes + ran.lines

    assert "penstock.retry.scheduled" in everything
    assert "circuit 'mail' is open" in everything
    for word in (SECRET, "http://", "/search", "Too Many Requests", "Traceback"):
        assert word not in everything, word
