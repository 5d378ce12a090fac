from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from itertools import pairwise

import pytest
import tenacity
import tenacity.asyncio

from penstock import clock
from penstock.errors import ConfigError, InvalidResultError
from penstock.policy import Policy
from penstock.stages.retry import RetryOptions
from penstock.stages.retry.adapter import is_tenacity, looks_at_results
from penstock.testing import scripted, takes
from penstock.verdict import TryAgain

pytestmark = pytest.mark.virtual_time


def policy_of(**options):
    """Return a policy of one retry stage that waits 1 s, if nothing else is said."""
    return Policy("p").with_retry(**{"wait": 1, **options})


async def failure_of(policy, operation):
    """Call until it fails; return the failure."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - it is looked at
        await policy.call(operation)
    return caught.value


class Own(tenacity.wait.wait_base):
    """A user's own wait class."""

    def __call__(self, retry_state):
        """Wait as long as the call has slept so far, and one second."""
        assert retry_state.next_action is None
        return retry_state.idle_for + 1


@pytest.mark.parametrize(
    ("wait", "times"),
    [
        (tenacity.wait_fixed(3), [0, 3, 6, 9]),
        (tenacity.wait_none(), [0, 0, 0, 0]),
        (tenacity.wait_incrementing(start=1, increment=2), [0, 1, 4, 9]),
        (tenacity.wait_exponential(multiplier=1, max=3), [0, 1, 3, 6]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [0, 3, 6, 9]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(5)), [0, 1, 6, 11]),
        (tenacity.wait_exception(lambda failure: failure.args[0]), [0, 7, 14, 21]),
        (Own(), [0, 1, 3, 7]),
    ],
    ids=["fixed", "none", "incrementing", "exponential", "combine", "chain", "exception", "own"],
)
async def test_wait_objects_wait_as_in_their_own_loop(wait, times):
    """Differential: the same calls at the same times as `AsyncRetrying` makes them."""
    ours, theirs = scripted(then=OSError(7)), scripted(then=OSError(7))
    policy = policy_of(attempts=4, wait=wait)
    loop = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(4), wait=wait, reraise=True)

    await failure_of(policy, ours)
    began = clock.now()
    with pytest.raises(OSError, match="7"):
        await loop(theirs)

    assert ours.times == times
    assert [at - began for at in theirs.times] == pytest.approx(times)


@pytest.mark.parametrize(
    "wait",
    [
        tenacity.wait_random_exponential(multiplier=1, max=4),
        tenacity.wait_exponential_jitter(1, max=4, jitter=1),
        tenacity.wait_random(1, 4),
    ],
    ids=["random exponential", "exponential jitter", "random"],
)
async def test_random_waits_stay_within_their_bounds(wait):
    """Their own randomness is used."""
    operation = scripted(then=OSError)

    await failure_of(policy_of(attempts=5, wait=wait), operation)

    pauses = [b - a for a, b in pairwise(operation.times)]
    assert all(0 <= pause <= 4.001 for pause in pauses)


@pytest.mark.parametrize("seconds", [float("nan"), float("-inf"), -5])
async def test_a_wait_that_is_no_wait_is_clamped(seconds):
    """Nothing of theirs can make the loop sleep forever or raise."""
    operation = scripted(OSError, "ok")

    await policy_of(wait=tenacity.wait_exception(lambda _: seconds)).call(operation)

    assert operation.times == [0, 0]


@pytest.mark.parametrize(
    ("stop", "calls"),
    [
        (tenacity.stop_after_attempt(5), 5),
        (tenacity.stop_after_delay(3), 4),
        (tenacity.stop_before_delay(3), 3),
        (tenacity.stop_after_attempt(5) | tenacity.stop_after_delay(2), 3),
        (tenacity.stop_after_attempt(2) & tenacity.stop_after_delay(3), 4),
    ],
    ids=["attempt", "after delay", "before delay", "any", "all"],
)
async def test_stop_objects_stop_where_their_own_loop_does(stop, calls):
    """After as many calls as tenacity documents, with one second between the attempts."""
    ours = scripted(then=OSError)

    await failure_of(policy_of(stop=stop), ours)

    assert len(ours.times) == calls


async def test_stop_before_delay_sees_the_pause_that_is_really_coming():
    """A server's hint makes it longer than the back-off."""
    operation = scripted(TryAgain(after=50), "ok")

    await failure_of(policy_of(stop=tenacity.stop_before_delay(10)), operation)

    assert len(operation.times) == 1


async def passes(failure):
    """Be an async predicate of a failure."""
    await asyncio.sleep(0)
    return "soft" in str(failure)


SOFT = OSError("soft")
HARD = OSError("hard")


@pytest.mark.parametrize(
    ("retry_on", "failure", "calls"),
    [
        (tenacity.retry_if_exception_type(OSError), SOFT, 3),
        (tenacity.retry_if_exception_type(KeyError), SOFT, 1),
        (tenacity.retry_if_not_exception_type(OSError), SOFT, 1),
        (tenacity.retry_if_exception_message(match="so"), SOFT, 3),
        (tenacity.retry_if_exception_message(match="so"), HARD, 1),
        (tenacity.asyncio.retry_if_exception(passes), SOFT, 3),
        (tenacity.asyncio.retry_if_exception(passes), HARD, 1),
        (
            tenacity.retry_any(
                tenacity.retry_if_exception_type(KeyError),
                tenacity.retry_if_exception_message("hard"),
            ),
            HARD,
            3,
        ),
        (
            tenacity.retry_if_exception_type(OSError) & tenacity.retry_if_exception_message("hard"),
            SOFT,
            1,
        ),
        (
            tenacity.asyncio.retry_any(
                tenacity.retry_never, tenacity.asyncio.retry_if_exception(passes)
            ),
            SOFT,
            3,
        ),
        ([KeyError, tenacity.retry_if_exception_type(OSError)], SOFT, 3),
        ([OSError, tenacity.retry_never], SOFT, 3),
        (tenacity.retry_never, TryAgain(), 3),
        (tenacity.retry_never, tenacity.TryAgain(), 3),
        (tenacity.retry_never, SOFT, 1),
    ],
    ids=range(15),
)
async def test_retry_objects_choose_the_failures(retry_on, failure, calls):
    """Sync and async, combined, and mixed with our own words."""
    operation = scripted(then=failure)

    assert await failure_of(policy_of(retry_on=retry_on), operation) is failure
    assert len(operation.times) == calls


