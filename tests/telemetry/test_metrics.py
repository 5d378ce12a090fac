"""What every call measures, and how many series it makes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    ConcurrencyLimitedError,
    ConfigError,
    CooldownResource,
    Policy,
    VerdictKind,
    telemetry,
)
from penstock.telemetry.bounds import Distinct
from penstock.telemetry.instruments import DURATION_BUCKETS, METRICS
from penstock.testing import EventLog, scripted, takes

pytestmark = pytest.mark.virtual_time

CALLS = "penstock.call.duration"
ATTEMPTS = "penstock.attempt.duration"


async def test_a_call_is_measured_with_its_outcome(readings: Any):
    """Its seconds, the attempt's, and nothing of errors."""
    await Policy("search").call(scripted(takes(2)))

    assert readings.series(CALLS, "policy.name", "operation", "outcome", "error.type") == {
        ("search", "scripted", "success", None): (1, 2)
    }
    assert readings.series(ATTEMPTS, "policy.name", "operation", "verdict", "error.type") == {
        ("search", "scripted", "ok", None): (1, 2)
    }


async def test_a_retried_success_is_a_failed_attempt_a_retry_and_a_wait(readings: Any):
    """The call itself has no error."""
    policy = Policy("search").with_retry(3, 5)

    await policy.call(scripted(ConnectionError, takes(1)))

    assert readings.series(CALLS, "outcome", "error.type") == {("success", None): (1, 6)}
    assert readings.series(ATTEMPTS, "verdict", "error.type") == {
        ("transient", "ConnectionError"): (1, 0),
        ("ok", None): (1, 1),
    }
    assert readings.series("penstock.retries", "verdict", "error.type") == {
        ("transient", "ConnectionError"): 1
    }
    assert readings.series("penstock.wait.duration", "policy.name", "stage") == {
        ("search", "backoff"): (1, 5)
    }


async def test_a_rejection_is_counted_by_stage(readings: Any):
    """The call ends as rejected, with no attempt."""
    policy = Policy("search").with_concurrency(1, max_queue=0)
    first = asyncio.create_task(policy.call(scripted(takes(9))))
    await asyncio.sleep(0)

    with pytest.raises(ConcurrencyLimitedError):
        await policy.call(scripted("never"))

    assert readings.series("penstock.rejections", "policy.name", "stage", "error.type") == {
        ("search", "concurrency", "ConcurrencyLimitedError"): 1
    }
    assert readings.series(CALLS, "outcome", "error.type") == {
        ("rejected", "ConcurrencyLimitedError"): (1, 0)
    }
    await first


async def test_what_a_timeout_cuts_off_is_called_by_the_timeout(readings: Any):
    """Of the attempt too, which met a cancel."""
    with pytest.raises(CallTimeoutError):
        await Policy("search").with_timeout(3).call(scripted(takes(9)))

    assert readings.series(CALLS, "outcome", "error.type") == {
        ("timeout", "CallTimeoutError"): (1, 3)
    }
    assert readings.series(ATTEMPTS, "verdict", "error.type") == {
        ("timeout", "CallTimeoutError"): (1, 3)
    }


async def test_a_refused_result_is_called_by_its_verdict(readings: Any):
    """There is no error whose class it could be, in the call, the attempts and the retry."""
    policy = Policy("search", classify_result=lambda _: VerdictKind.OVERLOADED).with_retry(2, 1)

    await policy.call(scripted("busy", "busy"))

    assert readings.series(CALLS, "outcome", "error.type") == {("failure", "overloaded"): (1, 1)}
    assert readings.series(ATTEMPTS, "error.type") == {"overloaded": (2, 0)}
    assert readings.series("penstock.retries", "error.type") == {"overloaded": 1}


async def test_calls_under_way_are_counted_up_and_down(readings: Any):
    """Also where one is cancelled."""
    policy = Policy("search")
    calls = [asyncio.create_task(policy.call(scripted(takes(5)))) for _ in range(3)]
    await asyncio.sleep(1)
    during = readings.series("penstock.active_calls", "policy.name")

    calls[0].cancel()
    await asyncio.wait(calls)

    assert during == {"search": 3}
    assert readings.series("penstock.active_calls", "policy.name") == {"search": 0}
    assert readings.series(CALLS, "outcome", "error.type") == {
        ("cancelled", None): (1, 1),
        ("success", None): (2, 10),
    }


async def test_a_provider_set_after_the_first_call_measures_from_then_on(
    readings: Any, monkeypatch: pytest.MonkeyPatch
):
    """The policy need not be built again."""
    policy = Policy("search")
    with monkeypatch.context() as before:
        before.setattr("opentelemetry.metrics._internal._METER_PROVIDER", None)
        await policy.call(scripted("unseen"))

    await policy.call(scripted("seen"))

    assert readings.series(CALLS, "policy.name") == {"search": (1, 0)}


