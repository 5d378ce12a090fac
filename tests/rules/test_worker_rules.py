"""Rules learned from where other packages fail, over pools of workers; see docs/parity.md."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from penstock import (
    Escalation,
    NoResourceError,
    PolicyError,
    PoolStoppedError,
    RestartWorker,
    StopPool,
    TripBreaker,
    WorkerDiedError,
    WorkerPool,
)
from penstock.events import JobDropped
from penstock.testing import EventLog
from penstock.workers.events import WorkerChanged, WorkersPaused


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


class Start:
    """What the starts of the workers of one test come to."""

    def __init__(self, fails: Callable[[int, int], bool]) -> None:
        self.fails = fails
        self.starts: dict[int, list[float]] = {}

    def begin(self, index: int) -> None:
        """Start a worker, or fail."""
        starts = self.starts.setdefault(index, [])
        starts.append(now())
        if self.fails(index, len(starts)):
            raise OSError(f"no display {index}")


class Browser:
    """A worker that starts as it is told."""

    def __init__(self, starting: Start) -> None:
        self.starting = starting

    async def start(self, index: int) -> None:
        """Open, or fail to."""
        self.index = index
        self.starting.begin(index)

    async def fetch(self, seconds: float = 1.0) -> int:
        """Take a while."""
        await asyncio.sleep(seconds)
        return self.index

    async def crash(self) -> None:
        """End the worker."""
        await asyncio.sleep(1)
        sys.exit(3)

    async def do(self, act: Callable[[], Any]) -> Any:
        """Do what it is given."""
        return act()


def browsers(fails: Callable[[int, int], bool], **options: Any) -> WorkerPool[Browser]:
    """Return a pool whose workers fail to start when ``fails(index, count)`` says so."""
    numbers: dict[str, Any] = {"size": 2, "restart_delay": [1, 5, 25], "max_restarts": 4}
    return WorkerPool(Browser, Start(fails), **numbers | options)


async def end_of(job: asyncio.Future[Any]) -> Any:
    """Wait for a job and return its result or its failure."""
    return (await asyncio.gather(job, return_exceptions=True))[0]


def in_turn(*acts: Callable[[], Any]) -> Callable[[], Any]:
    """Return what does one of these each time."""
    left = iter(acts)

    def act() -> Any:
        return next(left)()

    return act


def raising(failure: Exception | type[Exception]) -> Callable[[], Any]:
    """Return what raises a failure."""

    def act() -> Any:
        raise failure

    return act


# Rule 22


async def test_a_worker_that_cannot_start_is_tried_again_and_then_parked() -> None:
    """After growing delays, an event each; the pool goes on with the others."""
    log = EventLog()

    async with browsers(lambda index, _: index == 0, observers=[log]) as pool:
        first = await pool.workers.fetch()
        await asyncio.sleep(1000)
        rest = [await pool.workers.fetch() for _ in range(3)]
        health = pool.health()

    delays = [
        change.seconds for change in log.of(WorkerChanged, worker="worker-0", new="restarting")
    ]
    assert delays == [1, 5, 25, 25]
    assert len(log.of(WorkerChanged, worker="worker-0", new="parked")) == 1
    assert (first, rest) == (1, [1, 1, 1])
    assert (health.ready, health.total) == (1, 2)


async def test_when_nobody_can_start_the_pool_says_so() -> None:
    """With what the last one failed with; nothing is left behind."""
    pool = browsers(lambda *_: True)

    with pytest.raises(OSError, match="no display"):
        await pool.start()

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_callers_of_a_pool_whose_workers_are_all_parked_get_errors() -> None:
    """Those that wait already, and those that come later: never silence."""
    async with browsers(lambda _, count: count > 1, size=1) as pool:
        crash = await pool.submit("crash")
        waiting = [await pool.submit("fetch") for _ in range(3)]
        outcomes = [await end_of(job) for job in (crash, *waiting)]
        late = await end_of(asyncio.ensure_future(pool.workers.fetch()))

    assert isinstance(outcomes[0], WorkerDiedError)
    assert all(isinstance(outcome, PolicyError) for outcome in outcomes)
    assert isinstance(late, NoResourceError | PoolStoppedError)


async def test_a_worker_that_dies_fails_its_own_call_and_is_replaced() -> None:
    """Its neighbour notices nothing; a policy that retries makes the call anew."""
    log = EventLog()

    async with browsers(lambda *_: False, observers=[log]) as pool:
        crash, beside = await pool.submit("crash"), await pool.submit("fetch", 3.0)
        outcomes = await end_of(crash), await end_of(beside)
        await asyncio.sleep(10)
        both = {await pool.workers.fetch() for _ in range(4)}

    assert isinstance(outcomes[0], WorkerDiedError)
    assert outcomes[1] == 1
    assert both == {0, 1}
    assert log.of(WorkerChanged, worker="worker-0", new="restarting")
    assert not log.of(WorkerChanged, worker="worker-1", new="restarting")


async def test_a_worker_whose_restart_fails_is_tried_again() -> None:
    """The second and third start fail; whoever waits is served by the fourth."""
    async with browsers(lambda _, count: count in (2, 3), size=1) as pool:
        asked = await pool.submit("do", raising(RestartWorker))
        behind = await pool.submit("fetch")
        outcomes = await end_of(asked), await end_of(behind)

    assert isinstance(outcomes[0], RestartWorker)
    assert outcomes[1] == 0


# Rule 23


class Echo:
    """A worker that gives back what it is given, some time."""

    async def say(self, number: int, seconds: float) -> int:
        """Take a while."""
        await asyncio.sleep(seconds)
        return number

    def say_sync(self, number: int, seconds: float) -> int:
        """Take a while, and the thread."""
        del seconds
        return number


async def cross(mode: str, seed: int, jobs: int, **options: Any) -> None:
    """Hand in jobs in every way at once, and see that each gets its own result."""
    random = Random(seed)
    async with WorkerPool(Echo, size=3, per_worker=4, mode=mode, queue=20, **options) as pool:
        waiting: list[asyncio.Future[int]] = []
        for number in range(jobs):
            method = random.choice(["say", "say_sync"] if mode != "asyncio" else ["say"])
            seconds = random.choice([0, 0, 0.001, 0.003])
            if random.random() < 0.5:
                waiting.append(await pool.submit(method, number, seconds, priority=number % 3))
            else:
                call = getattr(pool.workers, method)
                waiting.append(asyncio.ensure_future(call(number, seconds)))
            if random.random() < 0.1:
                random.choice(waiting).cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    wrong = [
        (number, outcome)
        for number, outcome in enumerate(outcomes)
        if outcome != number and not isinstance(outcome, asyncio.CancelledError)
    ]
    assert wrong == []


@pytest.mark.parametrize("seed", range(5))
async def test_results_never_cross(seed: int) -> None:
    """Jobs, calls and cancels in any order; see also the stress tests."""
    await cross("asyncio", seed, jobs=500)


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["thread", "process"])
async def test_results_never_cross_in_threads_and_processes(mode: str) -> None:
    """Sync and async methods of the same worker under way at once."""
    await cross(mode, seed=7, jobs=500, on_cancel="finish")


# Rule 24


async def test_a_job_goes_back_into_a_full_line() -> None:
    """It takes no place from a producer that waits, and none can make it wait."""
    turns = in_turn(raising(TripBreaker), raising(TripBreaker), lambda: "done")

    async with browsers(lambda *_: False, size=1, queue=1, escalation=Escalation(pause=1)) as pool:
        trips = await pool.submit("do", turns)
        producers = [asyncio.create_task(pool.submit("fetch")) for _ in range(3)]
        jobs = [await producer for producer in producers]
        results = [await job for job in (trips, *jobs)]

    assert results == ["done", 0, 0, 0]


async def test_a_job_that_goes_back_is_not_lost_when_the_pool_stops() -> None:
    """A stop drains what is in line, that job too."""
    turns = in_turn(raising(TripBreaker), lambda: "done")

    async with browsers(lambda *_: False, size=1, escalation=Escalation(pause=100)) as pool:
        trips = await pool.submit("do", turns)
        behind = await pool.submit("fetch")
        await asyncio.sleep(0.1)

    assert [await trips, await behind] == ["done", 0]


@pytest.mark.parametrize("way", ["sys.exit", "StopPool", "trips"])
async def test_the_library_never_ends_the_process(way: str) -> None:
    """What a worker does to itself or to its pool, the program is told and goes on."""
    acts = {
        "sys.exit": lambda: sys.exit(3),
        "StopPool": raising(StopPool("enough")),
        "trips": raising(TripBreaker),
    }

    pool = browsers(lambda *_: False, size=1, escalation=Escalation(trips=1))
    await pool.start()
    job = await pool.submit("do", acts[way])
    behind = await pool.submit("fetch")
    outcomes = await end_of(job), await end_of(behind)
    stopped = await end_of(asyncio.ensure_future(pool.stop()))

    if way == "sys.exit":
        assert isinstance(outcomes[0], WorkerDiedError)
        assert (outcomes[1], stopped) == (0, None)
    else:
        assert isinstance(outcomes[0], StopPool | TripBreaker)
        assert isinstance(outcomes[1], PoolStoppedError)
        assert isinstance(stopped, PoolStoppedError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


# Rule 25


async def test_failed_jobs_are_forgotten_in_time() -> None:
    """Two within the window are not three; three are."""
    log = EventLog()
    escalation = Escalation(failures=3, window=60, pause=1)

    async with browsers(lambda *_: False, size=1, escalation=escalation, observers=[log]) as pool:
        for _ in range(6):
            await end_of(await pool.submit("do", raising(ConnectionError("down"))))
            await asyncio.sleep(31)
        slowly = len(log.of(WorkersPaused))
        for _ in range(2):
            await end_of(await pool.submit("do", raising(ConnectionError("down"))))
        await asyncio.sleep(0.1)
        quickly = len(log.of(WorkersPaused))

    assert (slowly, quickly) == (0, 1)


async def test_restarts_are_forgotten_in_time() -> None:
    """Four in a minute are too many, forty in a day are not; the delay comes down again."""
    log = EventLog()

    async with browsers(lambda *_: False, size=1, restart_window=60, observers=[log]) as pool:
        for _ in range(40):
            assert isinstance(await end_of(await pool.submit("crash")), WorkerDiedError)
            await asyncio.sleep(61)
        assert await pool.workers.fetch() == 0

    assert log.of(WorkerChanged, new="parked") == []


# Rules 26 to 28


async def test_an_idle_pool_does_not_move() -> None:
    """No timer, no poll: a day passes in no more steps than a second."""
    loop = asyncio.get_running_loop()

    async with WorkerPool(Echo, size=100) as pool:
        await pool.workers.say(1, 0)
        before = loop.steps  # type: ignore[attr-defined]
        await asyncio.sleep(86_400)
        idle_steps = loop.steps - before  # type: ignore[attr-defined]

    assert idle_steps <= 5


async def test_a_job_that_is_given_up_is_an_event_with_its_reason() -> None:
    """Failed, or dropped with the pool."""
    log = EventLog()

    async with browsers(lambda *_: False, size=1, observers=[log]) as pool:
        failed = await pool.submit("do", raising(LookupError("no")))
        await end_of(failed)
        running = await pool.submit("fetch", 100.0)
        queued = await pool.submit("fetch")
        await asyncio.sleep(1)
        await pool.kill()
        await asyncio.wait([running, queued])

    first = log.of(JobDropped)[0]
    assert (first.reason, first.error_type) == ("failed", "LookupError")
    assert "PoolStoppedError" in [drop.error_type for drop in log.of(JobDropped, reason="stopped")]


@pytest.mark.integration
async def test_nothing_is_left_of_a_pool_of_threads() -> None:
    """Its threads end with it."""
    before = threading.active_count()

    async with WorkerPool(Echo, size=4, mode="thread") as pool:
        assert await pool.workers.say_sync(1, 0) == 1
    for _ in range(100):
        if threading.active_count() <= before:
            break
        await asyncio.sleep(0.02)

    assert threading.active_count() <= before


class Process:
    """A worker that says which process it lives in."""

    def pid(self) -> int:
        """Return its number."""
        return os.getpid()


@pytest.mark.integration
async def test_nothing_is_left_of_a_pool_of_processes() -> None:
    """They end with it, also with one of them killed from outside."""
    async with WorkerPool(Process, size=2, mode="process", restart_delay=[0]) as pool:
        first = await pool.workers.pid()
        os.kill(first, 9)
        others = {await end_of(await pool.submit("pid")) for _ in range(6)}
        pids = {pid for pid in others if isinstance(pid, int)}

    assert pids
    for _ in range(250):
        if not any(map(is_alive, {first, *pids})):
            break
        await asyncio.sleep(0.02)
    assert not any(map(is_alive, {first, *pids}))


def is_alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return stat.rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
