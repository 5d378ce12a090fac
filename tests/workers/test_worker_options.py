"""What a pool of workers refuses when it is built."""

from __future__ import annotations

import math
from typing import Any

import pytest

from penstock import ConfigError, Policy
from penstock.workers import WorkerPool
from penstock.workers.crew import Makes


class Plain:
    """A worker that does nothing."""

    async def work(self) -> None:
        """Do nothing."""


def refused(**options: Any) -> str:
    """Return what the error says."""
    with pytest.raises(ConfigError) as caught:
        WorkerPool(Plain, **options)
    return str(caught.value)


COUNTS = ("size", "max_size", "per_worker", "queue", "restart_every", "max_restarts")

ABOVE_ZERO = (
    "idle_timeout",
    "start_timeout",
    "stop_timeout",
    "restart_window",
    "health_interval",
    "health_timeout",
)


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 2.5, True, math.nan, math.inf, "4"])
def test_counts_are_whole_numbers_from_one(field: str, value: Any) -> None:
    """The error names the field, the value and what is allowed."""
    message = refused(**{field: value})

    assert f"'{field}' must be a whole number of at least 1" in message
    assert repr(value) in message


@pytest.mark.parametrize("field", ABOVE_ZERO)
@pytest.mark.parametrize("value", [0, -1, True, math.nan, math.inf, "4", None])
def test_times_are_finite_and_above_zero(field: str, value: Any) -> None:
    """A time of nothing would cut everything, and no time at all would hang."""
    message = refused(**{field: value})

    assert f"'{field}' must be a finite number of seconds" in message
    assert repr(value) in message


@pytest.mark.parametrize("value", [-1, True, math.nan, math.inf, None])
def test_start_interval_may_be_zero_and_not_less(value: Any) -> None:
    """Workers may start all at once."""
    assert "'start_interval' must be a finite number of seconds" in refused(start_interval=value)


@pytest.mark.parametrize("value", [(), (-1,), (math.nan,), "fast"])
def test_restart_delays_are_seconds_and_not_empty(value: Any) -> None:
    """An empty table would leave nothing to wait for."""
    assert "'restart_delay' must be" in refused(restart_delay=value)


def test_max_size_is_not_below_size() -> None:
    """The two belong together."""
    assert "'max_size' must be at least 'size' (4), or None; got 3" in refused(max_size=3)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("mode", "fiber", "one of asyncio, thread, process, ray"),
        ("policy_per", "job", "one of pool, worker"),
        ("on_cancel", "ignore", "one of kill, finish"),
        ("start_method", "fork", "one of forkserver, spawn"),
        ("policy", "fast", "a Policy"),
        ("escalation", 3, "an Escalation"),
        ("ray_options", [1], "a dict of actor options by name"),
        ("on_drop", 3, "a function, sync or async"),
        ("name", "", "text"),
    ],
)
def test_unknown_words_are_refused(field: str, value: Any, allowed: str) -> None:
    """The error lists what there is."""
    message = refused(**{field: value})

    assert f"'{field}' must be" in message
    assert repr(value) in message
    assert allowed in message


def test_an_unknown_option_is_refused_by_its_name() -> None:
    """A misspelt option is not silently left out."""
    with pytest.raises(TypeError, match="sise"):
        WorkerPool(Plain, sise=4)


def test_a_policy_object_is_accepted() -> None:
    """The pipeline of jobs is a policy like any other."""
    pool = WorkerPool(Plain, policy=Policy("p").with_retry(attempts=2))

    assert pool.options.policy is not None


def test_prebuilt_workers_cannot_move_to_another_process() -> None:
    """T2: they are where they were made."""
    makes = Makes.of_workers([Plain()])

    for mode in ("process", "ray"):
        with pytest.raises(ConfigError, match=rf"'mode' must be 'asyncio' or 'thread'.*'{mode}'"):
            makes.options({"mode": mode})


@pytest.mark.parametrize("field", ["size", "max_size"])
def test_prebuilt_workers_are_as_many_as_there_are(field: str) -> None:
    """T2: their number is no option."""
    with pytest.raises(ConfigError, match=f"'{field}' must be left out"):
        Makes.of_workers([Plain()]).options({field: 1})


def test_no_prebuilt_worker_is_refused() -> None:
    """T2: a pool of nobody serves nobody."""
    with pytest.raises(ConfigError, match="'workers' must be a list of at least one worker"):
        Makes.of_workers([])


def test_a_prebuilt_worker_given_twice_is_refused() -> None:
    """T2: one object would be started twice and serve two calls at a time."""
    worker = Plain()

    with pytest.raises(ConfigError, match="different objects; got the same Plain twice"):
        Makes.of_workers([worker, Plain(), worker])
