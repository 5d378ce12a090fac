"""One line in the log for every change of state, and none for a call that goes well."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from penstock import CooldownResource, DisableResource, Policy, Pool
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.testing import scripted

pytestmark = pytest.mark.virtual_time

FIELDS = (
    "event_name",
    "policy",
    "pool",
    "circuit",
    "resource",
    "old",
    "new",
    "reason",
    "seconds",
    "dimension",
)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Hear everything."""
    caplog.set_level(logging.DEBUG, "penstock")
    return caplog


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name in FIELDS}


def _said(lines: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [(r.name, r.levelno, r.getMessage()) for r in lines.records]


async def test_calls_that_go_well_leave_no_line(lines: pytest.LogCaptureFixture):
    """Also those that were tried again, or waited."""
    policy = Policy("search").with_retry(3, 1).with_rate(1).with_breaker().rotating(["1"])

    for _ in range(3):
        await policy.call(scripted(ConnectionError, "done"))

    assert _said(lines) == []


async def test_a_resource_leaves_a_line_for_each_change(lines: pytest.LogCaptureFixture):
    """A rest and its end are for information; being taken out is a warning."""
    policy = (
        Policy("search")
        .with_timeout(99)
        .with_retry(3, 0)
        .rotating({"a": "1"}, name="keys", inject=None)
    )

    await policy.call(scripted(CooldownResource(30, "busy"), "done"))
    with pytest.raises(DisableResource):
        await policy.call(scripted(DisableResource("revoked")))

    name = "penstock.rotation"
    assert _said(lines) == [
        (name, logging.INFO, "pool 'keys': resource 'a' rests for 30 s: busy"),
        (name, logging.INFO, "pool 'keys': resource 'a' is ready again: probe"),
        (name, logging.WARNING, "pool 'keys': resource 'a' is disabled: revoked"),
    ]


async def test_the_line_of_a_resource_has_its_facts(lines: pytest.LogCaptureFixture):
    """For a handler that writes JSON."""
    policy = Policy("search").rotating({"a": "1"}, name="keys", dimension="model", inject=None)
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource(30, "busy")), model="large")

    (record,) = lines.records
    assert record.getMessage() == "pool 'keys': resource 'a' for 'large' rests for 30 s: busy"
    assert _extra(record) == {
        "event_name": "penstock.resource.cooldown",
        "pool": "keys",
        "resource": "a",
        "old": "ready",
        "new": "cooling",
        "reason": "busy",
        "seconds": 30.0,
        "dimension": "large",
    }


async def test_a_rest_that_is_made_longer_says_so(lines: pytest.LogCaptureFixture):
    """It is not told as a new one."""
    pool = Pool({"a": "1"}, name="keys", probe_on_recovery=False, cancel_younger=False)

    async def use(seconds: float) -> None:
        async with pool.lease() as lease:
            await asyncio.sleep(1)
            lease.cooldown(seconds)

    await asyncio.gather(use(5), use(50))

    assert [line[2] for line in _said(lines)] == [
        "pool 'keys': resource 'a' rests for 5 s",
        "pool 'keys': resource 'a' rests for another 50 s",
    ]


async def test_a_circuit_leaves_a_line_for_each_change(lines: pytest.LogCaptureFixture):
    """Calls are refused from the warnings on."""
    breaker = Breaker(BreakerOptions(failures=2, recover_after=30, label="db"))
    policy = Policy("search").with_stage(breaker)
    for _ in range(2):
        await asyncio.gather(policy.call(scripted(OSError)), return_exceptions=True)
    await asyncio.sleep(30)
    await policy.call(scripted("fine"))
    breaker.isolate()

    name = "penstock.breaker"
    assert _said(lines) == [
        (name, logging.WARNING, "circuit 'db' is open: 2 failures in a row"),
        (name, logging.INFO, "circuit 'db' is half-open: the open time is over"),
        (name, logging.INFO, "circuit 'db' is closed: probes succeeded: 1"),
        (name, logging.WARNING, "circuit 'db' is isolated: isolated by hand"),
    ]


async def test_the_line_of_a_circuit_has_its_facts(lines: pytest.LogCaptureFixture):
    """The policy is the one whose calls it met first; None before that."""
    breaker = Breaker(BreakerOptions(failures=2, label="db"))
    breaker.open()
    breaker.close()
    lines.clear()

    policy = Policy("search").with_stage(breaker)
    for _ in range(2):
        await asyncio.gather(policy.call(scripted(OSError)), return_exceptions=True)

    (record,) = lines.records
    assert _extra(record) == {
        "event_name": "penstock.circuit.state_changed",
        "policy": "search",
        "circuit": "db",
        "old": "closed",
        "new": "open",
        "reason": "2 failures in a row",
    }


async def test_lines_below_the_level_are_not_made(lines: pytest.LogCaptureFixture):
    """By the logger of the part, or of all of penstock."""
    lines.set_level(logging.ERROR, "penstock")
    pool = Pool({"a": "1"})
    breaker = Breaker(BreakerOptions())

    pool.disable("a")
    breaker.open()

    assert _said(lines) == []
