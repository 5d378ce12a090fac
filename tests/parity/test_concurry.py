"""What concurry's workers and limits do, done with a WorkerPool and a Policy.

Rows C1 to C13 and C18 to C31 of docs/parity.md; its retry is in test_concurry_retry.py.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, validate_call

from penstock import (
    ConcurrencyLimitedError,
    ConfigError,
    Job,
    Policy,
    Pool,
    PoolStoppedError,
    Resource,
    WorkerPool,
    current_call,
)
from penstock.stages.rate_limit import RateLimit, RateLimitOptions
from penstock.testing import scripted, takes

Mode = Literal["asyncio", "thread"]


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


class Tally:
    """A worker with a state of its own."""

    def __init__(self, start_at: int = 0) -> None:
        self.count = start_at

    async def start(self, index: int) -> None:
        """Be told which one it is."""
        self.index = index

    async def add(self, number: int = 1) -> int:
        """Count."""
        self.count += number
        return self.count

    async def who(self, seconds: float = 0.0) -> int:
        """Say which one it is."""
        await asyncio.sleep(seconds)
        return self.index

    async def fail_at(self, number: int) -> int:
        """Fail for some numbers."""
        if number in (1, 3):
            raise RuntimeError(number)
        return number

    def _private(self) -> int:
        return self.count


class Mixed:
    """A worker whose methods are of both kinds."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.calls = 0

    def sync(self, number: int) -> int:
        """Multiply."""
        self.calls += 1
        return number * self.factor

    async def later(self, number: int) -> int:
        """Multiply, after a moment."""
        self.calls += 1
        await asyncio.sleep(0.001)
        return number * self.factor

    def refuse(self, number: int) -> int:
        """Fail."""
        raise LookupError(number)

    def count(self) -> int:
        """Say how often it was called."""
        return self.calls

    def place(self) -> tuple[int, str]:
        """Say where it lives."""
        return os.getpid(), threading.current_thread().name


# C1


async def test_c1_state_lives_in_the_worker() -> None:
    """Each call sees what those before it have left."""
    async with WorkerPool(Tally, 10, size=1) as pool:
        first = await pool.workers.add(1)
        job = await pool.submit(Tally.add, 5)
        third = await (await pool.submit("add"))

        assert [first, await job, third] == [11, 16, 17]


async def test_c1_an_unknown_method_fails_where_it_is_named() -> None:
    """Not when its result is asked for."""
    async with WorkerPool(Tally, size=1) as pool:
        with pytest.raises((AttributeError, TypeError), match="subtract"):
            await pool.submit("subtract", 1)
        with pytest.raises((AttributeError, TypeError), match="subtract"):
            pool.workers.subtract(1)  # type: ignore[attr-defined]
        with pytest.raises((AttributeError, TypeError), match="_private"):
            pool.workers._private()


# C2


async def results_in(mode: str) -> list[Any]:
    """Return what the same class does in a mode."""
    async with WorkerPool(Mixed, 3, size=1, mode=mode) as pool:
        results = [
            await pool.workers.sync(2),
            await pool.workers.later(5),
            await (await pool.submit(Mixed.sync, number=7)),
            *(await asyncio.gather(pool.workers.refuse(1), return_exceptions=True)),
            await pool.workers.count(),
        ]
    return [
        f"{type(result).__name__}: {result}" if isinstance(result, Exception) else result
        for result in results
    ]


SAME_EVERYWHERE = [6, 15, 21, "LookupError: 1", 3]


@pytest.mark.real_time
@pytest.mark.parametrize("mode", ["asyncio", "thread"])
async def test_c2_the_same_class_gives_the_same_results(mode: Mode) -> None:
    """Sync and async methods, results and errors; a pool of one or of many in every mode."""
    assert await results_in(mode) == SAME_EVERYWHERE


@pytest.mark.integration
async def test_c2_the_same_class_gives_the_same_results_in_a_process() -> None:
    """In a process of its own, which ends with the pool."""
    async with WorkerPool(Mixed, 3, size=1, mode="process") as pool:
        process, _ = await pool.workers.place()

    assert process != os.getpid()
    assert await results_in("process") == SAME_EVERYWHERE


# C3


