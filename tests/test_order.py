"""The order of stages: what is refused, what is warned about, and what is only worth a note."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import pytest

from penstock import ConfigError, Policy, PolicyOrderWarning
from penstock.order import RULES, Level, findings, refuse_misordered
from penstock.stages.concurrency import Concurrency, ConcurrencyOptions
from penstock.stages.rotation import Rotation, RotationOptions
from penstock.testing import scripted

pytestmark = pytest.mark.virtual_time


def _rotation() -> Rotation:
    return Rotation(RotationOptions(resources=["a", "b"]))


def _found(policy: Policy) -> list[tuple[Level, str]]:
    return [(finding.level, finding.rule) for finding in findings(policy.stages)]


@pytest.mark.parametrize(
    ("build", "advice"),
    [
        (
            lambda: Policy("search").with_stage(_rotation()).with_timeout(5),
            "rotation must be innermost; move it below 'timeout'",
        ),
        (
            lambda: Policy("search").with_stage(_rotation()).with_stage(scripted()),
            "rotation must be innermost; move it below 'the custom stage'",
        ),
        (
            lambda: Policy("search").with_timeout(5).with_retry().with_timeout(6),
            "the inner timeout of 6 s can never pass: the outer one ends the call after 5 s",
        ),
        (
            lambda: Policy("search").with_retry().with_fallback(value=None),
            "the fallback inside retry answers every failure",
        ),
        (
            lambda: Policy("search").with_retry().with_timeout(5).with_budget(),
            "the budget stands inside retry and is never asked; move it outside",
        ),
    ],
    ids=["rotation", "rotation over custom", "timeout", "fallback", "budget"],
)
def test_an_order_that_cannot_work_is_refused_when_it_is_built(build: Any, advice: str):
    """The error names the policy, says what is wrong and what to do."""
    with pytest.raises(ConfigError, match=f"^policy 'search': {advice}"):
        build()


def test_the_same_stateful_stage_cannot_stand_twice_in_one_pipeline():
    """It would wait for itself; a custom function may stand anywhere."""
    shared = Concurrency(ConcurrencyOptions(limit=1))

    async def custom(call: Any, call_next: Any) -> Any:
        return await call_next(call)

    with pytest.raises(ConfigError, match="the same 'concurrency' stage stands twice"):
        Policy().with_stage(shared).with_retry().with_stage(shared)
    assert len(Policy().with_stage(custom).with_stage(custom).stages) == 2
    assert len(Policy().with_stage(shared).with_stage(shared.fresh()).stages) == 2


@pytest.mark.parametrize(
    "policy",
    [
        Policy().with_timeout(30).with_retry().with_timeout(5).with_stage(_rotation()),
        Policy().with_timeout(5).with_retry().with_timeout(5),
        Policy().with_fallback(value=None).with_budget().with_retry(),
        Policy().with_retry().with_fallback(value=None, fallback_on=KeyError),
        Policy().with_retry().with_rate(5).with_breaker().with_concurrency(5).with_timeout(5),
        Policy().with_breaker().with_retry(),
        Policy().with_rate(5).with_breaker(),
        Policy().with_concurrency(5).with_concurrency(2),
    ],
    ids=repr,
)
def test_an_order_that_does_what_it_says_is_taken_without_a_word(policy: Policy):
    """Neither error nor warning nor note."""
    assert _found(policy) == []


@pytest.mark.parametrize(
    ("policy", "rule", "advice"),
    [
        (
            Policy().with_rate(5).with_retry(),
            "rate-outside-retry",
            "retries do not pay it; move it inside",
        ),
        (
            Policy().with_rate(5).with_breaker().with_retry(),
            "rate-outside-retry",
            "retries do not pay it; move it inside",
        ),
        (
            Policy().with_retry(4).with_retry(5),
            "retry-over-retry",
            "the operation can be called 20 times; keep one",
        ),
        (
            Policy().with_retry(4).with_retry(stop=30),
            "retry-over-retry",
            "the operation can be called without bound; keep one",
        ),
    ],
    ids=["rate", "rate over others", "retry", "endless retry"],
)
async def test_an_order_that_rarely_does_what_was_meant_is_warned_about_at_first_use(
    policy: Policy, rule: str, advice: str
):
    """Once, where the policy is used: building it may be one step of many."""
    policy = policy.fresh()
    assert _found(policy) == [(Level.WARNING, rule)]

    with pytest.warns(PolicyOrderWarning, match=advice) as caught:
        await policy.call(scripted("done"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await policy.call(scripted("done"))
        await policy.using(timeout=5).call(scripted("done"))

    assert len(caught) == 1


@pytest.mark.parametrize("use", ["call", "plain", "using", "wrap", "stream", "gather"])
async def test_the_warning_points_at_the_line_that_uses_the_policy(use: str):
    """Not at one of ours, whichever method it was."""
    policy = Policy().with_rate(5).with_retry()

    async def items() -> Any:
        yield 1

    async def go() -> None:
        match use:
            case "call":
                await policy.call(scripted("done"))
            case "plain":
                await policy.call(functools.partial(scripted("done")))
            case "using":
                policy.using(timeout=5)
            case "wrap":
                await policy.wrap(scripted("done"))()
            case "gather":
                await policy.gather(scripted(then="done"), [1])
            case _:
                async with policy.stream(items):
                    pass

    with pytest.warns(PolicyOrderWarning) as caught:
        await go()

    (warning,) = caught
    # A batch runs in tasks of its own, and there the loop is what calls.
    assert warning.filename == __file__ or use == "gather"
    assert "penstock" not in warning.filename.replace(__file__, "")


def test_a_cap_outside_retry_is_worth_a_note():
    """It holds its permit during back-off, which may be what is wanted."""
    assert _found(Policy().with_concurrency(5).with_retry()) == [
        (Level.NOTE, "concurrency-outside-retry")
    ]


def test_every_pair_is_looked_at_and_the_place_is_that_of_the_inner_stage():
    """Findings come outermost first."""
    policy = Policy().with_rate(5).with_concurrency(5).with_retry().with_retry()

    found = [(finding.rule, finding.place) for finding in findings(policy.stages)]

    assert found == [
        ("rate-outside-retry", 2),
        ("rate-outside-retry", 3),
        ("concurrency-outside-retry", 2),
        ("concurrency-outside-retry", 3),
        ("retry-over-retry", 3),
    ]


def test_rules_have_names_of_their_own():
    """The documentation and ``check`` refer to them."""
    names = [rule.name for rule in RULES]

    assert len(set(names)) == len(names)
    assert all(name == name.lower().replace(" ", "-") for name in names)


@pytest.mark.parametrize("name", ["timeout", "retry", "fallback", "rate_limit", "rotation", 5])
def test_a_custom_stage_may_have_any_name(name: Any):
    """Also that of a built-in one whose options it has not."""

    class Custom:
        async def __call__(self, call: Any, call_next: Any) -> Any:
            return await call_next(call)

    outer, inner = Custom(), Custom()
    outer.name = inner.name = name  # type: ignore[attr-defined]

    refuse_misordered("search", (outer, *Policy().with_timeout(5).with_retry().stages, inner))
