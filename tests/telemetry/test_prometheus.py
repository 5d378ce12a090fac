"""What Prometheus gets when it scrapes pools."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from penstock import ConfigError, CooldownResource, DisableResource, Policy, Pool, telemetry
from penstock.testing import scripted

pytestmark = pytest.mark.virtual_time

STATES = ("ready", "full", "cooling", "disabled")


def _state(registry: CollectorRegistry, **labels: str) -> dict[str, float | None]:
    scope = {
        label: sample.labels[label]
        for family in registry.collect()
        for sample in family.samples
        for label in sample.labels
        if label.startswith("otel_scope")
    }
    named = {f"penstock_{label}_name": value for label, value in labels.items()}
    return {
        state: registry.get_sample_value(
            "penstock_resource_state", {**scope, **named, "penstock_resource_state": state}
        )
        for state in STATES
    }


def _one(state: str) -> dict[str, float]:
    return {each: float(each == state) for each in STATES}


@pytest.mark.usefixtures("configured")
async def test_a_scrape_has_a_series_of_0_or_1_for_each_state_of_each_resource(registry: Any):
    """Of several pools by label: one that a policy rotates over, and one used alone."""
    telemetry.configure(resource_ids=True)
    search, mail = (Pool({"a": "1", "b": "2"}, name=name) for name in ("search", "mail"))
    policy = Policy("find").rotating(search, inject=None)
    telemetry.watch(mail)

    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource(60)))
    await mail.run(scripted(DisableResource("revoked"), "sent"))

    assert _state(registry, pool="search", resource="a") == _one("cooling")
    assert _state(registry, pool="search", resource="b") == _one("ready")
    assert _state(registry, pool="mail", resource="a") == _one("disabled")
    assert _state(registry, pool="mail", resource="b") == _one("ready")


async def test_a_scrape_counts_resources_where_ids_are_not_asked_for(registry: Any):
    """All states of both pools, also those that nobody is in."""
    pools = [Pool([1, 2, 3], name=name) for name in ("search", "mail")]
    for pool in pools:
        telemetry.watch(pool)
    pools[0].disable("2")

    search, mail = (_state(registry, pool=pool.options.name) for pool in pools)

    assert search == {"ready": 2, "full": 0, "cooling": 0, "disabled": 1}
    assert mail == {"ready": 3, "full": 0, "cooling": 0, "disabled": 0}


def test_a_pool_without_a_name_of_its_own_is_refused():
    """An empty label would be no label."""
    with pytest.raises(ConfigError, match=r"^pool: 'name' must be"):
        Pool([1], name="")