async def test_c3_workers_hold_states_of_their_own() -> None:
    """Three workers, three counts."""
    async with WorkerPool(Tally, size=3, pick="round_robin") as pool:
        counts = [await pool.workers.add() for _ in range(6)]

    assert counts == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("size", [0, -1, 1.5, float("nan"), True, "4"])
def test_c3_a_size_that_means_nothing_is_refused(size: object) -> None:
    """Zero, too: the default is stated and the same in every mode."""
    with pytest.raises(ConfigError, match="workers: 'size' must be a whole number"):
        WorkerPool(Tally, size=size)


# C4


async def test_c4_each_in_its_turn() -> None:
    """``pick="round_robin"``: 0, 1, 2, 0."""
    async with WorkerPool(Tally, size=3, pick="round_robin") as pool:
        assert [await pool.workers.who() for _ in range(4)] == [0, 1, 2, 0]


async def test_c4_the_default_avoids_a_busy_worker() -> None:
    """The fewest calls under way, then the longest rest: calls in a row do not pile up on one."""
    async with WorkerPool(Tally, size=3, per_worker=5) as pool:
        busy = await pool.submit(Tally.who, 10.0)
        await asyncio.sleep(1)
        others = [await pool.workers.who() for _ in range(4)]

        assert await busy == 0
        assert others == [1, 2, 1, 2]


@pytest.mark.parametrize("pick", ["least_total", "random", "p2c_ewma"])
async def test_c4_other_ways_to_pick(pick: str) -> None:
    """All that a pool of resources knows; nobody is left out."""
    async with WorkerPool(Tally, size=3, pick=pick) as pool:
        served = Counter([await pool.workers.who() for _ in range(300)])

    assert sorted(served) == [0, 1, 2]
    assert pick != "least_total" or set(served.values()) == {100}


def test_c4_an_unknown_way_is_refused() -> None:
    """With the names there are."""
    with pytest.raises(ConfigError, match="round_robin"):
        WorkerPool(Tally, pick="round_robbin")


# C5


async def test_c5_totals_are_the_calls_made() -> None:
    """Of the pool, and of each worker."""
    async with WorkerPool(Tally, size=3, pick="round_robin") as pool:
        for _ in range(7):
            await pool.workers.add()
        stats = pool.stats()

    assert stats.done == 7
    assert [worker.done for worker in stats.workers] == [3, 2, 2]
    assert (stats.queued, stats.running) == (0, 0)


# C6


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"rate": "2/10s"}, [0, 0, 10, 10, 20]),
        ({"rate": "2/10s", "burst": 2}, [0, 0, 5, 10, 15]),
        ({"rate": "2/10s", "burst": 1}, [0, 5, 10, 15, 20]),
    ],
    ids=["sliding window", "token bucket", "leaky bucket"],
)
async def test_c6_a_rate_for_all_workers(options: dict[str, Any], times: list[float]) -> None:
    """Within the capacity a call waits for its turn, whichever worker is free."""
    policy = Policy("limits").with_rate(**options)
    starts: list[float] = []

    class Caller:
        async def call(self) -> None:
            starts.append(round(now(), 6))

    async with WorkerPool(Caller, size=4, policy=policy) as pool:
        await asyncio.gather(*(pool.workers.call() for _ in range(5)))

    assert starts == times


def test_c6_more_than_the_capacity_is_refused_at_once() -> None:
    """So is a limit of nothing, and a name that stands for none."""
    with pytest.raises(ConfigError, match="at most what the limit holds"):
        RateLimit(RateLimitOptions(rate="10/min", cost=11)).try_acquire()
    with pytest.raises(ConfigError, match="'rate' must be"):
        Policy("limits").with_rate(0)
    with pytest.raises(ConfigError, match="'cost' must be"):
        Policy("limits").with_rate({"tokens": "10/min"}, cost={"token": 1})
    with pytest.raises(ConfigError, match="'limit' must be"):
        Policy("limits").with_concurrency(0)


# C7