async def is_empty(result):
    """Be an async predicate of a result."""
    await asyncio.sleep(0)
    return not result


@pytest.mark.parametrize(
    "retry_on",
    [
        tenacity.retry_if_result(lambda result: not result),
        tenacity.retry_if_not_result(bool),
        tenacity.asyncio.retry_if_result(is_empty),
        tenacity.retry_any(
            tenacity.retry_if_exception_type(), tenacity.retry_if_result(lambda r: not r)
        ),
    ],
    ids=["if", "if not", "async", "any"],
)
async def test_retry_objects_choose_the_results(retry_on):
    """A result is tried again, and is in the error at the end."""
    policy = policy_of(retry_on=retry_on)

    assert await policy.call(scripted("", "ok")) == "ok"
    failure = await failure_of(policy, scripted("", 0, ()))
    assert isinstance(failure, InvalidResultError)
    assert failure.results == ("", 0, ())


async def test_a_refused_response_is_a_result_to_them():
    """What travels as an exception inside of a policy is shown as the response it is."""
    policy = Policy("p", classify_result=lambda result: "overloaded" if not result else None)
    seen = []
    retry_on = tenacity.retry_if_result(lambda result: bool(seen.append(result)) or not result)

    assert await policy.with_retry(wait=0, retry_on=retry_on).call(scripted("", "ok")) == "ok"
    assert seen == ["", "ok"]


async def test_the_state_shows_what_tenacity_would_show():
    """Attempt, times, pauses, outcome, function and arguments."""
    seen = []

    def look(state):
        seen.append(
            (
                state.attempt_number,
                state.seconds_since_start,
                state.idle_for,
                state.upcoming_sleep,
                state.next_action.sleep,
                state.outcome.failed,
                state.outcome.attempt_number,
                state.args,
                state.kwargs,
            )
        )

    async def hook(state):
        look(state)

    operation = scripted(takes(1, SOFT), takes(1, SOFT), "ok")
    await policy_of(wait=2, before_sleep=hook).call(operation, "a", b="c")

    rest = (("a",), {"b": "c"})
    assert seen == [(1, 1, 2, 2, 2, True, 1, *rest), (2, 4, 4, 2, 2, True, 2, *rest)]


async def test_before_sleep_log_logs_as_it_does_there(caplog):
    """Their hook, unchanged."""
    caplog.set_level(logging.INFO)
    hook = tenacity.before_sleep_log(logging.getLogger("mine"), logging.INFO)

    await policy_of(before_sleep=hook).call(scripted(SOFT, "ok", name="search"))

    [record] = caplog.records
    assert "in 1 seconds as it raised OSError: soft." in record.message


async def test_a_before_sleep_hook_that_raises_changes_nothing(caplog):
    """It is logged, as every hook is."""

    def hook(state):
        raise RuntimeError("mine")

    assert await policy_of(before_sleep=hook).call(scripted(SOFT, "ok")) == "ok"
    assert "before_sleep raised" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wait", tenacity.stop_after_attempt(3)),
        ("wait", tenacity.retry_never),
        ("stop", tenacity.wait_fixed(1)),
        ("retry_on", tenacity.wait_fixed(1)),
        ("retry_on", [OSError, tenacity.stop_never]),
    ],
    ids=["stop as wait", "retry as wait", "wait as stop", "wait as retry", "stop in retry"],
)
def test_an_object_of_the_wrong_kind_is_refused(field, value):
    """It would be called with a state, and answer something else."""
    with pytest.raises(ConfigError, match=rf"retry: '{field}' must be .*tenacity"):
        RetryOptions(**{field: value})


@pytest.mark.parametrize(
    ("retry", "looks"),
    [
        (tenacity.retry_if_exception_type(OSError), False),
        (tenacity.retry_any(tenacity.retry_if_exception_type(OSError)), False),
        (tenacity.retry_if_result(bool), True),
        (tenacity.retry_all(tenacity.retry_if_result(bool)), True),
        (tenacity.retry_unless_exception_type(OSError), True),
        (tenacity.asyncio.retry_if_exception(passes), False),
        (tenacity.asyncio.retry_if_result(is_empty), True),
    ],
    ids=range(7),
)
def test_objects_that_let_all_results_pass_are_known(retry, looks):
    """They cost nothing on success; of any other class nobody can know."""
    assert looks_at_results(retry) is looks


def test_a_class_derived_from_theirs_is_theirs():
    """Where it is defined does not matter."""
    assert is_tenacity(Own(), "wait_base")
    assert not is_tenacity(Own(), "stop_base")
    assert not is_tenacity(3)


def test_tenacity_is_not_imported_unless_its_objects_are_given():
    """It is slow to import, and most policies do without."""
    code = (
        "import asyncio, sys\n"
        "from penstock.policy import Policy\n"
        "async def fail(): raise OSError\n"
        "policy = Policy('p').with_retry(attempts=2, wait=0, retry_on=OSError)\n"
        "try: asyncio.run(policy.call(fail))\n"
        "except OSError: pass\n"
        "sys.exit('tenacity' in sys.modules)\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
