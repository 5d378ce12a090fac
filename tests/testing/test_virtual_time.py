from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiolimiter import AsyncLimiter

from penstock import clock
from penstock.testing import Deadlock, VirtualTimeLoop, run

STARTS = [0.0, 1e9, 1e15]


@pytest.mark.parametrize("start", STARTS)
def test_a_day_of_sleeps_takes_no_time(start: float) -> None:
    """The clock jumps from timer to timer, also where two floats lie far apart."""

    async def main() -> float:
        for _ in range(24 * 60):
            await asyncio.sleep(60)
        return asyncio.get_running_loop().time()

    began = time.perf_counter()
    ended_at = run(main(), start=start)

    assert ended_at == start + 86_400
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("start", STARTS)
def test_sleepers_wake_in_the_order_of_their_timers(start: float) -> None:
    """Time passes as on a real loop: the shortest sleep ends first."""
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(asyncio.get_running_loop().time() - start)

    async def main() -> None:
        await asyncio.gather(*(sleep(seconds) for seconds in (3, 1, 2, 1)))

    run(main(), start=start)

    assert woken == [1, 1, 2, 3]


@pytest.mark.parametrize("start", STARTS)
def test_a_timer_shorter_than_the_clock_can_tell_still_fires(start: float) -> None:
    """At 1e15 s a microsecond is less than the gap between two floats."""

    async def main() -> str:
        await asyncio.sleep(1e-6)
        return "awake"

    assert run(main(), start=start) == "awake"


def test_a_sleep_of_years_is_one_jump() -> None:
    """Real loops look again every day; this one has nothing to look for."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        before = loop.steps
        await asyncio.sleep(10 * 365 * 86_400)
        return loop.steps - before

    assert run(main()) <= 4


@pytest.mark.parametrize("start", [math.nan, math.inf, -math.inf])
def test_a_start_that_is_not_finite_is_refused(start: float) -> None:
    """Such a clock could never advance."""
    with pytest.raises(ValueError, match="start must be a finite number of seconds"):
        VirtualTimeLoop(start)


def test_the_clock_of_penstock_is_virtual_while_the_loop_runs() -> None:
    """Stages read the loop's time inside, and real time again afterwards."""

    async def main() -> tuple[float, float]:
        before = clock.now()
        await asyncio.sleep(5)
        return before, clock.now()

    assert run(main(), start=100.0) == (100.0, 105.0)
    assert clock.now is time.monotonic


def test_the_clock_is_real_again_after_a_failure() -> None:
    """A test that fails does not leave virtual time to the next one."""

    async def main() -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        run(main())

    assert clock.now is time.monotonic


def test_waiting_for_what_cannot_come_is_a_deadlock() -> None:
    """The error counts the waiting tasks and says where each of them waits."""

    async def waits_for_nothing() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.gather(waits_for_nothing(), waits_for_nothing())

    with pytest.raises(Deadlock) as deadlock:
        run(main())

    message = str(deadlock.value)
    assert message.startswith("deadlock: 3 tasks wait and nothing is scheduled\n")
    assert message.count("in waits_for_nothing > locks.py:") == 2