async def test_c7_two_limits_are_taken_together_or_not_at_all() -> None:
    """Who waits for tokens has not paid a request; whoever comes later does not overtake."""
    limit = RateLimit(RateLimitOptions(rate={"requests": "10/min", "tokens": "100/min"}))
    policy = Policy("limits").with_stage(limit)
    starts: list[float] = []

    class Caller:
        async def call(self) -> None:
            starts.append(now())

    async with WorkerPool(Caller, size=4, policy=policy) as pool:
        costly = policy.using(cost={"tokens": 80})
        waiting = [asyncio.create_task(costly.call(scripted(then="done"))) for _ in range(2)]
        await asyncio.sleep(1)
        available = limit.snapshot()["available"]
        await pool.workers.call()
        await asyncio.gather(*waiting)

    assert available == [9, 20]
    assert starts == [60]


async def test_c7_a_wait_can_be_bounded() -> None:
    """And one that would be too long is not begun."""
    policy = Policy("limits").with_rate("1/min", max_wait=5)

    async with WorkerPool(Tally, size=2, policy=policy) as pool:
        outcomes = await asyncio.gather(
            pool.workers.add(), pool.workers.add(), return_exceptions=True
        )

    assert outcomes[0] == 1
    assert getattr(outcomes[1], "retry_after", None) == 60
    assert now() == 0


# C8


@pytest.mark.parametrize(("used", "left"), [(80, 120), (120, 80), (100, 100)])
async def test_c8_what_was_used_is_settled_inside_the_worker(used: int, left: int) -> None:
    """100 reserved and 80 used: 20 come back; 120 used: 20 more are owed."""
    policy = Policy("limits").with_rate({"tokens": "200/min"}, cost={"tokens": 100})

    class Model:
        async def ask(self, tokens: int) -> None:
            current_call().settle(tokens=tokens)

    async with WorkerPool(Model, size=2, policy=policy) as pool:
        await pool.workers.ask(used)

    assert policy.snapshot()["stages"][0]["available"] == [left]


async def test_c8_usage_that_means_nothing_is_refused() -> None:
    """Nothing has to be settled; what is settled has to be an amount."""
    policy = Policy("limits").with_rate({"tokens": "200/min"}, cost={"tokens": 100})

    class Model:
        async def ask(self, tokens: float) -> str:
            if tokens:
                current_call().settle(tokens=tokens)
            return "answer"

    async with WorkerPool(Model, size=2, policy=policy) as pool:
        assert await pool.workers.ask(0) == "answer"
        with pytest.raises(ConfigError, match="cost"):
            await pool.workers.ask(-1)


# C9


def test_c9_a_failed_try_leaves_the_state_unchanged() -> None:
    """True or False, at once."""
    limit = RateLimit(RateLimitOptions(rate="10/min"))

    taken = [limit.try_acquire(8), limit.try_acquire(3), limit.try_acquire(2)]

    assert taken == [True, False, True]
    assert limit.snapshot()["available"] == [0]


# C10


async def test_c10_workers_share_one_limit() -> None:
    """Twenty workers over a capacity of five."""
    work = scripted(then=takes(1, "done"))

    async def visit(_worker: Tally) -> Any:
        return await work()

    policy = Policy("limits").with_concurrency(5)
    async with WorkerPool(Tally, size=20, policy=policy) as pool:
        jobs = [await pool.submit(visit) for _ in range(40)]
        await asyncio.gather(*jobs)

    assert work.most_in_flight == 5
    assert now() == 8


async def test_c10_or_each_has_its_own() -> None:
    """``policy_per="worker"``: two starts a minute for each of three workers."""
    policy = Policy("limits").with_rate("2/min")

    async with WorkerPool(
        Tally, size=3, policy=policy, policy_per="worker", pick="round_robin"
    ) as pool:
        served = await asyncio.gather(*(pool.workers.who() for _ in range(6)))
        six_at = now()
        await pool.workers.who()

    assert sorted(served) == [0, 0, 1, 1, 2, 2]
    assert (six_at, now()) == (0, 60)


# C11


@dataclass
class Region:
    """A set of limits with a configuration of its own."""

    url: str
    policy: Policy


