"""How workers are asked how they are, and what becomes of those that are not well."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import clock
from penstock.testing import VirtualTimeLoop
from penstock.workers import Worker, WorkerPool

pytestmark = pytest.mark.virtual_time


class Patient:
    """A worker that says what the script tells it to say."""

    def __init__(self, log: list[str], script: dict[int, list[Any]]) -> None:
        self.log = log
        self.script = script

    async def start(self, index: int) -> None:
        self.index = index
        self.log.append(f"start {index} at {clock.now():g}")

    async def stop(self) -> None:
        self.log.append(f"stop {self.index} at {clock.now():g}")

    async def healthy(self) -> Any:
        answers = self.script.get(self.index, [])
        answer = answers.pop(0) if answers else True
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        return bool(answer)

    async def work(self, seconds: float = 0.0) -> int:
        await asyncio.sleep(seconds)
        return self.index


def timers() -> int:
    """Return how many timers the loop has."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return len([timer for timer in loop._scheduled if not timer.cancelled()])


@pytest.mark.parametrize(
    ("answer", "second"),
    [
        (False, 30),
        (OSError(), 30),
        (SystemExit(), 30),
        (asyncio.CancelledError(), 30),
        (1e9, 40),
    ],
    ids=["no", "error", "exit", "cancel", "silence"],
)
async def test_a_worker_that_is_not_well_is_replaced(answer: Any, second: int) -> None:
    """False, an exception and silence are all the same; the worker gets its ``stop``."""
    log: list[str] = []

    async with WorkerPool(Patient, log, {1: [answer]}, size=2) as pool:
        await asyncio.sleep(50)
        indexes = await asyncio.gather(pool.workers.work(1), pool.workers.work(1))

    assert log[2:4] == [f"stop 1 at {second}", f"start 1 at {second}"]
    assert sorted(indexes) == [0, 1]


async def test_workers_are_asked_side_by_side_and_again() -> None:
    """One round each interval: who is slow to answer keeps nobody waiting."""
    log: list[str] = []
    script: dict[int, list[Any]] = {0: [5.0], 1: [5.0, False]}

    async with WorkerPool(Patient, log, script, size=2):
        await asyncio.sleep(100)

    assert log[2:4] == ["stop 1 at 65", "start 1 at 65"]


async def test_calls_of_an_unhealthy_worker_are_run_elsewhere() -> None:
    """In the pool's own loop they are displaced, and their callers do not notice."""
    log: list[str] = []
    async with WorkerPool(Patient, log, {0: [False], 1: [True]}, size=2, per_worker=4) as pool:
        jobs = [await pool.submit("work", 50) for _ in range(4)]

        indexes = await asyncio.gather(*jobs)

        assert len(indexes) == 4
        assert clock.now() == 80, "two began anew at second 30"
    assert log[2:4] == ["stop 0 at 30", "start 0 at 30"]


async def test_a_call_that_ignores_its_cancel_is_left_behind() -> None:
    """A replacement waits ``stop_timeout`` for the calls of the old worker, no longer."""
    log: list[str] = []

    class Stubborn(Patient):
        async def work(self, seconds: float = 0.0) -> int:
            until = clock.now() + seconds
            while clock.now() < until:
                try:
                    await asyncio.sleep(until - clock.now())
                except asyncio.CancelledError:
                    self.log.append("no")
            return self.index

    async with WorkerPool(Stubborn, log, {0: [False]}, size=1, stop_timeout=5) as pool:
        job = await pool.submit("work", 100)
        await job

    assert log[1:4] == ["no", "stop 0 at 35", "start 0 at 35"]


async def test_workers_that_have_no_answer_are_not_asked() -> None:
    """A class without ``healthy``, or with the one that says yes, costs no timer."""

    class Plain:
        async def work(self) -> None:
            return

    class Inherits(Worker):
        async def work(self) -> None:
            return

    for kind in (Plain, Inherits):
        async with WorkerPool(kind, size=3):
            assert timers() == 0


async def test_workers_of_a_function_are_asked() -> None:
    """What a function makes may have ``healthy``; the engine knows."""
    log: list[str] = []

    def make() -> Patient:
        return Patient(log, script)

    script: dict[int, list[Any]] = {0: [False]}
    async with WorkerPool(make, size=1):
        await asyncio.sleep(35)

    assert log[1:3] == ["stop 0 at 30", "start 0 at 30"]


async def test_a_round_under_way_ends_with_the_pool() -> None:
    """No question outlives the pool."""
    pool = WorkerPool(Patient, [], {0: [1e9]}, size=1, health_timeout=100)
    await pool.start()
    await asyncio.sleep(31)

    await pool.stop()
    await asyncio.sleep(0)

    assert clock.now() == 31
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []
    assert timers() == 0


async def test_a_worker_that_is_never_well_is_parked() -> None:
    """Replacements count towards the intensity."""
    log: list[str] = []
    script: dict[int, list[Any]] = {0: [False] * 99}

    async with WorkerPool(
        Patient, log, script, size=2, health_interval=1, max_restarts=3, restart_delay=(0,)
    ) as pool:
        await asyncio.sleep(20)
        assert pool._run is not None
        states = [slot.state.value for slot in pool._run.slots.values()]

    assert states == ["parked", "up"]
    assert len([line for line in log if line.startswith("start 0")]) == 4
