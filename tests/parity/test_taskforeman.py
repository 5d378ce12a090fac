"""What taskforeman does, done with a WorkerPool (rows T1 to T17 of docs/parity.md)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from penstock import (
    ConfigError,
    Escalation,
    Policy,
    PoolStoppedError,
    RestartWorker,
    SkipTask,
    StopPool,
    TripBreaker,
    TryAgain,
    WorkerPool,
)
from penstock.events import JobDropped
from penstock.stages.retry import Exponential
from penstock.testing import EventLog
from penstock.workers.events import Dropped, WorkersPaused, WorkersStopped

pytestmark = pytest.mark.virtual_time


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


class Browser:
    """A worker that writes down what befalls it."""

    def __init__(self, diary: list[tuple[Any, ...]], seconds: float = 1.0) -> None:
        self.diary = diary
        self.seconds = seconds
        self.index = -1

    async def start(self, index: int) -> None:
        """Be told which one it is."""
        self.index = index
        self.diary.append(("start", index, now()))

    async def stop(self) -> None:
        """Close."""
        self.diary.append(("stop", self.index, now()))

    async def fetch(self, page: str) -> str:
        """Take a while."""
        self.diary.append(("fetch", self.index, now()))
        await asyncio.sleep(self.seconds)
        return f"{page} by {self.index}"

    async def hang(self) -> None:
        """Never come back."""
        self.diary.append(("hang", self.index, now()))
        await asyncio.sleep(1e6)

    async def do(self, act: Callable[[], Any]) -> Any:
        """Do what it is given."""
        self.diary.append(("do", self.index, now()))
        return act()


def in_turn(*acts: Callable[[], Any]) -> Callable[[], Any]:
    """Return what does one of these each time."""
    left = iter(acts)

    def act() -> Any:
        return next(left)()

    return act


def raising(failure: BaseException | type[BaseException]) -> Callable[[], Any]:
    """Return what raises a failure."""

    def act() -> Any:
        raise failure

    return act


def noted(diary: list[tuple[Any, ...]], what: str) -> list[tuple[int, float]]:
    """Return which worker did something, and when."""
    return [(index, at) for kind, index, at in diary if kind == what]


async def end_of(job: asyncio.Future[Any]) -> Any:
    """Wait for a job and return its result or its failure."""
    return (await asyncio.gather(job, return_exceptions=True))[0]


async def test_t1_workers_start_one_by_one_and_stop_once() -> None:
    """Each is told its index; jobs run while later workers start."""
    diary: list[tuple[Any, ...]] = []

    async with WorkerPool(Browser, diary, size=3, start_interval=2) as pool:
        pages = await asyncio.gather(*(pool.workers.fetch(f"p{n}") for n in range(4)))
        done_at = now()
        await asyncio.sleep(10)

    assert pages == ["p0 by 0", "p1 by 0", "p2 by 0", "p3 by 1"]
    assert done_at == 3
    assert noted(diary, "start") == [(0, 0), (1, 2), (2, 4)]
    assert sorted(index for index, _ in noted(diary, "stop")) == [0, 1, 2]


async def test_t2_prebuilt_workers_keep_their_own_settings() -> None:
    """The index is the position in the list."""
    diary: list[tuple[Any, ...]] = []
    slow, fast = Browser(diary, seconds=9), Browser(diary, seconds=1)

    async with WorkerPool.from_workers([slow, fast]) as pool:
        pages = await asyncio.gather(pool.workers.fetch("a"), pool.workers.fetch("b"))

    assert pages == ["a by 0", "b by 1"]
    assert (slow.index, fast.index) == (0, 1)
    assert now() == 9


async def test_t3_a_producer_waits_at_the_bound_and_goes_on() -> None:
    """Two in line; the next one comes in when the first leaves it. A function takes the worker."""
    diary: list[tuple[Any, ...]] = []
    handed_in: list[float] = []

    async def twice(browser: Browser, page: str) -> str:
        await browser.fetch(page)
        return await browser.fetch(page)

    async with WorkerPool(Browser, diary, size=1, queue=2) as pool:
        jobs = []
        for page in "abcd":
            jobs.append(await pool.submit(twice, page))
            handed_in.append(now())
        pages = [await job for job in jobs]

    assert pages == ["a by 0", "b by 0", "c by 0", "d by 0"]
    assert handed_in == [0, 0, 0, 2]


async def test_t3_no_bound_is_said_by_none_and_a_line_for_nobody_refused() -> None:
    """Zero is no word for "unbounded"."""
    async with WorkerPool(Browser, [], size=1, queue=None) as pool:
        jobs = [await pool.submit("fetch", "p") for _ in range(2000)]
        handed_in_at = now()
        assert await jobs[0] == "p by 0"
        await pool.kill()

    assert handed_in_at == 0
    with pytest.raises(ConfigError, match=r"workers: 'queue' must be .*at least 1.*got 0"):
        WorkerPool(Browser, [], queue=0)


async def test_t4_join_returns_when_nothing_is_left() -> None:
    """Jobs that fail or are skipped are processed, too."""
    async with WorkerPool(Browser, [], size=2) as pool:
        jobs = [
            await pool.submit("fetch", "p"),
            await pool.submit("do", raising(ValueError("bad"))),
            await pool.submit("do", raising(SkipTask)),
            await pool.submit("fetch", "q"),
        ]
        waiting = pool.snapshot()["queued"]
        await pool.join()

        assert all(job.done() for job in jobs)
        assert waiting > 0
        assert pool.snapshot()["queued"] == pool.snapshot()["running"] == 0
    for job in jobs:
        await end_of(job)


async def test_t5_a_task_that_hangs_is_cut_and_retried() -> None:
    """The limit holds for each attempt."""
    diary: list[tuple[Any, ...]] = []
    policy = Policy("browse").with_retry(attempts=2, wait=1).with_timeout(30)

    async with WorkerPool(Browser, diary, size=1, policy=policy) as pool:
        job = await pool.submit("hang")
        failure = await end_of(job)

    assert isinstance(failure, TimeoutError)
    assert noted(diary, "hang") == [(0, 0), (0, 31)]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_t5_a_timeout_that_means_nothing_is_refused(seconds: float) -> None:
    """Neither "none" nor "at once" is spelled as a number."""
    with pytest.raises(ConfigError, match="timeout: 'seconds' must be"):
        Policy("browse").with_timeout(seconds)


async def test_t6_three_attempts_with_waits_of_5_and_10() -> None:
    """Then the failure is the job's; the worker serves others during the waits."""
    diary: list[tuple[Any, ...]] = []
    wait = Exponential(initial=5, max=1000, jitter="none")
    policy = Policy("browse").with_retry(attempts=3, wait=wait)

    async with WorkerPool(Browser, diary, size=1, policy=policy) as pool:
        job = await pool.submit("do", raising(ConnectionError("down")))
        await asyncio.sleep(1)
        between = await pool.workers.fetch("other")
        failure = await end_of(job)

    assert isinstance(failure, ConnectionError)
    assert noted(diary, "do") == [(0, 0), (0, 5), (0, 15)]
    assert between == "other by 0"
    assert noted(diary, "fetch") == [(0, 1)]


