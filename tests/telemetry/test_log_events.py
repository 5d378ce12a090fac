"""Decisions as log events of OpenTelemetry, linked to the span of the call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk.trace import TracerProvider

from penstock import (
    ConcurrencyLimitedError,
    CooldownResource,
    DisableResource,
    Policy,
    Pool,
    VerdictKind,
    telemetry,
)
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.telemetry import log_events, plan
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time


async def test_a_success_decides_nothing(told: Any):
    """No event, where there is no resource to choose."""
    await Policy("search").with_retry().with_breaker().call(scripted("done"))

    assert told.names() == []


async def test_a_retry_says_why_and_when(told: Any):
    """The attempt that failed, what that meant, and the seconds until the next one."""
    policy = Policy("search").with_retry(3, 5).using(request_id="r-1")

    await policy.call(scripted(ConnectionError, "done"))

    assert told.only("retry.scheduled") == {
        "policy.name": "search",
        "operation": "scripted",
        "request.id": "r-1",
        "attempt.number": 1,
        "retry.delay": 5.0,
        "verdict": "transient",
        "error.type": "ConnectionError",
    }


async def test_a_retry_that_stops_says_why(told: Any):
    """In the words of the event."""
    with pytest.raises(ValueError, match=r"^$"):
        await Policy("search").with_retry(3, 5).call(scripted(ValueError))

    stopped = told.only("retry.stopped")
    assert (stopped["reason"], stopped["verdict"]) == (
        "such a failure is not retried",
        "caller_bug",
    )


async def test_a_refusal_says_which_stage_and_when_to_come_back(told: Any):
    """The second where anybody knows."""
    policy = Policy("search").with_breaker(failures=1, recover_after=30)
    for _ in range(2):
        await asyncio.gather(policy.call(scripted(OSError)), return_exceptions=True)

    rejected = told.only("call.rejected")
    assert (rejected["stage"], rejected["retry_after"]) == ("breaker", 30)
    assert rejected["error.type"] == "CircuitOpenError"


async def test_what_nobody_knows_is_left_out(told: Any):
    """A full queue has no time at which it is not."""
    policy = Policy("search").with_concurrency(1, max_queue=0)
    first = asyncio.create_task(policy.call(scripted(takes(9))))
    await asyncio.sleep(0)

    with pytest.raises(ConcurrencyLimitedError):
        await policy.call(scripted("never"))

    assert "retry_after" not in told.only("call.rejected")
    await first


async def test_a_choice_of_a_resource_says_which_and_why(told: Any):
    """By the pool's way to pick, a word or an object's class; never by the value."""

    class Mine:
        def pick(self, candidates: Any, *_: Any) -> Any:
            return candidates[0]

    for pick in ("round_robin", Mine()):
        pool = Pool({"a": "sk-secret"}, name="keys", pick=pick)
        await Policy("search").rotating(pool, inject=None).call(scripted("done"))

    facts = [dict(r.log_record.attributes) for r in told.records("penstock.resource.selected")]
    assert [each["penstock.pool.pick"] for each in facts] == ["round_robin", "Mine"]
    assert {each["penstock.resource.name"] for each in facts} == {"a"}
    assert "sk-secret" not in repr(facts)


async def test_a_resource_that_rests_and_comes_back_is_told(told: Any):
    """Why, for how long, and at its end."""
    policy = Policy("search").rotating({"a": "1"}, name="keys", inject=None)
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource(30, "busy")))
    await asyncio.sleep(31)

    assert told.only("resource.cooldown") == {
        "policy.name": "search",
        "resource.name": "a",
        "pool.name": "keys",
        "state.old": "ready",
        "state.new": "cooling",
        "reason": "busy",
        "resource.seconds": 30.0,
    }
    await policy.call(scripted("done"))
    assert told.only("resource.ready")["state.old"] == "cooling"


async def test_a_resource_that_is_taken_out_is_a_warning(told: Any):
    """The others are for information, and a choice is for debugging."""
    policy = Policy("search").with_retry(3, 0).rotating(["1", "2", "3"], inject=None)

    await policy.call(scripted(DisableResource("revoked"), CooldownResource(5), "done"))

    assert [(r.log_record.event_name, r.log_record.severity_number) for r in told.records()] == [
        ("penstock.resource.selected", SeverityNumber.DEBUG),
        ("penstock.resource.disabled", SeverityNumber.WARN),
        ("penstock.retry.scheduled", SeverityNumber.INFO),
        ("penstock.resource.selected", SeverityNumber.DEBUG),
        ("penstock.resource.cooldown", SeverityNumber.INFO),
        ("penstock.retry.scheduled", SeverityNumber.INFO),
        ("penstock.resource.selected", SeverityNumber.DEBUG),
    ]


async def test_a_change_of_one_dimension_says_which(told: Any):
    """One model is limited, the others are not."""
    policy = Policy("search").rotating(["1"], dimension="model", inject=None)
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource(5)), model="large")

    assert told.only("resource.cooldown")["resource.dimension"] == "large"


async def test_a_pool_that_is_watched_tells_of_its_changes(told: Any):
    """Under its own name: no policy rotates over it."""
    pool = Pool(["1"], name="keys")
    telemetry.watch(pool)

    pool.disable("1", "topped out")

    disabled = told.only("resource.disabled")
    assert (disabled["policy.name"], disabled["reason"]) == ("keys", "topped out")


async def test_a_circuit_tells_each_change(told: Any):
    """Opening is a warning; by hand it is told too, outside of any call."""
    breaker = Breaker(BreakerOptions(failures=2, label="db"))
    policy = Policy("search").with_stage(breaker)
    for _ in range(2):
        await asyncio.gather(policy.call(scripted(OSError)), return_exceptions=True)

    breaker.close()

    opened, closed = (r.log_record for r in told.records("penstock.circuit.state_changed"))
    assert dict(opened.attributes) == {
        "penstock.policy.name": "search",
        "penstock.operation": "scripted",
        "penstock.circuit.name": "db",
        "penstock.state.old": "closed",
        "penstock.state.new": "open",
        "penstock.reason": "2 failures in a row",
    }
    assert opened.severity_number is SeverityNumber.WARN
    assert closed.severity_number is SeverityNumber.INFO
    assert "penstock.operation" not in closed.attributes


async def test_a_fallback_says_what_it_answered_for(told: Any):
    """What the failure meant, by the words of the table."""
    policy = Policy("search", classify_result=lambda _: VerdictKind.OVERLOADED)

    await policy.with_fallback(value="old").call(scripted("busy"))

    used = told.only("fallback.used")
    assert (used["verdict"], used["error.type"]) == ("overloaded", "overloaded")


async def test_an_event_belongs_to_the_span_of_its_call(told: Any, monkeypatch: pytest.MonkeyPatch):
    """Whatever span is current where it happens."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    spans: list[int] = []

    async def operation() -> None:
        spans.append(trace.get_current_span().get_span_context().trace_id)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await Policy("search").with_retry(2, 1).call(operation)

    (scheduled,) = told.records("penstock.retry.scheduled")
    (stopped,) = told.records("penstock.retry.stopped")
    assert {scheduled.log_record.trace_id, stopped.log_record.trace_id} == set(spans)
    assert scheduled.log_record.span_id == stopped.log_record.span_id != 0


