"""What servers say of their quotas, in good answers and in bad, through whole policies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import Policy, Pool, Resource
from penstock.call import Call, CallContext, current_call
from penstock.testing import run, scripted, takes

pytestmark = pytest.mark.virtual_time

USED_UP = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
HOURS_114 = 114 * 3600


def _paused_for(policy: Policy) -> float:
    (rate,) = (s for s in policy.snapshot()["stages"] if s["stage"] == "rate_limit")
    return float(rate["paused_for"])


def _answer(headers: Any = USED_UP, status: int = 200) -> Any:
    return SimpleNamespace(status_code=status, headers=headers)


class Refused(Exception):  # noqa: N818 - a failure of any kind
    """Has a status and headers, as those of HTTP clients have."""

    def __init__(self, status: int, headers: Any) -> None:
        super().__init__()
        self.status_code = status
        self.headers = headers


# Good answers and rate limits


async def test_a_good_answer_that_says_that_nothing_is_left_pauses_the_rate_limit():
    """The next call starts when the quota is back, and is not the one to find out by a 429."""
    policy = Policy(classify_result="http").with_rate(10)
    operation = scripted(_answer(), then=_answer({}))

    await policy.call(operation)
    await policy.call(operation)

    assert operation.times == [0.0, 30.0]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (USED_UP, 30.0),
        ({**USED_UP, "x-ratelimit-reset-requests": str(HOURS_114)}, 120.0),
        ({"RateLimit": '"default";r=0;t=20'}, 20.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset-after": "1.5"}, 1.5),
        ({**USED_UP, "x-ratelimit-remaining-requests": "1"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0"}, 0.0),
        ({**USED_UP, "x-ratelimit-reset-requests": "0s"}, 0.0),
        # Of a 202 it says when to look again.
        ({"Retry-After": "30"}, 0.0),
        ({**USED_UP, "x-ratelimit-reset-requests": "inf"}, 0.0),
        ({**USED_UP, "x-ratelimit-remaining-requests": "nan"}, 0.0),
        ({**USED_UP, "x-ratelimit-remaining-requests": "-1"}, 0.0),
        (None, 0.0),
        (5, 0.0),
        ("text", 0.0),
    ],
)
async def test_what_a_good_answer_says_counts_up_to_the_cap(headers: Any, seconds: float):
    """Only a counter that is used up and says when it is back, for two minutes at most."""
    policy = Policy(classify_result="http").with_rate(10)

    await policy.call(scripted(_answer(headers)))

    assert _paused_for(policy) == pytest.approx(seconds)


async def test_every_rate_limit_of_the_policy_is_told():
    """Also one outside of other stages; a stage that takes no word is not asked."""
    policy = Policy(classify_result="openai").with_rate(10).with_timeout(9).with_rate("90/min")

    await policy.call(scripted(_answer()))

    assert [s.get("paused_for") for s in policy.snapshot()["stages"]] == [30.0, None, 30.0]


async def test_a_longer_pause_is_not_shortened():
    """Answers arrive in another order than they were sent in."""
    policy = Policy(classify_result="http").with_rate(10)
    soon = _answer({**USED_UP, "x-ratelimit-reset-requests": "1s"})
    operation = scripted(takes(1, _answer()), takes(2, soon))

    await asyncio.gather(policy.call(operation), policy.call(operation))

    assert _paused_for(policy) == 29.0


async def test_those_in_line_wait_for_the_pause_to_end():
    """They stood there before the answer came."""
    policy = Policy(classify_result="http").with_rate(1)
    operation = scripted(_answer(), then=_answer({}))

    await asyncio.gather(*(policy.call(operation) for _ in range(3)))

    assert operation.times == [0.0, 30.0, 31.0]


async def test_headers_are_left_alone_where_results_are_not_answers_of_http():
    """A function of the user's, or nothing at all, judges the results."""
    policy = Policy(classify_result=lambda _result: "ok").with_rate(10)

    await policy.call(scripted(_answer()))
    await Policy().with_rate(10).call(scripted(_answer()))

    assert _paused_for(policy) == 0.0


async def test_an_operation_may_report_for_itself():
    """Where it has a call: under a rate limit that was given a cost, and under rotation."""
    policy = Policy().with_rate({"requests": 60, "tokens": 1000}, cost={"requests": 1})

    async def operation() -> None:
        current_call().report(USED_UP)

    await policy.call(operation)

    assert _paused_for(policy) == 30.0


@pytest.mark.real_time
async def test_a_report_of_another_thread_is_handed_to_the_loop():
    """The machine of a rate limit is not made for two threads at once."""
    policy = Policy().with_rate(10, cost=lambda _call: 1)
    calls: list[Call] = []

    async def operation() -> None:
        calls.append(current_call())
        thread = Thread(target=lambda: calls[0].report(USED_UP))
        thread.start()
        thread.join()
        assert _paused_for(policy) == 0.0
        await asyncio.sleep(0)

    await policy.call(operation)
    await asyncio.sleep(0.001)

    assert 29 < _paused_for(policy) <= 30


@pytest.mark.real_time
def test_a_report_after_the_loop_has_gone_still_counts():
    """The next loop finds the pause."""
    policy = Policy().with_rate(10, cost=lambda _call: 1)
    calls: list[Call] = []

    async def operation() -> None:
        calls.append(current_call())

    asyncio.run(policy.call(operation))
    thread = Thread(target=lambda: calls[0].report(USED_UP))
    thread.start()
    thread.join()

    assert 29 < _paused_for(policy) <= 30


# Good answers and rotation