def escalating(**changes: Any) -> Escalation:
    """Return taskforeman's numbers."""
    numbers: dict[str, Any] = {"failures": 3, "pause": 10, "pause_growth": 2, "trips": 3}
    return Escalation(**numbers | changes)


async def test_t7_the_third_exhausted_task_trips_and_two_are_dropped() -> None:
    """Failed jobs are counted over all workers; a success in between changes nothing."""
    dropped: list[Dropped] = []
    log = EventLog()
    tripping = iter([ConnectionError("c"), None])

    def third_time() -> str:
        failure = next(tripping)
        if failure is not None:
            raise failure
        return "in the end"

    async with WorkerPool(
        Browser, [], size=2, escalation=escalating(), on_drop=dropped.append, observers=[log]
    ) as pool:
        for text in "ab":
            job = await pool.submit("do", raising(ConnectionError(text)))
            assert isinstance(await end_of(job), ConnectionError)
            await pool.workers.fetch("p")
        paused_before = log.of(WorkersPaused)
        third = await pool.submit("do", third_time)
        result = await third
        waited_until = now()

    assert paused_before == []
    assert [str(drop.failure) for drop in dropped] == ["a", "b"]
    assert [pause.seconds for pause in log.of(WorkersPaused)] == [10]
    assert result == "in the end"
    assert waited_until == 12