async def test_c11_limit_sets_take_turns_and_expose_their_configuration() -> None:
    """A pool of them inside the worker; one at its cap is not waited for while another is free."""
    regions = Pool(
        {
            name: Resource(
                Region(f"https://{name}.example", Policy(name).with_rate(5)), max_in_flight=1
            )
            for name in ("eu", "us")
        },
        pick="round_robin",
    )

    class Model:
        async def ask(self, seconds: float) -> str:
            return await regions.run(self._ask_in, seconds)

        async def _ask_in(self, region: Resource[Region], seconds: float) -> str:
            await region.value.policy.call(asyncio.sleep, seconds)
            return region.value.url

    async with WorkerPool(Model, size=2) as pool:
        alternating = [await pool.workers.ask(0) for _ in range(3)]
        busy = asyncio.create_task(pool.workers.ask(10))
        await asyncio.sleep(1)
        meanwhile = [await pool.workers.ask(0) for _ in range(2)]
        await busy

    assert alternating == ["https://eu.example", "https://us.example", "https://eu.example"]
    assert meanwhile == ["https://eu.example"] * 2


# C12


async def test_c12_more_coroutines_than_capacity_complete() -> None:
    """Nobody polls and nobody freezes the loop: 100 calls share three permits of one second."""
    policy = Policy("limits").with_concurrency(3)

    class Caller:
        async def call(self, number: int) -> int:
            await policy.call(asyncio.sleep, 1)
            return number

    async with WorkerPool(Caller, size=2, per_worker=50) as pool:
        results = await asyncio.gather(*(pool.workers.call(n) for n in range(100)))

    assert results == list(range(100))
    assert now() == 34


# C13


@pytest.mark.parametrize(
    ("word", "seconds"),
    [("second", 1), ("minute", 60), ("min", 60), ("hour", 3600), ("day", 86400)],
)
def test_c13_windows_have_names(word: str, seconds: int) -> None:
    """A minute is 60 seconds, however it is written."""
    named = [f"10/{word}", f"10 per {word}"]

    rates = [RateLimitOptions(rate=text).rate for text in (*named, f"10/{seconds}s")]

    assert rates[0] == rates[1] == rates[2]


# C14


async def test_c14_retries_may_stay_on_one_worker() -> None:
    """With a policy for each worker; otherwise the next attempt goes wherever it can."""
    tried: list[int] = []

    async def fail(worker: Tally) -> None:
        tried.append(worker.index)
        raise ConnectionError(len(tried))

    policy = Policy("work").with_retry(attempts=3, wait=1)
    for policy_per in ("worker", "pool"):
        async with WorkerPool(Tally, size=3, policy=policy, policy_per=policy_per) as pool:
            with pytest.raises(ConnectionError):
                await (await pool.submit(fail))

    assert tried[:3] == [0, 0, 0]
    assert len(set(tried[3:])) > 1
    assert len(tried) == 6


# C18


async def test_c18_the_line_is_bounded_and_so_is_what_a_worker_is_given() -> None:
    """``per_worker`` at a time in a worker, ``queue`` in line, then whoever submits waits."""
    async with WorkerPool(Tally, size=1, per_worker=2, queue=3) as pool:
        jobs = [pool.submit_nowait(Tally.who, 10.0) for _ in range(2)]
        await asyncio.sleep(1)
        jobs += [pool.submit_nowait(Tally.who, 10.0) for _ in range(3)]
        in_worker, in_line = pool.stats().running, pool.stats().queued
        with pytest.raises(ConcurrencyLimitedError):
            pool.submit_nowait(Tally.who, 10.0)
        jobs.append(await pool.submit(Tally.who, 10.0))
        let_in_at = now()
        await asyncio.gather(*jobs)

    assert (in_worker, in_line) == (2, 3)
    assert let_in_at == 10
    assert now() == 30


# C19


async def test_c19_workers_on_demand_are_never_more_than_max_size() -> None:
    """They come while jobs wait, serve many, and go when they have nothing to do."""
    alive: list[int] = []

    class Guest:
        count = 0

        async def start(self) -> None:
            Guest.count += 1
            alive.append(Guest.count)

        async def stop(self) -> None:
            Guest.count -= 1

        async def work(self) -> None:
            await asyncio.sleep(1)

    async with WorkerPool(Guest, size=1, max_size=4, idle_timeout=5) as pool:
        await asyncio.gather(*(pool.workers.work() for _ in range(40)))
        done_at, busy = now(), Guest.count
        await asyncio.sleep(20)
        idle = Guest.count

    assert max(alive) == 4
    assert busy == 4
    assert idle == 1
    assert Guest.count == 0
    assert done_at < 20


# C20