async def test_an_event_of_a_stream_belongs_to_its_span_too(
    told: Any, monkeypatch: pytest.MonkeyPatch
):
    """That span is never the current one."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    failures = [ConnectionError()]

    async def lines() -> AsyncGenerator[str]:
        if failures:
            raise failures.pop()
        yield "one"

    async with Policy("search").with_retry(2, 1).stream(lines) as items:
        assert [item async for item in items] == ["one"]

    (scheduled,) = told.records("penstock.retry.scheduled")
    assert scheduled.log_record.span_id


async def test_every_event_says_something_for_people(told: Any):
    """A viewer of logs shows the body."""
    policy = Policy("search").with_retry(2, 0.5).rotating(["1"], inject=None)

    await policy.call(scripted(ConnectionError, "done"))

    assert [r.log_record.body for r in told.records()] == [
        "attempt 1 uses resource '1'",
        "attempt 1 failed; another follows in 0.5 s",
        "attempt 2 uses resource '1'",
    ]


async def test_an_api_whose_records_have_no_event_name_gets_none(
    told: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Before 1.36; spans and metrics work there, and nothing is reported as broken."""

    class OldRecord:
        def __init__(self, body: str) -> None:
            self.body = body

    monkeypatch.setattr("penstock.telemetry.faults._reported", set())
    monkeypatch.setattr(log_events, "LogRecord", OldRecord)
    monkeypatch.setattr(plan, "_plan", plan.Plan((None, None, None), None, ()))

    await Policy("search").with_retry(2, 0.5).call(scripted(ConnectionError, "done"))

    assert told.names() == []
    assert caplog.records == []
