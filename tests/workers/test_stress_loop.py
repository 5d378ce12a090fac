"""Many jobs on workers in the loop, while everything goes wrong that can."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from penstock import (
    CooldownResource,
    Job,
    Policy,
    RestartWorker,
    WorkerDiedError,
    WorkerPool,
)

pytestmark = pytest.mark.virtual_time

ATTEMPTS = 3
CANCELLED = "cancelled"
# What an attempt comes to; most of them are good.
ENDINGS = ["good"] * 14 + ["refused", "flaky", "flaky", "restart", "exit", "cooldown"]
# What a job ends with, when its last attempt has ended like this.
FAILURES: dict[str, type[BaseException]] = {
    "refused": ValueError,
    "flaky": ConnectionError,
    "restart": RestartWorker,
    "exit": WorkerDiedError,
    "cooldown": CooldownResource,
}


class Plan:
    """What is going to become of each job, and what has."""

    def __init__(self, seed: int, jobs: int) -> None:
        self.random = Random(seed)
        self.fates = [self.random.choices(ENDINGS, k=ATTEMPTS) for _ in range(jobs)]
        self.seconds = [self.random.choice([0.0, 0.01, 0.1, 1.0]) for _ in range(jobs)]
        self.ended_attempts: Counter[int] = Counter()
        self.served: Counter[int] = Counter()
        self.outcomes: dict[int, list[object]] = {number: [] for number in range(jobs)}
        self.told_to_end: set[int] = set()
        self.dropped: list[int] = []
        self.alive = 0
        self.most_alive = 0
        self.mistakes: list[str] = []

    def expected(self, number: int) -> object:
        """Return what a job comes to whom nobody cancels."""
        for fate in self.fates[number]:
            if fate == "good":
                return number * 3
            if fate == "refused":
                break
        else:
            fate = self.fates[number][-1]
        return FAILURES[fate]

    def note(self, number: int, done: asyncio.Future[int]) -> None:
        """Keep how a job, or whoever waited for it, has ended."""
        if done.cancelled():
            self.outcomes[number].append(CANCELLED)
        elif (failure := done.exception()) is not None:
            self.outcomes[number].append(type(failure))
        else:
            self.outcomes[number].append(done.result())


class Turbine:
    """A worker for one call at a time, which does what the plan says."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.busy_with: int | None = None
        self.is_open = False

    async def start(self, index: int) -> None:
        """Take a moment, and be one more."""
        await asyncio.sleep(0.05)
        self.index = index
        self.is_open = True
        self.plan.alive += 1
        self.plan.most_alive = max(self.plan.alive, self.plan.most_alive)

    async def stop(self) -> None:
        """Take a moment, and be one less."""
        if self.busy_with is not None:
            self.plan.mistakes.append(f"stopped while it served {self.busy_with}")
        self.is_open = False
        await asyncio.sleep(0.05)
        self.plan.alive -= 1

    async def turn(self, number: int) -> int:
        """Serve one attempt of a job."""
        plan = self.plan
        if self.busy_with is not None or not self.is_open:
            plan.mistakes.append(f"{number} came while {self.busy_with} was served")
        self.busy_with = number
        try:
            await asyncio.sleep(plan.seconds[number])
            attempt = plan.ended_attempts[number]
            plan.ended_attempts[number] += 1
            act(plan.fates[number][attempt])
        finally:
            self.busy_with = None
        plan.served[number] += 1
        return number * 3


def act(fate: str) -> None:
    """End an attempt."""
    match fate:
        case "refused":
            raise ValueError(fate)
        case "flaky":
            raise ConnectionError(fate)
        case "restart":
            raise RestartWorker
        case "exit":
            sys.exit(3)
        case "cooldown":
            raise CooldownResource(0.2)