async def test_c20_jobs_among_the_arguments_become_their_results() -> None:
    """In lists, tuples, dicts and sets, too."""

    async def collect(_worker: Tally, *values: Any, **named: Any) -> Any:
        return values, named

    async with WorkerPool(Tally, size=2) as pool:
        one, two = await pool.submit(Tally.add, 1), await pool.submit(Tally.add, 2)
        job = await pool.submit(collect, one, [two, (one,)], {"a": {two}}, last=two)

        assert await job == ((1, [2, (1,)], {"a": {2}}), {"last": 2})


async def test_c20_an_input_that_fails_fails_what_depends_on_it() -> None:
    """With the same failure; nothing of it is run. A result is passed on as it is."""
    async with WorkerPool(Tally, size=1) as pool:
        bad = await pool.submit(Tally.fail_at, 1)
        dependent = await pool.submit(Tally.add, bad)
        outcomes = await asyncio.gather(bad, dependent, return_exceptions=True)
        cancelled = await pool.submit(Tally.who, 100.0)
        behind = await pool.submit(Tally.add, cancelled)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await behind
        untouched = await pool.workers.add(0)

    assert isinstance(outcomes[0], RuntimeError)
    assert outcomes[1] is outcomes[0]
    assert untouched == 0


# C21


async def test_c21_a_job_is_a_future() -> None:
    """It can be awaited often, looked at, cancelled and told on."""
    told: list[asyncio.Future[int]] = []

    async with WorkerPool(Tally, size=1) as pool:
        job: Job[int] = await pool.submit(Tally.add, 4)
        job.add_done_callback(told.append)
        before = job.done(), job.cancelled()
        results = [await job, await job, job.result()]
        failed = await pool.submit(Tally.fail_at, 1)
        await asyncio.wait([failed])
        running = await pool.submit(Tally.who, 100.0)
        queued = await pool.submit(Tally.who, 100.0)
        await asyncio.sleep(1)
        assert queued.cancel()
        assert running.cancel()
        await asyncio.wait([queued, running])
        late = job.cancel()

    assert before == (False, False)
    assert results == [4, 4, 4]
    assert told == [job]
    assert isinstance(failed.exception(), RuntimeError)
    assert queued.cancelled()
    assert running.cancelled()
    assert not late


