"""Limits over workers: one for all of them, or one for each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import Policy, TryAgain, WorkerPool, clock, current_call

pytestmark = pytest.mark.virtual_time


class Watched:
    """A worker that notes who works when."""

    def __init__(self, busy: set[int], most: list[int], begun: list[tuple[int, float]]) -> None:
        self.busy = busy
        self.most = most
        self.begun = begun

    async def start(self, index: int) -> None:
        """Learn the place."""
        self.index = index

    async def work(self, seconds: float = 1, tokens: int | None = None) -> int:
        """Be busy for a while; tell what it cost."""
        self.begun.append((self.index, clock.now()))
        self.busy.add(self.index)
        self.most.append(len(self.busy))
        await asyncio.sleep(seconds)
        self.busy.discard(self.index)
        if tokens is not None:
            current_call().settle(tokens=tokens)
        return self.index

    async def fail(self, times: list[int]) -> int:
        """Fail a few times, each on whichever worker it is."""
        self.begun.append((self.index, clock.now()))
        times.append(self.index)
        if len(times) < 3:
            raise TryAgain
        return self.index


class Scene:
    """A pool of such workers, and what they noted."""

    def __init__(self, **options: Any) -> None:
        self.most: list[int] = []
        self.begun: list[tuple[int, float]] = []
        self.pool = WorkerPool(Watched, set(), self.most, self.begun, **options)

    async def do(self, jobs: int, **kwargs: Any) -> None:
        """Run so many jobs, all handed in at once."""
        async with self.pool as pool:
            await asyncio.sleep(1)
            self.t0 = clock.now()
            waiting = [await pool.submit(Watched.work, **kwargs) for _ in range(jobs)]
            await asyncio.gather(*waiting)

    def times(self, worker: int | None = None) -> list[float]:
        """Return when jobs began, of all workers or of one."""
        return [at - self.t0 for index, at in self.begun if worker in (None, index)]


async def test_twenty_workers_share_a_concurrency_of_five():
    """Never six of them are busy, and five most of the time."""
    scene = Scene(size=20, policy=Policy("p").with_concurrency(5))

    await scene.do(60)

    assert max(scene.most) == 5
    assert clock.now() - scene.t0 == 12


async def test_workers_share_a_rate():
    """Two in any second, however many workers are idle."""
    scene = Scene(size=8, policy=Policy("p").with_rate(2))

    await scene.do(8, seconds=0)

    assert scene.times() == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_per_worker_each_has_a_rate_of_its_own():
    """Four workers at one a second are four a second."""
    scene = Scene(size=4, policy=Policy("p").with_rate(1), policy_per="worker")

    await scene.do(12, seconds=0)

    for worker in range(4):
        assert scene.times(worker) == [0, 1, 2]


async def test_per_worker_the_first_call_is_immediate_and_idling_saves_no_more_than_the_burst():
    """120 a minute and a burst of 1: 0.5 s apart, also after a minute of nothing."""
    policy = Policy("p").with_rate("120/min", burst=1)
    scene = Scene(size=1, policy=policy, policy_per="worker")
    async with scene.pool as pool:
        scene.t0 = clock.now()
        for _ in range(3):
            await pool.workers.work(0)
        await asyncio.sleep(60)
        for _ in range(3):
            await pool.workers.work(0)

    assert scene.times() == pytest.approx([0, 0.5, 1, 61, 61.5, 62])


async def test_per_worker_retries_stay_on_the_worker():
    """Three calls of the same one; shared, another one is asked."""
    policy = Policy("p").with_retry(3, wait=1)
    own, shared = Scene(size=3, policy=policy, policy_per="worker"), Scene(size=3, policy=policy)
    asked: list[list[int]] = []
    for scene in (own, shared):
        async with scene.pool as pool:
            await asyncio.sleep(1)
            times: list[int] = []
            await pool.workers.fail(times)
            asked.append(times)

    assert len(set(asked[0])) == 1
    assert len(set(asked[1])) > 1


async def test_per_worker_a_breaker_opens_for_its_worker_alone():
    """The others serve on."""
    policy = Policy("p").with_breaker(failures=1, recover_after=60)
    scene = Scene(size=2, policy=policy, policy_per="worker", pick="round_robin")
    async with scene.pool as pool:
        await asyncio.sleep(1)
        with pytest.raises(TryAgain):
            await pool.workers.fail([])
        served = [
            await asyncio.gather(pool.workers.work(0), return_exceptions=True) for _ in range(4)
        ]

    kinds = [type(result).__name__ for (result,) in served]
    assert kinds.count("int") == 2
    assert kinds.count("CircuitOpenError") == 2


@pytest.mark.parametrize("per", ["pool", "worker"])
@pytest.mark.parametrize(
    ("used", "times"), [(None, [0, 10, 20]), (20, [0, 0, 0]), (100, [0, 10, 20])]
)
async def test_what_a_call_really_cost_is_settled_in_the_method(
    used: int | None, times: list[float], per: str
):
    """60 of 100 in ten seconds are reserved; what is left of them comes back."""
    policy = Policy("p").with_rate({"tokens": "100/10s"}, cost={"tokens": 60})
    scene = Scene(size=1, policy=policy, policy_per=per)

    await scene.do(3, seconds=0, tokens=used)

    assert scene.times() == times