async def test_t8_pauses_grow_and_the_last_trip_ends_the_run() -> None:
    """The pool stops with an error that everybody is told; the process goes on."""
    diary: list[tuple[Any, ...]] = []
    log = EventLog()

    pool = WorkerPool(Browser, diary, size=1, escalation=escalating(), observers=[log])
    await pool.start()
    job = await pool.submit("do", raising(TripBreaker("blocked")))
    behind = await pool.submit("fetch", "p", priority=-1)
    failure, other = await end_of(job), await end_of(behind)
    with pytest.raises(PoolStoppedError):
        await pool.submit("fetch", "p")
    with pytest.raises(PoolStoppedError, match="pause 3 times"):
        await pool.stop()

    assert [pause.seconds for pause in log.of(WorkersPaused)] == [10, 20]
    assert noted(diary, "do") == [(0, 0), (0, 10), (0, 30)]
    assert isinstance(failure, TripBreaker)
    assert isinstance(other, PoolStoppedError)
    assert other.__cause__ is failure
    assert len(log.of(WorkersStopped)) == 1


async def test_t8_trips_are_forgotten_in_time() -> None:
    """Two in an hour end nothing where three do (rule 25)."""
    log = EventLog()

    async with WorkerPool(
        Browser, [], size=1, escalation=escalating(trips=2, trip_window=60), observers=[log]
    ) as pool:
        for _ in range(5):
            turns = in_turn(raising(TripBreaker), lambda: "done")
            assert await pool.workers.do(turns) == "done"
            await asyncio.sleep(100)

    assert [pause.seconds for pause in log.of(WorkersPaused)] == [10] * 5


async def test_t9_while_the_pool_pauses_no_new_task_starts() -> None:
    """What runs goes on to its end; whoever waits in line waits on."""
    diary: list[tuple[Any, ...]] = []
    turns = in_turn(raising(TripBreaker), lambda: "done")

    async with WorkerPool(Browser, diary, 5.0, size=2, escalation=escalating()) as pool:
        running = await pool.submit("fetch", "long")
        trips = await pool.submit("do", turns)
        waiting = [await pool.submit("fetch", "p") for _ in range(3)]
        await running
        running_ended = now()
        await asyncio.gather(trips, *waiting)

    assert running_ended == 5
    assert [at for _, at in noted(diary, "fetch")][:2] == [0, 10]


SIGNALS = [SkipTask, RestartWorker, TripBreaker, StopPool, TryAgain]


@pytest.mark.parametrize("signal", SIGNALS)
async def test_t10_a_signal_is_an_exception_so_a_task_gives_one(signal: type[Exception]) -> None:
    """Flags that contradict each other cannot be given; what a policy retries keeps its worker."""
    starts: list[tuple[Any, ...]] = []
    turns = in_turn(raising(signal("why")), lambda: "done")
    policy = Policy("browse").with_retry(attempts=2, wait=0)

    pool = WorkerPool(Browser, starts, size=1, policy=policy, escalation=escalating())
    await pool.start()
    outcome = await end_of(await pool.submit("do", turns))
    stopped = await end_of(asyncio.ensure_future(pool.stop()))

    if signal in (RestartWorker, TripBreaker, TryAgain):
        assert outcome == "done"
    else:
        assert isinstance(outcome, signal)
    assert isinstance(stopped, PoolStoppedError) == (signal is StopPool)
    assert len(noted(starts, "start")) == (2 if signal is RestartWorker else 1)