async def test_c21_a_timeout_does_not_lose_the_later_result() -> None:
    """Waiting with a limit leaves the work running, where it is shielded."""
    async with WorkerPool(Tally, size=1) as pool:
        job = await pool.submit(Tally.who, 10.0)
        done, pending = await asyncio.wait([job], timeout=1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(job)

        assert (done, pending) == (set(), {job})
        assert await job == 0


# C22


async def test_c22_asyncios_own_functions_take_jobs() -> None:
    """``wait`` for all, the first, the first error; ``gather`` in order; results as they come."""

    async def work(_worker: Tally, seconds: float, fails: bool = False) -> float:
        await asyncio.sleep(seconds)
        if fails:
            raise LookupError(seconds)
        return seconds

    async with WorkerPool(Tally, size=4) as pool:
        jobs = [await pool.submit(work, seconds) for seconds in (3.0, 1.0, 2.0)]
        first, rest = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        streamed = [await job for job in asyncio.as_completed(jobs)]
        gathered = await asyncio.gather(*jobs)
        bad = [await pool.submit(work, 1.0, fails=True), await pool.submit(work, 5.0)]
        failed, _ = await asyncio.wait(bad, return_when=asyncio.FIRST_EXCEPTION)
        kept = await asyncio.gather(*bad, return_exceptions=True)

    assert ({job.result() for job in first}, len(rest)) == ({1.0}, 2)
    assert streamed == [1.0, 2.0, 3.0]
    assert gathered == [3.0, 1.0, 2.0]
    assert failed == {bad[0]}
    assert [type(outcome) for outcome in kept] == [LookupError, float]


async def test_c22_map_streams_in_order_or_as_they_come() -> None:
    """With errors in the place of their items, if asked for."""

    async def work(_worker: Tally, seconds: float) -> float:
        await asyncio.sleep(seconds)
        if seconds == 2:
            raise LookupError(seconds)
        return seconds

    async with WorkerPool(Tally, size=4) as pool:
        items = [3.0, 1.0, 2.0]
        ordered = [r async for r in pool.map(work, items, return_exceptions=True)]
        done = [r async for r in pool.map(work, items, ordered=False, return_exceptions=True)]
        with pytest.raises(LookupError):
            _ = [r async for r in pool.map(work, items)]

    assert [str(result) for result in ordered] == ["3.0", "1.0", "2.0"]
    assert [str(result) for result in done] == ["1.0", "2.0", "3.0"]


# C23


def square(number: int) -> int:
    """Take a moment, as a blocking call does."""
    time.sleep(0.01)
    return number * number


@pytest.mark.real_time
async def test_c23_a_plain_function_is_submitted_and_mapped() -> None:
    """Over four threads it takes about a quarter of the time."""
    async with WorkerPool.of(square, size=4, mode="thread") as pool:
        called = await pool(3)
        job = await pool.submit(4)
        began = time.perf_counter()
        mapped = [result async for result in pool.map(range(40))]
        took = time.perf_counter() - began

        assert (called, await job) == (9, 16)
    assert mapped == [number * number for number in range(40)]
    assert took < 40 * 0.01 * 0.6


async def test_c23_map_over_four_workers_takes_a_quarter_of_the_time() -> None:
    """In virtual time exactly; items without end are read as they are needed."""
    taken: list[int] = []

    async def endless() -> Any:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    async def slow(_worker: Tally, number: int) -> int:
        await asyncio.sleep(1)
        return number

    async with WorkerPool(Tally, size=4) as pool:
        results = [result async for result in pool.map(slow, range(40))]
        took = now()
        async for number in pool.map(slow, endless()):
            if number == 7:
                break

    assert results == list(range(40))
    assert took == 10
    assert len(taken) < 40


# C24


async def test_c24_an_explicit_option_beats_a_configured_one() -> None:
    """Options are plain keywords: a default of the program's own is a partial, none is global."""
    browsers = functools.partial(WorkerPool, Tally, size=2, pick="round_robin")

    async with browsers() as two, browsers(size=3) as three:
        served = [await two.workers.who() for _ in range(3)]
        more = [await three.workers.who() for _ in range(3)]

    assert served == [0, 1, 0]
    assert more == [0, 1, 2]


# C25


class Account(BaseModel):
    """A worker that pydantic validates."""

    balance: int

    @validate_call
    async def deposit(self, amount: int) -> int:
        """Coerce what it is given."""
        self.balance += amount
        return self.balance


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["asyncio", "thread", "process"])
async def test_c25_a_validated_class_is_a_worker_as_it_is(mode: str) -> None:
    """A text of digits is a number for an int parameter; another text is refused."""
    async with WorkerPool(
        Account, kwargs={"balance": "10"}, size=1, mode=mode, restart_delay=[0], max_restarts=1
    ) as pool:
        balance = await pool.workers.deposit("5")  # type: ignore[arg-type]
        outcomes = await asyncio.gather(
            pool.workers.deposit("five"),  # type: ignore[arg-type]
            return_exceptions=True,
        )

    assert balance == 15
    assert "five" in str(outcomes[0])


# C26


async def test_c26_after_a_stop_no_call_is_accepted() -> None:
    """What was accepted is finished; a second stop does nothing."""
    pool = WorkerPool(Tally, size=1)
    await pool.start()
    jobs = [await pool.submit(Tally.add, 1) for _ in range(3)]
    await pool.stop()
    await pool.stop()

    assert [await job for job in jobs] == [1, 2, 3]
    with pytest.raises(PoolStoppedError):
        await pool.submit(Tally.add, 1)
    with pytest.raises(PoolStoppedError):
        await pool.workers.add(1)


async def test_c26_one_bound_for_the_whole_stop() -> None:
    """It is not as many times longer as there are workers; what is left then is cancelled."""
    async with WorkerPool(Tally, size=4, queue=100) as pool:
        jobs = [await pool.submit(Tally.who, 100.0) for _ in range(12)]
        await pool.stop(timeout=5)
        stopped_at = now()
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)

    assert stopped_at <= 6
    assert not any(isinstance(outcome, int) for outcome in outcomes)
    assert asyncio.all_tasks() == {asyncio.current_task()}


# C27


