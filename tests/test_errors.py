"""The errors: what is caught by what, what they say, and that they travel between processes."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest

import penstock
from penstock import (
    BudgetExhaustedError,
    CallTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    ConfigError,
    CooldownResource,
    DisableResource,
    InvalidResultError,
    NoResourceError,
    Policy,
    PolicyError,
    PolicyOrderWarning,
    PoolStoppedError,
    RateLimitedError,
    RejectedError,
    RemoteError,
    RestartWorker,
    SkipTask,
    StopPool,
    TripBreaker,
    TryAgain,
    WorkerDiedError,
)
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time

REJECTIONS = (
    CircuitOpenError,
    RateLimitedError,
    ConcurrencyLimitedError,
    NoResourceError,
    BudgetExhaustedError,
)


def test_one_except_catches_all_that_penstock_raises():
    """And the built-in names catch what they would."""
    for error in (*REJECTIONS, RejectedError, CallTimeoutError, ConfigError, InvalidResultError):
        assert issubclass(error, PolicyError)
    assert all(issubclass(error, RejectedError) for error in REJECTIONS)
    assert issubclass(CallTimeoutError, TimeoutError)
    assert issubclass(CallTimeoutError, asyncio.TimeoutError)
    assert issubclass(ConfigError, ValueError)
    assert issubclass(PolicyOrderWarning, UserWarning)
    assert not issubclass(CallTimeoutError, RejectedError)


def test_signals_are_no_errors_of_the_policy():
    """An operation raises them; ``except PolicyError`` round it must not swallow them."""
    for signal in (CooldownResource, DisableResource, TryAgain):
        assert issubclass(signal, Exception)
        assert not issubclass(signal, PolicyError)


TRAVELLERS = [
    PolicyError("what happened"),
    ConfigError("retry: 'attempts' must be ..."),
    *(error("full", retry_after=12.5) for error in (RejectedError, *REJECTIONS)),
    RejectedError("nobody knows"),
    RejectedError(),
    CallTimeoutError("too late", seconds=5.0),
    CallTimeoutError(),
    InvalidResultError("3 attempts", results=(1, None), failures=(KeyError("k"),)),
    CooldownResource(),
    CooldownResource(30),
    CooldownResource(30, "429"),
    CooldownResource(reason="429"),
    DisableResource("revoked"),
    TryAgain(),
    TryAgain("not ready", after=2),
    RestartWorker("out of memory"),
    SkipTask("nothing to do"),
    TripBreaker("the site is down"),
    StopPool("no money"),
    PoolStoppedError("it was stopped"),
    WorkerDiedError("worker-0 was killed by SIGKILL"),
    RemoteError(
        "no",
        type_name="sdk.BadError",
        status_code=503,
        headers={"retry-after": "2"},
        traceback_text="Traceback ...",
    ),
    PolicyOrderWarning("order"),
]


def _facts(error: BaseException) -> Any:
    attributes = {k: repr(v) for k, v in vars(error).items()}
    return type(error), str(error), error.args, attributes


@pytest.mark.parametrize("error", TRAVELLERS, ids=repr)
@pytest.mark.parametrize("how", ["pickle", "copy", "deepcopy"])
def test_an_error_arrives_as_it_was_sent(error: BaseException, how: str):
    """With its message, its attributes and its notes: worker processes send them back."""
    error = copy.copy(error)
    error.add_note("penstock: gave up after 3 attempts")
    ways: dict[str, Any] = {
        "pickle": lambda: pickle.loads(pickle.dumps(error)),
        "copy": lambda: copy.copy(error),
        "deepcopy": lambda: copy.deepcopy(error),
    }

    arrived = ways[how]()

    assert _facts(arrived) == _facts(error)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "30", 10**400])
def test_a_signal_takes_only_seconds_that_can_be_waited(seconds: Any):
    """The mistake is seen where it is made, and not in the middle of a retry."""
    with pytest.raises(ConfigError, match=r"CooldownResource\.seconds must be a finite number"):
        CooldownResource(seconds)
    with pytest.raises(ConfigError, match=r"TryAgain\.after must be a finite number"):
        TryAgain(after=seconds)


def test_every_error_that_can_be_imported_is_tried_above():
    """A new one has to be added here."""
    public = {getattr(penstock, name) for name in penstock.__all__}
    errors = {e for e in public if isinstance(e, type) and issubclass(e, Exception)}

    assert errors == {type(error) for error in TRAVELLERS}


def test_what_a_rejection_says_of_its_return_can_be_left_out():
    """None means that nobody knows."""
    assert RejectedError("no").retry_after is None
    assert CallTimeoutError("late").seconds is None
    assert InvalidResultError("bad").results == ()
    assert InvalidResultError("bad").failures == ()


@pytest.mark.parametrize(
    ("policy", "script", "calls", "message"),
    [
        (
            Policy("search").with_breaker(failures=1, recover_after=12.5),
            [ConnectionError],
            2,
            "circuit 'search' is open; retry after 12.5 s",
        ),
        (
            Policy("search").with_rate("10/min", max_wait=0),
            ["ok"] * 10,
            11,
            "policy 'search': the rate limit of 10/60s is reached; retry after 60 s",
        ),
        (
            Policy("search").with_concurrency(1, max_queue=0),
            [takes(5)],
            2,
            "policy 'search': all 1 permits are taken and 0 calls wait already",
        ),
        (
            Policy("search").with_timeout(5),
            [takes(9)],
            1,
            "policy 'search': the call timed out after 5 s",
        ),
        (
            Policy("search").with_retry(2, wait=0, accept=bool),
            [0, 0],
            1,
            "no result was accepted after 2 attempts in 0.000 s: attempts spent",
        ),
    ],
    ids=["breaker", "rate", "concurrency", "timeout", "retry"],
)
async def test_a_message_says_who_what_and_when(
    policy: Policy, script: list[Any], calls: int, message: str
):
    """Lower case, value and unit, what to do."""
    operation = scripted(*script)

    tasks = []
    for _ in range(calls):
        tasks.append(asyncio.ensure_future(policy.call(operation)))
        await asyncio.sleep(0)
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert str(ended[-1]) == message


async def test_an_error_is_raised_once_and_never_reused():
    """Two callers that are refused get two objects: each has its own traceback."""
    policy = Policy().with_breaker(failures=1)
    with pytest.raises(ConnectionError):
        await policy.call(scripted(ConnectionError))

    errors = await asyncio.gather(
        *(policy.call(scripted()) for _ in range(2)), return_exceptions=True
    )

    assert [type(error) for error in errors] == [CircuitOpenError] * 2
    assert errors[0] is not errors[1]