async def test_a_policy_without_telemetry_measures_nothing(readings: Any):
    """It is switched off for that one alone."""
    await Policy("quiet", telemetry=False).call(scripted("done"))
    await Policy("search").call(scripted("done"))

    assert readings.series(CALLS, "policy.name") == {"search": (1, 0)}


async def test_observers_hear_what_they_hear_without_metrics(readings: Any):
    """Metrics stand in front of them, not in their place."""
    log = EventLog()

    await Policy("search", observers=[log]).call(scripted("done"))

    assert log.names() == ["CallStarted", "AttemptStarted", "AttemptEnded", "CallEnded"]
    assert readings.series(CALLS, "policy.name") == {"search": (1, 0)}


async def test_durations_come_in_the_advised_buckets(readings: Any):
    """From 5 milliseconds to 2 minutes."""
    await Policy("search").call(scripted(takes(40)))

    (point,) = readings.points(CALLS)
    assert point.explicit_bounds == DURATION_BUCKETS
    assert point.bucket_counts[DURATION_BUCKETS.index(60)] == 1


async def test_every_metric_has_the_unit_and_the_words_of_the_page(readings: Any):
    """What is measured by calls; the gauges are seen elsewhere, and so are pools of workers."""
    policy = Policy("search").with_retry(2, 1).with_concurrency(1, max_queue=0)
    await asyncio.gather(
        *(policy.call(scripted(OSError, takes(1))) for _ in range(2)), return_exceptions=True
    )

    elsewhere = ("penstock.dropped_jobs",)
    measured = [m for m in METRICS if m.kind != "observable_gauge" and m.name not in elsewhere]
    assert [(m.name, m.unit, m.about) for m in measured] == [
        (got.name, got.unit, got.description)
        for got in (readings.metric(metric.name) for metric in measured)
    ]


@pytest.mark.usefixtures("configured")
async def test_resources_are_told_apart_only_on_request(readings: Any):
    """Ten thousand proxies would be as many series."""
    policy = Policy("search").with_retry(2, 1).rotating({"a": "1", "b": "2"}, inject=None)
    await policy.call(scripted("done"))

    telemetry.configure(resource_ids=True)
    await policy.call(scripted(CooldownResource(60), "done"))

    assert readings.series(ATTEMPTS, "resource.name", "verdict") == {
        (None, "ok"): (1, 0),
        ("b", "rate_limited"): (1, 0),
        ("a", "ok"): (1, 0),
    }


@pytest.mark.usefixtures("configured")
async def test_names_made_from_data_make_no_more_series(readings: Any):
    """Operations and errors beyond so many are one series each; calls under way go back to 0."""
    telemetry.configure(max_names=2)

    for number in range(5):
        error = type(f"Error{number}", (Exception,), {})

        async def operation(error: type[Exception] = error) -> None:
            raise error

        operation.__qualname__ = f"operation{number}"
        with pytest.raises(error):
            await Policy(f"policy{number}").call(operation)

    series = readings.series(CALLS, "policy.name", "operation", "error.type")
    assert series == {
        ("policy0", "operation0", "Error0"): (1, 0),
        ("policy1", "operation1", "Error1"): (1, 0),
        ("other", "other", "_OTHER"): (3, 0),
    }
    assert readings.series("penstock.active_calls", "policy.name") == {
        "policy0": 0,
        "policy1": 0,
        "other": 0,
    }


async def test_a_broken_provider_takes_nothing_else_along(
    told: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It is reported once; calls and log events go on."""
    monkeypatch.setattr("penstock.telemetry.faults._reported", set())
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", object())
    policy = Policy("search").with_retry(2, 1)

    for _ in range(2):
        assert await policy.call(scripted(OSError, "done")) == "done"

    assert told.names() == ["retry.scheduled", "retry.scheduled"]
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "telemetry: the meter provider raised"
    ]


def test_a_name_that_was_told_apart_stays_so():
    """Others come later, and it keeps its series."""
    distinct = Distinct(1)

    assert [distinct(name) for name in ("a", "b", "a")] == ["a", "other", "a"]


@pytest.mark.parametrize(
    "options", [{"resource_ids": 1}, {"max_names": 0}, {"max_names": 2.5}], ids=str
)
def test_what_telemetry_cannot_be_set_to_is_refused(options: dict[str, Any]):
    """By name, as every option is."""
    (field,) = options

    with pytest.raises(ConfigError, match=f"^telemetry: '{field}' must be .*; got "):
        telemetry.configure(**options)