async def test_c27_progress_of_a_map() -> None:
    """A bar, or a function; nothing here polls, so there is no strategy to choose."""
    steps: list[tuple[int, int | None]] = []

    async with WorkerPool(Tally, size=2) as pool:
        async for _ in pool.map(
            Tally.add, [1, 2, 3], progress=lambda done, total: steps.append((done, total))
        ):
            pass

    assert steps == [(1, 3), (2, 3), (3, 3)]


# C28


class Stage:
    """A worker of one stage of a chain."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def work(self, text: str) -> str:
        """Add its word."""
        await asyncio.sleep(len(text) % 3)
        return f"{text}-{self.word}"


async def test_c28_a_chain_of_pools_delivers_ordered_correct_results() -> None:
    """A job of one pool is an argument of the next one's."""
    async with (
        WorkerPool(Stage, "a", size=2) as first,
        WorkerPool(Stage, "b", size=3) as second,
        WorkerPool(Stage, "c", size=2) as third,
    ):
        chained: list[Job[str]] = []
        for number in range(30):
            one = await first.submit(Stage.work, str(number))
            two = await second.submit("work", one)
            chained.append(await third.submit("work", two))
        results = await asyncio.gather(*chained)

    assert results == [f"{number}-a-b-c" for number in range(30)]


async def test_c28_a_worker_may_own_a_pool() -> None:
    """It starts it and stops it with itself."""

    class Foreman:
        async def start(self) -> None:
            self.inner = WorkerPool(Stage, "inner", size=2)
            await self.inner.start()

        async def stop(self) -> None:
            await self.inner.stop()

        async def work(self, text: str) -> list[str]:
            return [part async for part in self.inner.map(Stage.work, [text, text + "!"])]

    async with WorkerPool(Foreman, size=2) as pool:
        results = await asyncio.gather(pool.workers.work("a"), pool.workers.work("b"))

    assert results == [["a-inner", "a!-inner"], ["b-inner", "b!-inner"]]
    assert asyncio.all_tasks() == {asyncio.current_task()}


# C29


async def test_c29_an_exception_reaches_its_own_call_alone() -> None:
    """Of five calls with two that fail: three results, two original errors; the worker goes on."""
    async with WorkerPool(Tally, size=2) as pool:
        jobs = [await pool.submit(Tally.fail_at, number) for number in range(5)]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        afterwards = await pool.workers.add()

    assert [outcomes[n] for n in (0, 2, 4)] == [0, 2, 4]
    assert [str(outcomes[n]) for n in (1, 3)] == ["1", "3"]
    assert {type(outcomes[n]) for n in (1, 3)} == {RuntimeError}
    assert afterwards == 1


# C30


class Sleeper:
    """A worker with one async method."""

    async def nap(self, seconds: float) -> float:
        """Sleep for real."""
        await asyncio.sleep(seconds)
        return seconds


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["asyncio", "thread", "process"])
async def test_c30_async_methods_work_and_run_side_by_side(mode: str) -> None:
    """In a loop of the worker's own: ten naps in one worker take no ten naps' time."""
    async with WorkerPool(Sleeper, size=1, per_worker=10, mode=mode) as pool:
        await pool.workers.nap(0.0)
        began = time.perf_counter()
        naps = await asyncio.gather(*(pool.workers.nap(0.2) for _ in range(10)))
        took = time.perf_counter() - began

    assert naps == [0.2] * 10
    assert took < 1


# C31


async def test_c31_stats_of_the_pool_and_of_each_worker() -> None:
    """What a monitor wants to know; metrics of the user's own are the worker's methods."""
    async with WorkerPool(
        Tally, size=2, policy=Policy("work").with_retry(attempts=2, wait=0)
    ) as pool:
        jobs = [await pool.submit(Tally.fail_at, number) for number in range(5)]
        await asyncio.gather(*jobs, return_exceptions=True)
        stats, snapshot, health = pool.stats(), pool.snapshot(), pool.health()
        own = [await pool.workers.add(0) for _ in range(2)]

    assert stats.done == 3
    assert stats.retried == 2
    assert sum(worker.done + worker.failed for worker in stats.workers) == 7
    assert (health.ready, health.total) == (2, 2)
    assert {*snapshot["workers"]} == {"worker-0", "worker-1"}
    assert own == [0, 0]