async def hand_in(pool: WorkerPool[Turbine], plan: Plan, numbers: range) -> None:
    """Hand jobs in, each in one of the ways there are; cancel some of them, some time."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[int]] = []
    for number in numbers:
        handed_in = await one(pool, plan, number)
        handed_in.add_done_callback(lambda done, number=number: plan.note(number, done))
        waiting.append(handed_in)
        if plan.random.random() < 0.1:
            after = plan.random.choice([0.0, 0.0, 0.01, 0.5, 3.0])
            loop.call_later(after, cancel, plan, number, handed_in)
        if plan.random.random() < 0.3:
            await asyncio.sleep(plan.random.choice([0.0, 0.001, 0.05]))
    await asyncio.wait(waiting)


async def one(pool: WorkerPool[Turbine], plan: Plan, number: int) -> asyncio.Future[int]:
    """Hand in one job: as a job, as a call, or as a job that somebody waits for."""
    priority = plan.random.choice([0, 0, 0, 1, -1])
    match plan.random.randrange(4):
        case 0:
            return await pool.submit(Turbine.turn, number)
        case 1:
            job: Job[Any] = await pool.submit("turn", number, priority=priority)
            return job
        case 2:
            return asyncio.ensure_future(pool.workers.turn(number))
        case _:

            async def submit_and_wait() -> int:
                job: Job[int] = await pool.submit("turn", number, priority=priority)
                return await job

            return asyncio.create_task(submit_and_wait())


def cancel(plan: Plan, number: int, handed_in: asyncio.Future[int]) -> None:
    """Cancel a job, unless it has ended."""
    if handed_in.cancel():
        plan.told_to_end.add(number)


async def interfere(pool: WorkerPool[Turbine], random: Random) -> None:
    """Pause the pool, change its size and start workers anew, again and again."""
    acts: list[Callable[[], Any]] = [
        pool.pause,
        pool.resume,
        pool.resume,
        lambda: pool.resize(random.randint(1, 12)),
        lambda: pool.resize(random.randint(4, 8)),
        pool.restart,
    ]
    while True:
        await asyncio.sleep(random.choice([0.0, 0.5, 2.0, 5.0]))
        done = random.choice(acts)()
        if done is not None:
            await done


async def stress(seed: int, jobs: int) -> tuple[Plan, WorkerPool[Turbine]]:
    """Let six producers hand in all the jobs; return what was planned and what came of it."""
    plan = Plan(seed, jobs)
    retried = Policy("stress").with_retry(attempts=ATTEMPTS, wait=0.01, retry_on=is_no_refusal)
    pool = WorkerPool(
        Turbine,
        plan,
        size=8,
        max_size=12,
        idle_timeout=3,
        queue=50,
        policy=retried,
        on_drop=lambda drop: plan.dropped.append(drop.args[0]),
        cooldown=(0.1, 0.3),
        restart_every=40,
        restart_delay=(0, 0.1, 0.3),
        max_restarts=1_000_000,
    )
    async with pool:
        chaos = asyncio.create_task(interfere(pool, Random(seed)))
        producers = [hand_in(pool, plan, range(first, jobs, 6)) for first in range(6)]
        await asyncio.gather(*producers)
        chaos.cancel()
        await asyncio.wait([chaos])
        assert chaos.cancelled(), chaos
    return plan, pool


def is_no_refusal(failure: BaseException) -> bool:
    """Try everything again but what a worker refuses."""
    return not isinstance(failure, ValueError)


def check(plan: Plan, pool: WorkerPool[Turbine]) -> None:
    """See that every job has ended once, as planned, and that nothing is left."""
    assert plan.mistakes == []
    for number, outcomes in plan.outcomes.items():
        expected = CANCELLED if number in plan.told_to_end else plan.expected(number)
        assert outcomes == [expected], f"job {number} with {plan.fates[number]}"
        assert plan.served[number] == int(expected == number * 3)
    failed = [number for number, (outcome,) in plan.outcomes.items() if isinstance(outcome, type)]
    assert sorted(plan.dropped) == failed
    stats = pool.stats()
    assert (stats.done, stats.failed) == (sum(plan.served.values()), len(failed))
    assert stats.queued == stats.running == sum(worker.in_flight for worker in stats.workers) == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_job_of_two_thousand_ends_once_and_as_planned(seed: int) -> None:
    """Failures, deaths, restarts, rests, cancels, pauses and resizes cross no result."""
    plan, pool = await stress(seed, jobs=1000)

    check(plan, pool)
    assert len(plan.told_to_end) > 20
    assert plan.most_alive <= 13


@pytest.mark.slow
async def test_every_job_of_twenty_thousand_ends_once_and_as_planned() -> None:
    """The same, for longer."""
    plan, pool = await stress(seed=3, jobs=20_000)

    check(plan, pool)
