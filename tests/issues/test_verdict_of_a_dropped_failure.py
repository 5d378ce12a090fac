"""A failure that took a dropped one's place in memory got that one's verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock import Policy, VerdictKind
from penstock.events import AttemptEnded
from penstock.testing import EventLog

pytestmark = pytest.mark.virtual_time


class Worse(Exception):  # noqa: N818 - as large in memory as any other exception without arguments
    """What a custom stage raises when it gives up."""


def _failing(*kinds: type[Exception]) -> Callable[[], Any]:
    left = list(kinds)

    async def operation() -> None:
        raise left.pop(0)("same size")

    return operation


async def test_a_custom_stage_may_drop_a_failure_and_call_again():
    """Each attempt's failure has its own verdict."""

    async def again(call: Any, call_next: Any) -> Any:
        try:
            return await call_next(call)
        except RuntimeError:
            pass
        return await call_next(call)

    log = EventLog()
    policy = Policy(observers=[log]).with_stage(again).with_breaker()

    with pytest.raises(ValueError, match="same size"):
        await policy.call(_failing(RuntimeError, ValueError))

    kinds = [event.verdict for event in log.of(AttemptEnded)]
    assert kinds == [VerdictKind.UNKNOWN, VerdictKind.CALLER_BUG]


async def test_a_custom_stage_may_drop_a_failure_and_raise_its_own():
    """A stage further out judges what it gets, not what has gone."""

    async def gives_up(call: Any, call_next: Any) -> Any:
        failed = False
        try:
            return await call_next(call)
        except ValueError:
            failed = True
        assert failed
        raise Worse("same size")

    policy = Policy().with_breaker(failures=1).with_stage(gives_up).with_rate(100)

    with pytest.raises(Worse):
        await policy.call(_failing(ValueError))

    assert policy.snapshot()["stages"][0]["state"] == "open"
