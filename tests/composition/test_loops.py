"""One policy and several event loops: one after another, left in the lurch, and two at once."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pybreaker
import pytest

from penstock import CallTimeoutError, Policy, PolicyError
from penstock.testing import VirtualTimeLoop, scripted, takes

try:
    import uvloop
except ImportError:  # it is not there on Windows
    uvloop = None

Factory = Callable[[], asyncio.AbstractEventLoop]

LOOPS: dict[str, list[Factory]] = {
    "virtual": [VirtualTimeLoop],
    "asyncio": [asyncio.new_event_loop],
}
if uvloop is not None:
    LOOPS["uvloop"] = [uvloop.new_event_loop]
    LOOPS["mixed"] = [asyncio.new_event_loop, uvloop.new_event_loop]


def _five() -> Policy:
    return (
        Policy("five")
        .with_retry(3, wait=0.01)
        .with_rate("50/50ms")
        .with_breaker(failures=3, recover_after=0.02)
        .with_concurrency(2)
        .with_timeout(5)
    )


POLICIES: dict[str, Callable[[], Policy]] = {
    "fallback": lambda: Policy().with_fallback(value="done"),
    "budget": lambda: Policy().with_budget().with_retry(2, wait=0),
    "retry": lambda: Policy().with_retry(3, wait=0.01),
    "rate": lambda: Policy().with_rate("5/10ms"),
    "bucket": lambda: Policy().with_rate("5/10ms", burst=1),
    "breaker": lambda: Policy().with_breaker(failures=3, recover_after=0.02),
    "pybreaker": lambda: Policy().with_breaker(pybreaker.CircuitBreaker(fail_max=3)),
    "concurrency": lambda: Policy().with_concurrency(2),
    "timeout": lambda: Policy().with_timeout(5),
    "using": lambda: Policy().using(timeout=5),
    "five": _five,
}


def _run(factory: Factory, main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def _balance(policy: Policy) -> dict[str, int]:
    held = ("in_flight", "waiting", "running", "probes_out")
    stages = policy.snapshot()["stages"]
    return {
        f"{stage['stage']}.{name}": stage[name]
        for stage in stages
        for name in held
        if stage.get(name)
    }


# --- one after another ------------------------------------------------------------------------


@pytest.mark.finding(12)
@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("name", POLICIES)
def test_one_policy_serves_one_loop_after_another(name: str, loops: str):
    """Ten calls that contend with each other, in each of three loops."""
    policy = POLICIES[name]()
    factories = itertools.cycle(LOOPS[loops])

    for _ in range(3):
        operation = scripted(then=takes(0.002, "done"))

        async def main(operation: Any = operation) -> list[str]:
            return await asyncio.gather(*(policy.call(operation) for _ in range(10)))

        assert _run(next(factories), main()) == ["done"] * 10
        assert _balance(policy) == {}


@pytest.mark.parametrize("loops", LOOPS)
def test_each_loop_has_its_timeouts(loops: str):
    """The timer of a loop that has ended does not stand for that of the next."""
    policy, factories = Policy().with_timeout(0.02), itertools.cycle(LOOPS[loops])

    async def main() -> None:
        with pytest.raises(CallTimeoutError):
            await policy.call(scripted(takes(5)))

    for _ in range(4):
        _run(next(factories), main())


@pytest.mark.parametrize("loops", LOOPS)
def test_a_timer_that_was_never_due_does_not_count_in_the_next_loop(loops: str):
    """It was armed in a loop that ended before it: the next loop arms one of its own."""
    policy, factories = Policy().with_timeout(0.02), itertools.cycle(LOOPS[loops])

    async def in_time() -> None:
        await policy.call(scripted("done"))

    async def too_late() -> None:
        with pytest.raises(CallTimeoutError):
            await policy.call(scripted(takes(5)))

    _run(next(factories), in_time())
    _run(next(factories), too_late())


@pytest.mark.parametrize("loops", LOOPS)
def test_what_was_counted_in_one_loop_counts_in_the_next(loops: str):
    """Failures, starts and payments are facts about the service, not about the loop."""
    policy = Policy().with_budget().with_retry(2, wait=0).with_breaker(failures=9)
    factories = itertools.cycle(LOOPS[loops])

    async def main() -> list[dict[str, Any]]:
        with pytest.raises(ConnectionError):
            await policy.call(scripted(then=ConnectionError))
        stages: list[dict[str, Any]] = policy.snapshot()["stages"]
        return stages

    for _ in range(3):
        budget, _, breaker = _run(next(factories), main())

    assert breaker["failures"] == 6
    assert (budget["calls"], budget["spent"]) == (3, 3)


# --- left behind ------------------------------------------------------------------------------


def _abandon(factory: Factory, *operations: Coroutine[Any, Any, Any]) -> list[Any]:
    """Close a loop without a word to its tasks; return them, so that nothing collects them."""
    loop = factory()
    tasks: list[Any] = [loop.create_task(operation) for operation in operations]
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    for task in tasks:
        if hasattr(task, "_log_destroy_pending"):
            task._log_destroy_pending = False
    loop.close()
    return tasks


@pytest.fixture
def held() -> Iterator[list[Any]]:
    """Keep the tasks of dead loops for the length of a test."""
    # What was there before need not be looked at by each collection of the test.
    gc.freeze()
    tasks: list[Any] = []
    yield tasks
    tasks.clear()
    gc.collect()
    gc.unfreeze()


@pytest.mark.finding(12)
@pytest.mark.parametrize("is_collected", [False, True], ids=["kept", "collected"])
@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("name", POLICIES)
def test_what_a_dead_loop_held_is_free_in_the_next(
    name: str, loops: str, held: list[Any], *, is_collected: bool
):
    """Permits, places in line, timers: whether its tasks are still referred to or not."""
    policy, factories = POLICIES[name](), itertools.cycle(LOOPS[loops])
    never = scripted(then=takes(1000))

    for _ in range(2):
        held += _abandon(next(factories), *(policy.call(never) for _ in range(5)))
        if is_collected:
            held.clear()
            gc.collect()

        async def main() -> list[str]:
            operation = scripted(then="done")
            calls = (policy.using(timeout=9).call(operation) for _ in range(4))
            return await asyncio.gather(*calls)

        assert _run(next(factories), main()) == ["done"] * 4
        assert _balance(policy) == {}


@pytest.mark.parametrize("loops", LOOPS)
def test_a_probe_left_by_a_dead_loop_is_let_in_again(loops: str, held: list[Any]):
    """Otherwise the circuit would stay half-open for ever."""
    policy = Policy().with_breaker(failures=1, recover_after=0.001)
    factories = itertools.cycle(LOOPS[loops])

    async def fail() -> None:
        with pytest.raises(ConnectionError):
            await policy.call(scripted(ConnectionError))
        await asyncio.sleep(0.002)

    async def probe() -> Any:
        return await policy.call(scripted("back"))

    _run(next(factories), fail())
    # A virtual loop starts at zero each time: the next one begins after the open time.
    later: Factory = (lambda: VirtualTimeLoop(5.0)) if loops == "virtual" else next(factories)
    held += _abandon(later, policy.call(scripted(takes(1000))))
    left = policy.snapshot()["stages"][0]["probes_out"]

    assert left == 1
    assert _run(later, probe()) == "back"
    assert policy.snapshot()["stages"][0]["state"] == "closed"


@pytest.mark.parametrize("loops", LOOPS)
def test_a_late_end_of_a_dead_loop_moves_nothing_in_the_next(loops: str, held: list[Any]):
    """Its tasks are collected while calls of the next loop hold what had been theirs."""
    policy, factories = _five(), itertools.cycle(LOOPS[loops])
    held += _abandon(next(factories), *(policy.call(scripted(takes(1000))) for _ in range(5)))

    async def main() -> dict[str, int]:
        calls = [asyncio.create_task(policy.call(scripted(takes(0.05)))) for _ in range(3)]
        await asyncio.sleep(0.01)
        held.clear()
        gc.collect()
        during = _balance(policy)
        await asyncio.gather(*calls)
        return during

    assert _run(next(factories), main()) == {
        "concurrency.in_flight": 2,
        "concurrency.waiting": 1,
        "timeout.running": 2,
    }
    assert _balance(policy) == {}


def test_two_loops_may_take_turns_in_one_thread():
    """Neither is closed and neither runs while the other does; both keep their own timers."""
    policy = Policy().with_concurrency(1).with_rate("5/10ms").with_timeout(0.5)
    loops = [asyncio.new_event_loop() for _ in range(2)]
    operation = scripted(then=takes(0.001, "done"))

    async def main() -> list[str]:
        return await asyncio.gather(*(policy.call(operation) for _ in range(3)))

    try:
        for loop in loops * 3:
            assert loop.run_until_complete(main()) == ["done"] * 3
    finally:
        for loop in loops:
            loop.close()
    assert _balance(policy) == {}


# --- two at once ------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("loops", [name for name in LOOPS if name != "virtual"])
@pytest.mark.parametrize("name", POLICIES)
def test_two_running_loops_work_or_are_told_what_to_do(name: str, loops: str):
    """No other error, no call that hangs, and the books balance afterwards."""
    policy, outcomes = POLICIES[name](), []
    factories = itertools.cycle(LOOPS[loops])
    both_run = threading.Barrier(2)

    async def main() -> None:
        both_run.wait(5)
        operation = scripted(then=takes(0.001, "done"))
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            calls = (policy.call(operation) for _ in range(5))
            outcomes.extend(await asyncio.gather(*calls, return_exceptions=True))
        both_run.wait(5)

    with ThreadPoolExecutor(2) as threads:
        for ran in [threads.submit(_run, next(factories), main()) for _ in range(2)]:
            ran.result(10)

    failures = [outcome for outcome in outcomes if outcome != "done"]
    others = {repr(failure) for failure in failures if type(failure) is not PolicyError}
    assert not others
    assert "done" in outcomes
    assert all("policy.fresh()" in str(failure) for failure in failures)

    async def afterwards() -> str:
        return await policy.call(scripted("served"))

    assert _run(asyncio.new_event_loop, afterwards()) == "served"
    assert _balance(policy) == {}


# Fallback and retry hold nothing for anybody else; a pybreaker has a lock of its own.
SHARED_BY_LOOPS = {"fallback", "retry", "pybreaker"}


@pytest.mark.integration
@pytest.mark.parametrize("is_made_at_home", [False, True], ids=["made there", "made at home"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_second_loop_is_refused_at_its_first_call_where_it_could_do_harm(
    name: str, *, is_made_at_home: bool
):
    """Also by a stage in which it would not even have to wait."""
    policy = POLICIES[name]()

    async def second() -> str:
        return await policy.call(scripted("second"))

    async def main() -> str:
        await policy.call(scripted("first"))
        # It may be made in the one loop's thread, and run in the other's.
        coroutine = policy.call(scripted("second")) if is_made_at_home else second()
        return await asyncio.to_thread(_run, asyncio.new_event_loop, coroutine)

    if name in SHARED_BY_LOOPS:
        assert _run(asyncio.new_event_loop, main()) == "second"
    else:
        with pytest.raises(PolicyError, match=r"another running event loop.*policy\.fresh\(\)"):
            _run(asyncio.new_event_loop, main())


@pytest.mark.integration
def test_a_fresh_copy_for_each_loop_is_the_way_out():
    """What the error advises works."""
    policy = _five()
    both_run = threading.Barrier(2)

    async def main(own: Policy) -> list[str]:
        both_run.wait(5)
        operation = scripted(then=takes(0.001, "done"))
        results = await asyncio.gather(*(own.call(operation) for _ in range(10)))
        both_run.wait(5)
        return results

    with ThreadPoolExecutor(2) as threads:
        ran = [threads.submit(_run, asyncio.new_event_loop, main(policy.fresh())) for _ in range(2)]
        results = [each.result(10) for each in ran]

    assert results == [["done"] * 10] * 2
