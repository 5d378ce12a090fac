"""The value of a resource appears nowhere: logs, events, reprs and tracebacks are searched."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import logging
import pickle
import traceback
from typing import Any

import pytest

from penstock import (
    ConfigError,
    CooldownResource,
    DisableResource,
    NoResourceError,
    Policy,
    PolicyError,
    Pool,
    Resource,
    TryAgain,
)
from penstock.testing import EventLog, run

pytestmark = pytest.mark.virtual_time

SECRET = "sk-live-4f9a1c77e2"
OTHER = "sk-live-0b5d3e8812"


async def fail(key: Resource[str], how: Any) -> str:
    """Fail in the way that is asked for, as often as that resource serves."""
    await asyncio.sleep(1)
    raise how() if callable(how) else how


def _told_by(failure: BaseException) -> str:
    lines = traceback.TracebackException.from_exception(failure, compact=False).format()
    return (
        "".join(lines)
        + repr(failure)
        + str(failure)
        + repr(failure.__notes__ if hasattr(failure, "__notes__") else "")
    )


HOWS = {
    "cooldown": CooldownResource,
    "disable": lambda: DisableResource("revoked"),
    "again": TryAgain,
    "error": OSError,
    "type": TypeError,
}


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_a_failing_run_never_shows_a_value(how: str, caplog: pytest.LogCaptureFixture):
    """What is logged, every event and its pickle, snapshots, statistics and tracebacks."""
    caplog.set_level(logging.DEBUG)
    told = io.StringIO()
    log = EventLog()

    def broken_hook(change: Any) -> None:
        print(change, file=told)
        raise RuntimeError(str(change))

    pool = Pool(
        {"a": SECRET, "b": Resource(OTHER, max_in_flight=1, origins=["https://a.example"])},
        on_state_change=broken_hook,
    )
    policy = (
        Policy("search", observers=[log])
        .with_timeout(50)
        .with_retry(4, wait=1)
        .with_rate(5)
        .with_breaker(failures=2)
        .rotating(pool)
    )

    async def main() -> None:
        calls = [policy.call(fail, HOWS[how]) for _ in range(5)]
        calls += [pool.run(fail, HOWS[how]) for _ in range(3)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, BaseException)
            print(_told_by(outcome), file=told)
        print(policy, repr(policy), policy.stages, pool, policy.health(), file=told)
        print(json.dumps(policy.snapshot()), json.dumps(pool.snapshot()), pool.stats(), file=told)
        print(*pool.machine.members.values(), file=told)
        async with pool.lease() as lease:
            print(lease, repr(lease), lease.resource, file=told)

    try:
        run(main())
    except NoResourceError as refused:
        print(_told_by(refused), file=told)
    print(log.events, [pickle.dumps(event) for event in log.events], file=told)
    text = told.getvalue() + caplog.text + repr([vars(record) for record in caplog.records])

    assert len(log.events) > 10
    assert "search" in text
    for secret in (SECRET, OTHER):
        assert secret not in text
        assert secret.encode() not in b"".join(pickle.dumps(event) for event in log.events)


def test_a_resource_shows_its_id_and_nothing_else():
    """Printed, formatted, or inside another object."""
    resource = Resource(SECRET, "a")

    shown = [repr(resource), str(resource), f"{resource}", repr([resource]), repr({"r": resource})]

    assert all(SECRET not in text for text in shown)
    assert all("'a'" in text for text in shown)


def test_a_resource_is_not_written_out():
    """A pickle would hold the value, and a copied key has no quota of its own."""
    resource = Resource(SECRET, "a")

    with pytest.raises(TypeError, match="resource 'a' cannot be pickled") as refused:
        pickle.dumps(resource)

    assert SECRET not in str(refused.value)
    assert copy.deepcopy([resource]) == [resource]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pool(SECRET),  # type: ignore[arg-type]
        lambda: Pool([SECRET.encode(), Resource("x", "1"), Resource(SECRET, "1")]),
        lambda: Pool([Resource("x", max_in_flight=SECRET)]),  # type: ignore[arg-type]
        lambda: Policy().rotating(SECRET, inject=None),
    ],
)
def test_a_mistake_in_building_does_not_show_what_was_given(make: Any):
    """A key in the wrong place is still a key."""
    with pytest.raises(ConfigError) as refused:
        make()

    assert SECRET not in str(refused.value) + repr(refused.value)


def test_a_value_goes_to_its_origins_alone():
    """The refusal names the origin that was asked for, and neither path nor query."""
    resource = Resource(SECRET, "a", origins=["https://api.example.com"])

    assert resource.value_for("https://api.example.com/v1?x=1") == SECRET
    with pytest.raises(PolicyError, match=r"must not be sent to https://evil\.example") as refused:
        resource.value_for("https://user:pass@evil.example/steal?token=1")

    assert "pass" not in str(refused.value)
    assert "steal" not in str(refused.value)
