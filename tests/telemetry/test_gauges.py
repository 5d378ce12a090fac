"""What an exporter reads of the policies that are in use."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from aiolimiter import AsyncLimiter
from pybreaker import CircuitBreaker

from penstock import ConfigError, CooldownResource, DisableResource, Policy, Pool, telemetry
from penstock.switch import LIVE
from penstock.telemetry import gauges
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time

QUEUED = "penstock.queued_calls"
CIRCUIT = "penstock.circuit.state"
RESOURCE = "penstock.resource.state"
AVAILABLE = "penstock.rate_limit.available"


async def test_calls_in_line_are_counted_by_stage(readings: Any):
    """One is under way and two wait for its permit."""
    policy = Policy("search").with_rate(10).with_concurrency(1)
    calls = [asyncio.create_task(policy.call(scripted(takes(5)))) for _ in range(3)]
    await asyncio.sleep(1)

    queued = readings.series(QUEUED, "policy.name", "stage")

    assert queued == {("search", "rate_limit"): 0, ("search", "concurrency"): 2}
    await asyncio.wait(calls)


async def test_calls_that_wait_for_a_resource_are_in_line_too(readings: Any):
    """At the stage rotation, whatever they wait for."""
    policy = Policy("search").rotating(["a"], inject=None, max_wait=9)
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource(5)))
    waiting = asyncio.create_task(policy.call(scripted("done")))
    await asyncio.sleep(1)

    assert readings.series(QUEUED, "policy.name", "stage") == {("search", "rotation"): 1}
    await waiting


async def test_a_circuit_is_one_series_per_state(readings: Any):
    """1 for the state it is in; alerts compare with 1, dashboards draw all four."""
    policy = Policy("search").with_breaker(failures=1, recover_after=30)
    await policy.call(scripted("fine"))
    closed = readings.series(CIRCUIT, "circuit.name", "circuit.state")
    with pytest.raises(OSError, match=r"^$"):
        await policy.call(scripted(OSError))

    opened = readings.series(CIRCUIT, "circuit.name", "circuit.state")

    states = ("closed", "open", "half_open", "isolated")
    assert closed == {("search", state): int(state == "closed") for state in states}
    assert opened == {("search", state): int(state == "open") for state in states}


async def test_a_circuit_has_its_label(readings: Any):
    """Also a breaker of pybreaker's; without a label it has the policy's name."""
    policies = [
        Policy("labelled").with_breaker(label="db"),
        Policy("theirs").with_breaker(CircuitBreaker(name="pyb")),
        Policy("plain").with_breaker(),
    ]
    for policy in policies:
        await policy.call(scripted("fine"))

    found = readings.series(CIRCUIT, "policy.name", "circuit.name", "circuit.state")

    assert {key[:2] for key, value in found.items() if key[2] == "closed" and value} == {
        ("labelled", "db"),
        ("theirs", "pyb"),
        ("plain", "plain"),
    }


async def test_resources_are_counted_by_state(readings: Any):
    """All states, also those that nobody is in."""
    policy = Policy("search").with_retry(5, 0).rotating(list("abcd"), name="keys", inject=None)
    await policy.call(scripted(CooldownResource(60), DisableResource("gone"), "done"))

    assert readings.series(RESOURCE, "pool.name", "resource.name", "resource.state") == {
        ("keys", None, "ready"): 2,
        ("keys", None, "full"): 0,
        ("keys", None, "probing"): 0,
        ("keys", None, "cooling"): 1,
        ("keys", None, "away"): 0,
        ("keys", None, "disabled"): 1,
    }


@pytest.mark.usefixtures("configured")
async def test_resources_are_told_apart_on_request(readings: Any):
    """Then each has one series per state, with 1 for the one it is in."""
    telemetry.configure(resource_ids=True)
    policy = Policy("search").with_retry(2, 0).rotating(["1", "2"], name="keys", inject=None)
    await policy.call(scripted(CooldownResource(60), "done"))

    found = readings.series(RESOURCE, "pool.name", "resource.name", "resource.state")

    assert len(found) == 12
    assert sorted(key for key, value in found.items() if value) == [
        ("keys", "1", "cooling"),
        ("keys", "2", "ready"),
    ]


async def test_a_pool_of_several_policies_is_counted_once(readings: Any):
    """Its resources are not twice as many."""
    pool = Pool(["a", "b"], name="keys")
    policies = [Policy(name).rotating(pool, inject=None) for name in ("one", "two")]
    for policy in policies:
        await policy.call(scripted("done"))

    assert readings.series(RESOURCE, "resource.state")["ready"] == 2


async def test_policies_of_one_name_are_one_series(readings: Any):
    """A copy with new state counts with the one it is from."""
    policy = Policy("search").with_breaker()
    copies = [policy, policy.fresh()]
    for each in copies:
        await each.call(scripted("fine"))

    assert readings.series(CIRCUIT, "circuit.state")["closed"] == 2


async def test_a_stage_that_two_policies_of_one_name_share_is_counted_once(readings: Any):
    """A policy and what was made of it by another stage have the same circuit."""
    inner = Policy("search").with_breaker()
    policies = [inner, inner.with_timeout(5)]
    for each in policies:
        await each.call(scripted("fine"))

    assert readings.series(CIRCUIT, "circuit.state")["closed"] == 1


async def test_what_a_rate_limit_has_left_is_shown_by_rate(readings: Any):
    """By the name of the rate, or as it is written; an AsyncLimiter does not tell."""
    named = Policy("named").with_rate(
        {"requests": "10/s", "tokens": "100/min"}, cost={"tokens": 30}
    )
    plain = Policy("plain").with_rate(5)
    theirs = Policy("theirs").with_rate(AsyncLimiter(5, 1))
    for policy in (named, plain, theirs):
        await policy.call(scripted("fine"))

    assert readings.series(AVAILABLE, "policy.name", "rate_limit.name") == {
        ("named", "requests"): 9,
        ("named", "tokens"): 70,
        ("plain", "5/1s"): 4,
    }


async def test_a_policy_that_is_gone_is_shown_no_longer(readings: Any):
    """Nothing here keeps it alive."""
    policy = Policy("search").with_breaker()
    await policy.call(scripted("fine"))
    before = readings.points(CIRCUIT)

    del policy
    gc.collect()

    assert len(before) == 4
    assert readings.points(CIRCUIT) == []


async def test_a_policy_without_telemetry_is_not_shown(readings: Any):
    """Whatever other policies show."""
    quiet = Policy("quiet", telemetry=False).with_breaker()
    loud = Policy("loud").with_breaker()
    for policy in (quiet, loud):
        await policy.call(scripted("fine"))

    assert set(readings.series(CIRCUIT, "policy.name")) == {"loud"}


async def test_a_stage_that_cannot_be_read_takes_no_other_along(
    readings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """It is reported once; the exporter goes on."""
    broken, sound = CircuitBreaker(name="broken"), CircuitBreaker(name="sound")
    monkeypatch.setattr("penstock.telemetry.faults._reported", set())
    policies = [Policy(each.name).with_breaker(each) for each in (broken, sound)]
    for policy in policies:
        await policy.call(scripted("fine"))
    monkeypatch.setattr(broken, "_state_storage", None)

    with caplog.at_level(logging.ERROR, "penstock"):
        found = [readings.series(CIRCUIT, "policy.name") for _ in range(2)]

    assert [*found[0], *found[1]] == ["sound", "sound"]
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "telemetry: the gauge raised"
    ]


async def test_policies_made_while_an_exporter_reads_do_not_disturb_it(readings: Any):
    """A set that changes under its reader is read again, and at last given up."""

    class Restless(set[int]):
        left = 3

        def __iter__(self) -> Any:
            self.left -= 1
            if self.left >= 0:
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    restless: Any = Restless([1])
    assert gauges._listed(restless) == [1]

    restless.left = 1000
    assert gauges._listed(restless) == []


async def test_a_pool_alone_is_shown_when_it_is_watched(readings: Any):
    """It needs no call of any policy, and is not kept alive."""
    pool = Pool(["a", "b"], name="keys")

    telemetry.watch(pool)
    shown = readings.series(RESOURCE, "pool.name", "resource.state")
    del pool
    gc.collect()

    assert shown["keys", "ready"] == 2
    assert readings.points(RESOURCE) == []
    assert not [*LIVE]


async def test_a_pool_may_be_watched_before_any_provider_is_set():
    """It is shown from its first change of state under one."""
    pool = Pool(["a"])

    telemetry.watch(pool)

    assert pool in gauges.WATCHED


def test_what_is_no_pool_is_refused_without_showing_it():
    """It may be a list of keys."""
    keys: Any = ["sk-secret"]

    with pytest.raises(ConfigError, match=r"^telemetry.watch: 'pool' must be a Pool; got list$"):
        telemetry.watch(keys)
