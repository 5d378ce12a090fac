"""What a call brings along to its worker, and how what it was told there is told here."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Policy, Pool, current_call
from penstock.call import Call
from penstock.errors import ConfigError
from penstock.testing import run
from penstock.workers.remote_call import Verb, carrier_of, play

pytestmark = pytest.mark.virtual_time


def with_call(policy: Policy, work: Any, **using: Any) -> Any:
    """Run some work inside a call of a policy that rotates."""

    async def operation(_resource: object) -> Any:
        return work(current_call())

    return run(policy.using(**using).call(operation))


def test_a_plain_first_attempt_brings_nothing_along() -> None:
    """So that nothing is sent for it."""
    policy = Policy("p").rotating(["a"])

    assert with_call(policy, carrier_of) is None


def test_a_call_brings_its_labels_and_deadline_along() -> None:
    """And whether a limit waits for its cost."""
    policy = Policy("p").with_timeout(30).with_rate(10, cost=2).rotating(["a"])

    carrier = with_call(policy, carrier_of, request_id="r", tags={"k": "v"})

    assert carrier is not None
    assert (carrier.attempt, carrier.request_id, carrier.tags) == (1, "r", {"k": "v"})
    assert carrier.time_left == 30
    assert carrier.takes_cost
    assert carrier.trace is None


def test_the_workers_id_is_sent_where_the_other_side_does_not_know_it() -> None:
    """An actor may serve under another name."""
    policy = Policy("p").rotating(["a"])

    carrier = with_call(policy, lambda call: carrier_of(call, "worker-1"))

    assert carrier.resource == "worker-1"


def after(policy: Policy, *verbs: Verb) -> dict[str, Any]:
    """Return the policy's state when a call of it was told something."""

    def work(call: Call) -> dict[str, Any]:
        play(call, verbs)
        return policy.snapshot()

    state: dict[str, Any] = with_call(policy, work)
    return state


def test_what_was_told_there_is_told_the_rate_limit_here() -> None:
    """Tokens that were paid and not used come back."""
    policy = Policy("p").with_rate(100, burst=100, cost=50).rotating(["a"])

    state = after(policy, ("settle", (10,)))

    assert state["stages"][0]["available"] == [pytest.approx(90)]


@pytest.mark.parametrize(
    ("verb", "standing"),
    [
        (("cooldown", (5.0, "busy")), "cooling"),
        (("disable", ("refused",)), "disabled"),
        (("report", (0, 7)), "cooling"),
        (
            ("report_headers", ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "7"},)),
            "cooling",
        ),
    ],
    ids=["cooldown", "disable", "report", "headers"],
)
def test_what_was_told_there_is_told_the_resource_here(verb: Verb, standing: str) -> None:
    """It rests, or is out."""
    policy = Policy("p").rotating(Pool(["a"]))

    state = after(policy, verb)

    assert state["stages"][0]["resources"]["1"]["standing"] == standing


def test_a_number_that_is_not_allowed_is_refused_here() -> None:
    """As it would have been in the loop."""

    def work(call: Call) -> None:
        play(call, (("cooldown", (-1.0, None)),))

    with pytest.raises(ConfigError, match="seconds"):
        with_call(Policy("p").rotating(["a"]), work)