async def test_t10_of_several_signals_the_strongest_acts() -> None:
    """A group of tasks may fail with several; a worker that is to be started anew is."""
    starts: list[tuple[Any, ...]] = []
    log = EventLog()
    strong = ExceptionGroup("flags", [SkipTask("a"), TripBreaker("b"), RestartWorker("c")])
    weak = ExceptionGroup("flags", [SkipTask("a"), StopPool("b")])
    turns = in_turn(raising(strong), lambda: "done")

    pool = WorkerPool(Browser, starts, size=1, escalation=escalating(), observers=[log])
    await pool.start()
    tripped = await (await pool.submit("do", turns))
    await end_of(await pool.submit("do", raising(weak)))
    with pytest.raises(PoolStoppedError):
        await pool.stop()

    assert tripped == "done"
    assert len(log.of(WorkersPaused)) == 1
    assert len(noted(starts, "start")) == 2


async def test_t11_a_skipped_task_counts_for_nothing() -> None:
    """Not as a failure, and it is not retried; the hook is told."""
    diary: list[tuple[Any, ...]] = []
    dropped: list[Dropped] = []
    log = EventLog()

    async with WorkerPool(
        Browser,
        diary,
        size=1,
        policy=Policy("browse").with_retry(attempts=3, wait=0),
        escalation=escalating(failures=1),
        on_drop=dropped.append,
        observers=[log],
    ) as pool:
        job = await pool.submit("do", raising(SkipTask("no such page")))
        failure = await end_of(job)

    assert isinstance(failure, SkipTask)
    assert len(noted(diary, "do")) == 1
    assert [(drop.reason, drop.failure) for drop in dropped] == [("skipped", failure)]
    assert log.of(WorkersPaused) == []


async def test_t12_quit_stops_the_pool_and_not_the_program() -> None:
    """Whoever waits is told why, and whoever leaves the block; workers are stopped."""
    diary: list[tuple[Any, ...]] = []
    failures: list[Any] = []

    async def body() -> None:
        async with WorkerPool(Browser, diary, size=1) as pool:
            first = await pool.submit("do", raising(StopPool("account closed")))
            second = await pool.submit("fetch", "p")
            failures.extend([await end_of(first), await end_of(second)])
            with pytest.raises(PoolStoppedError, match="account closed"):
                await pool.submit("fetch", "p")

    with pytest.raises(PoolStoppedError, match="account closed") as caught:
        await body()

    assert isinstance(failures[0], StopPool)
    assert caught.value.__cause__ is failures[0]
    assert isinstance(failures[1], PoolStoppedError)
    assert noted(diary, "fetch") == []
    assert len(noted(diary, "stop")) == 1


async def test_t13_a_worker_is_started_anew_after_so_many_tasks() -> None:
    """With three and nine tasks: before the fourth and before the seventh, and not for nobody."""
    diary: list[tuple[Any, ...]] = []

    async with WorkerPool(Browser, diary, size=1, restart_every=3) as pool:
        for number in range(9):
            await pool.workers.fetch(f"p{number}")
        await asyncio.sleep(100)
        kinds = [str(kind) for kind, _, _ in diary]

    assert (
        "".join(kind[:3] for kind in kinds if kind != "stop")
        == "sta" + 2 * (3 * "fet" + "sta") + 3 * "fet"
    )
    assert kinds.count("stop") == 2


async def test_t14_a_rate_for_each_worker() -> None:
    """The first at once, then evenly; idling saves no more than the burst."""
    diary: list[tuple[Any, ...]] = []
    policy = Policy("browse").with_rate("120/min", burst=1)

    async with WorkerPool(
        Browser, diary, 0.0, size=2, per_worker=10, policy=policy, policy_per="worker"
    ) as pool:
        await asyncio.gather(*(pool.workers.fetch("p") for _ in range(6)))
        await asyncio.sleep(1000)
        again_from = now()
        await asyncio.gather(*(pool.workers.fetch("p") for _ in range(4)))

    times = {
        worker: [at for who, at in noted(diary, "fetch") if who == worker] for worker in (0, 1)
    }
    for fetched in times.values():
        assert [round(at, 6) for at in fetched if at < again_from] == [0, 0.5, 1]
        assert [round(at - again_from, 6) for at in fetched if at >= again_from] == [0, 0.5]


