"""Test a policy: half an hour of waiting in a millisecond, to the exact second.

Run it with pytest: pytest recipes/06_test_in_virtual_time.py
"""

import pytest

from penstock import Observer, Policy, PolicyError
from penstock.events import RetryScheduled
from penstock.stages.retry import Exponential
from penstock.testing import EventLog, scripted, takes


def payment_policy(*observers: Observer) -> Policy:
    """The code under test."""
    return (
        Policy("payment", observers=observers)
        .with_timeout(3600)
        .with_retry(attempts=5, wait=Exponential(initial=60, max=600, jitter="none"))
        .with_timeout(30)
    )


@pytest.mark.virtual_time
async def test_back_off_doubles_from_a_minute() -> None:
    log = EventLog()
    pay = scripted(ConnectionError, ConnectionError, ConnectionError, "paid")

    result = await payment_policy(log).call(pay)

    assert result == "paid"
    assert pay.times == [0, 60, 180, 420]  # seconds, exactly
    assert [event.delay for event in log.of(RetryScheduled)] == [60, 120, 240]


@pytest.mark.virtual_time
async def test_a_hanging_attempt_is_cut_off_after_30_s() -> None:
    pay = scripted(takes(1000), "paid")

    await payment_policy().call(pay)

    assert pay.times == [0, 30 + 60]


@pytest.mark.virtual_time
async def test_a_declined_card_is_not_charged_twice() -> None:
    pay = scripted(ValueError("declined"))  # a second call would be an error of the script

    with pytest.raises(ValueError, match="declined") as caught:
        await payment_policy().call(pay)

    assert not isinstance(caught.value, PolicyError)  # the last failure, as it is