async def test_under_rotation_the_resource_rests_and_the_rate_limit_goes_on():
    """The quota is the key's; another one has its own."""
    pool = Pool({"a": "1", "b": "2"}, pick="primary_backup")
    policy = Policy(classify_result="http").with_rate(10).rotating(pool)
    used: list[str] = []

    async def operation(key: Resource[str]) -> Any:
        used.append(key.id)
        return _answer()

    for _ in range(2):
        await policy.call(operation)

    assert used == ["a", "b"]
    assert _paused_for(policy) == 0.0
    assert pool.health().earliest_ready_in == 30.0


async def test_a_refused_answer_is_no_report():
    """A 429 is dealt with as the failure that it is."""
    policy = Policy(classify_result="http").with_rate(10)

    await policy.call(scripted(_answer({**USED_UP, "retry-after": "5"}, status=429)))

    assert _paused_for(policy) == 5.0


def test_a_report_between_attempts_moves_nothing():
    """Under rotation a limit is not paused for a resource that is no longer held."""
    policy = Policy().with_rate(10).rotating(["a"])
    context: CallContext = policy._context

    Call(context, scripted()).report(USED_UP)

    assert len(context.limits) == 1
    assert _paused_for(policy) == 0.0


# Junk, and what is too long


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*USED_UP, "ratelimit", "date", "anthropic-ratelimit-tokens-remaining"]),
        st.text(max_size=30) | st.binary(max_size=10) | st.integers() | st.floats() | st.none(),
    )
)
def test_no_junk_in_a_good_answer_reaches_the_caller(headers: dict[str, Any]):
    """The call has its result, and the limit is paused for two minutes at most."""

    async def main() -> None:
        policy = Policy(classify_result="http").with_rate(10)
        assert (await policy.call(scripted(_answer(headers)))).status_code == 200
        assert 0 <= _paused_for(policy) <= 120

    run(main())


class Hostile:
    """Raises from whatever is looked at."""

    status_code = 200

    @property
    def headers(self) -> Any:
        """Fail."""
        raise RuntimeError


async def test_an_answer_whose_headers_cannot_be_read_is_still_the_answer():
    """They are looked at for our own sake."""
    policy = Policy(classify_result="http").with_rate(10)

    assert isinstance(await policy.call(scripted(Hostile())), Hostile)


def _too_long() -> list[dict[str, str]]:
    return [
        {"Retry-After": str(HOURS_114)},
        {"Retry-After": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 4e5))},
        {"retry-after-ms": str(HOURS_114 * 1000)},
        {**USED_UP, "x-ratelimit-reset-requests": "114h0m0s"},
    ]


@pytest.mark.parametrize("headers", _too_long(), ids=["seconds", "date", "ms", "quota"])
async def test_a_delay_of_114_hours_is_not_slept_without_a_pool(headers: dict[str, str]):
    """The call ends at once with the real failure; the limit holds others for two minutes."""
    policy = Policy().with_retry(attempts=3).with_rate(10)
    operation = scripted(Refused(429, headers), then="done")

    with pytest.raises(Refused):
        await policy.call(operation)
    paused = _paused_for(policy)

    assert operation.times == [0.0]
    assert paused == pytest.approx(120.0)
    assert await policy.call(operation) == "done"
    assert operation.times == [0.0, pytest.approx(120.0)]


@pytest.mark.parametrize("headers", _too_long(), ids=["seconds", "date", "ms", "quota"])
async def test_a_delay_of_114_hours_rests_the_resource_while_another_serves(
    headers: dict[str, str],
):
    """The call does not sleep at all; the resource rests as long as the pool allows."""
    pool = Pool({"a": "1", "b": "2"}, pick="primary_backup", max_cooldown=7200)
    policy = Policy().with_retry(attempts=3).with_rate(10).rotating(pool)
    used: list[str] = []

    async def operation(key: Resource[str]) -> str:
        used.append(key.id)
        if key.id == "a":
            raise Refused(429, headers)
        return "done"

    assert await policy.call(operation) == "done"

    assert used == ["a", "b"]
    assert _paused_for(policy) == 0.0
    assert pool.snapshot()["resources"]["a"]["cooling_for"] == pytest.approx(7200)


async def test_a_delay_of_114_hours_ends_the_call_where_no_other_resource_is_left():
    """The last key rests, and the failure is the caller's to know of."""
    pool = Pool({"a": "1"}, max_cooldown=7200)
    policy = Policy().with_retry(attempts=3).rotating(pool)
    operation = scripted(Refused(429, {"Retry-After": str(HOURS_114)}), then="done")

    with pytest.raises(Refused):
        await policy.call(operation)

    assert operation.times == [0.0]
    assert pool.health().earliest_ready_in == pytest.approx(7200)


JUNK_DELAYS: list[Callable[[], dict[str, Any]]] = [
    lambda: {"Retry-After": "-5"},
    lambda: {"Retry-After": "inf"},
    lambda: {"Retry-After": "nan"},
    lambda: {"Retry-After": "soon"},
    lambda: {"Retry-After": "Sat, 99 Nov 2026 99:00:00 GMT"},
    lambda: {"Retry-After": "1" * 10_000},
    lambda: {"Retry-After": b"\xff\xfe"},
    lambda: {"Retry-After": "٣٠"},
    lambda: {"RateLimit": '"default";r=0;t=30;;;'},
]


@pytest.mark.parametrize("headers", JUNK_DELAYS)
async def test_a_delay_that_makes_no_sense_leaves_the_back_off(headers: Callable[[], Any]):
    """The call is tried again after our own wait, as if nothing had been said."""
    policy = Policy().with_retry(attempts=2, wait=3)
    operation = scripted(Refused(503, headers()), then="done")

    assert await policy.call(operation) == "done"

    assert operation.times == [0.0, 3.0]