@dataclass(frozen=True)
class Setting:
    """A mistake in the settings, and how it is called."""

    options: dict[str, Any]
    message: str


@pytest.mark.parametrize(
    "setting",
    [
        Setting({"size": 0}, r"'size' must be .*got 0"),
        Setting({"size": 2.5}, r"'size' must be .*got 2.5"),
        Setting({"size": float("nan")}, r"'size' must be .*got nan"),
        Setting({"start_interval": -1}, r"'start_interval' must be .*got -1"),
        Setting({"restart_every": 0}, r"'restart_every' must be .*got 0"),
        Setting({"mode": "threads"}, r"'mode' must be .*thread.*got 'threads'"),
        Setting({"sizes": 4}, "sizes"),
        Setting({"size": 4, "max_size": 2}, r"'max_size' must be at least 'size' \(4\)"),
        Setting({"escalation": 3}, r"'escalation' must be an Escalation"),
    ],
    ids=lambda setting: ",".join(setting.options),
)
def test_t15_settings_that_mean_nothing_are_refused(setting: Setting) -> None:
    """Flat names, each checked when the pool is built."""
    with pytest.raises((ConfigError, TypeError), match=setting.message):
        WorkerPool(Browser, [], **setting.options)


@pytest.mark.parametrize("field", ["failures", "pause", "pause_growth", "trips", "window"])
def test_t15_an_escalation_that_means_nothing_is_refused(field: str) -> None:
    """None of its numbers may be zero."""
    with pytest.raises(ConfigError, match=f"escalation: '{field}' must be"):
        Escalation(**{field: 0})


class BodyError(Exception):
    """What the body of a block raises."""


@pytest.mark.parametrize("way", ["normal", "error", "cancel", "kill"])
async def test_t16_workers_are_stopped_on_every_path(way: str) -> None:
    """A body that ends, or fails, drains first; one that is cancelled does not wait."""
    diary: list[tuple[Any, ...]] = []
    jobs: list[asyncio.Future[Any]] = []

    async def body() -> None:
        async with WorkerPool(Browser, diary, size=1) as pool:
            jobs.extend([await pool.submit("fetch", f"p{number}") for number in range(3)])
            await asyncio.sleep(0.5)
            match way:
                case "error":
                    raise BodyError
                case "cancel":
                    await asyncio.sleep(1000)
                case "kill":
                    await pool.kill()

    task = asyncio.create_task(body())
    await asyncio.sleep(0.7)
    if way == "cancel":
        task.cancel()
    outcome = await end_of(task)
    finished = [job for job in jobs if job.done() and not job.cancelled() and not job.exception()]

    assert all(job.done() for job in jobs)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    if way in ("normal", "error"):
        assert len(finished) == 3
        assert len(noted(diary, "stop")) == 1
        assert now() == 3
    else:
        assert finished == []
        assert now() < 1
    assert isinstance(outcome, BodyError) == (way == "error")


async def test_t17_the_error_of_a_dropped_task_can_be_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By whoever awaits the job, by the hook, by observers; the log tells that it was dropped."""
    dropped: list[Dropped] = []
    log = EventLog()

    with caplog.at_level(logging.INFO, "penstock"):
        async with WorkerPool(
            Browser, [], size=1, on_drop=dropped.append, observers=[log], name="browsers"
        ) as pool:
            job = await pool.submit("do", act := raising(LookupError("secret page")))
            failure = await end_of(job)

    assert isinstance(failure, LookupError)
    assert [(drop.failure, drop.args, drop.reason) for drop in dropped] == [
        (failure, (act,), "failed")
    ]
    assert [event.error_type for event in log.of(JobDropped)] == ["LookupError"]
    told = [
        record.getMessage() for record in caplog.records if "LookupError" in record.getMessage()
    ]
    assert len(told) == 1
    assert "secret page" not in told[0]