def test_a_deadlock_of_one_task_is_told_in_the_singular() -> None:
    """The message reads well with one task too."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match="deadlock: 1 task waits and nothing is scheduled"):
        run(main())


def test_the_places_of_generators_and_other_awaitables_are_told_too() -> None:
    """Old-style generators are followed, anything else is shown by its repr."""

    class Forever:
        def __await__(self) -> Any:
            yield from asyncio.get_running_loop().create_future()

    async def in_a_generator() -> None:
        await Forever()

    async def main() -> None:
        await in_a_generator()

    with pytest.raises(Deadlock, match=r"in main > .* in in_a_generator > .* in __await__"):
        run(main())


def test_a_sleep_without_end_is_a_deadlock() -> None:
    """A timer at infinity never fires, so it is nothing to jump to."""

    async def main() -> None:
        await asyncio.sleep(math.inf)

    with pytest.raises(Deadlock):
        run(main())


def test_after_a_deadlock_the_tasks_are_cancelled_and_cleaned_up() -> None:
    """The ``finally`` blocks of the waiting tasks run before ``run`` returns."""
    cleaned: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append("yes")

    with pytest.raises(Deadlock):
        run(main())

    assert cleaned == ["yes"]


def test_a_worker_thread_takes_no_virtual_time() -> None:
    """The clock stands still until the thread is done, although a timer is scheduled."""
    gate = threading.Event()

    def work() -> str:
        gate.wait(5)
        return "done"

    async def main() -> tuple[str, float]:
        asyncio.get_running_loop().call_soon(threading.Timer(0.02, gate.set).start)
        async with asyncio.timeout(1000):
            result = await asyncio.to_thread(work)
        return result, clock.now()

    assert run(main()) == ("done", 0.0)


def test_a_worker_thread_without_any_timer_is_no_deadlock() -> None:
    """The loop waits for real while a thread is out."""

    async def main() -> float:
        return await asyncio.get_running_loop().run_in_executor(None, math.sqrt, 9)

    assert run(main()) == 3


def test_a_thread_that_takes_too_long_meets_its_timeout() -> None:
    """A timer whose wait has really passed fires, so a stuck thread does not hang the test."""
    gate = threading.Event()

    async def main() -> float:
        try:
            async with asyncio.timeout(0.05):
                await asyncio.to_thread(gate.wait, 5)
        except TimeoutError:
            return clock.now()
        finally:
            gate.set()
        raise AssertionError

    assert run(main()) == 0.05


def test_a_thread_of_the_callers_own_is_waited_for_on_request() -> None:
    """``outside_work`` holds the clock for threads that the loop cannot know of."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        arrived = loop.create_future()
        thread = threading.Thread(
            target=lambda: loop.call_soon_threadsafe(arrived.set_result, "here")
        )
        with loop.outside_work():
            thread.start()
            async with asyncio.timeout(1000):
                await arrived
        thread.join()
        return clock.now()

    assert run(main()) == 0.0


def test_a_wait_for_outside_work_that_ends_without_news_goes_on() -> None:
    """A selector may return early; that is no deadlock while a thread is out."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        with loop.outside_work():
            loop._jump()
        return "still here"

    assert run(main()) == "still here"


def test_a_signal_handler_runs() -> None:
    """The loop looks at its wake-up descriptor in every step."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, arrived.set)
        loop.call_later(3, os.kill, os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(arrived.wait(), 10)
        return clock.now()

    assert run(main()) == 3


async def _spins() -> None:
    asyncio.get_running_loop().call_later(100, os.kill, os.getpid(), signal.SIGINT)
    while True:  # noqa: ASYNC110 - it is meant to spin
        await asyncio.sleep(1)


async def _waits_for_a_thread() -> None:
    gate = threading.Event()
    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        await asyncio.to_thread(gate.wait, 5)
    finally:
        gate.set()


@pytest.mark.parametrize("main", [_spins, _waits_for_a_thread])
def test_ctrl_c_ends_it(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """An interrupt reaches a loop that jumps for ever as well as one that waits for a thread."""
    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_sockets_are_waited_for_when_nothing_is_scheduled() -> None:
    """A descriptor that may become readable is something that can still happen."""

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            threading.Timer(0.02, there.send, (b"hello",)).start()
            return await loop.sock_recv(here, 5)

    assert run(main()) == b"hello"


def test_loops_one_after_another_do_not_share_anything() -> None:
    """Each starts at its own second."""

    async def main() -> float:
        await asyncio.sleep(1)
        return clock.now()

    assert [run(main()), run(main(), start=50), run(main())] == [1, 51, 1]


async def test_timers_a_rounding_error_too_early_do_not_hold_the_clock():
    """Aiolimiter sets a timer for now, again and again, until its sum of floats has room."""
    limiter = AsyncLimiter(7, 3)

    for _ in range(40):
        await limiter.acquire()

    assert asyncio.get_running_loop().time() == pytest.approx(33 * 3 / 7, abs=1e-6)
