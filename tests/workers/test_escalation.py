"""Jobs that fail for good: the pool pauses, longer each time, and in the end it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import pytest

from penstock import (
    CooldownResource,
    Escalation,
    Policy,
    PoolStoppedError,
    RestartWorker,
    SkipTask,
    StopPool,
    TripBreaker,
    WorkerPool,
    clock,
)
from penstock.events import WorkersPaused, WorkersResumed, WorkersStopped
from penstock.testing import EventLog
from penstock.workers.events import Dropped

pytestmark = pytest.mark.virtual_time


class Site:
    """A worker whose jobs do what their argument says; ``log`` is when each was begun."""

    def __init__(self, log: list[tuple[float, object]]) -> None:
        self.log = log

    async def do(self, what: object = None, seconds: float = 0) -> object:
        """Raise an exception, or return anything else."""
        self.log.append((clock.now(), what))
        if seconds:
            await asyncio.sleep(seconds)
        if isinstance(what, list):
            what = what.pop(0) if what else "done"
        if isinstance(what, BaseException):
            raise what
        return what


class Scene:
    """A pool of one worker that pauses after three failures, and all that it told."""

    def __init__(self, **options: Any) -> None:
        self.begun: list[tuple[float, object]] = []
        self.dropped: list[Dropped] = []
        self.log = EventLog()
        usual: dict[str, Any] = {
            "size": 1,
            "escalation": Escalation(failures=3, pause=10, trips=3),
            "on_drop": self.dropped.append,
            "observers": [self.log],
        }
        self.pool = WorkerPool(Site, self.begun, **{**usual, **options})
        self.t0 = 0.0

    async def __aenter__(self) -> Self:
        await self.pool.start()
        self.t0 = clock.now()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.kill()

    async def submit(self, *whats: object) -> list[Any]:
        """Hand in jobs."""
        return [await self.pool.submit(Site.do, what) for what in whats]

    def times(self) -> list[float]:
        """Return when jobs were begun, in seconds since the start."""
        return [at - self.t0 for at, _ in self.begun]

    def told(self, kind: type[Any]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.log if type(event) is kind]

    @property
    def reasons(self) -> list[str]:
        """Why jobs were given up, in order."""
        return [letter.reason for letter in self.dropped]


def boom(number: int = 0) -> ConnectionError:
    """Return a failure."""
    return ConnectionError(f"secret {number}")


async def outcomes(jobs: list[Any]) -> list[Any]:
    """Return results and failures."""
    return await asyncio.gather(*jobs, return_exceptions=True)


async def test_below_the_threshold_a_failed_job_is_dropped():
    """It fails with its own failure, and the pool goes on at once."""
    async with Scene() as scene:
        jobs = await scene.submit(boom(1), boom(2), "fine")

        first, second, third = await outcomes(jobs)

        assert [type(first), str(second), third] == [ConnectionError, "secret 2", "fine"]
        assert scene.times() == [0, 0, 0]
        assert scene.reasons == ["failed", "failed"]
        assert scene.told(WorkersPaused) == []


async def test_the_job_that_is_too_many_pauses_the_pool_and_is_run_again():
    """The first two are lost, the third is not; nothing starts meanwhile."""
    async with Scene() as scene:
        jobs = await scene.submit(boom(1), boom(2), [boom(3)], "after")

        results = await outcomes(jobs)

        assert results[2:] == ["done", "after"]
        assert scene.pool.stats().run_again == 1
        assert scene.times() == [0, 0, 0, 10, 10]
        assert [what for _, what in scene.begun[3:]] == ["after", []]
        (paused,) = scene.told(WorkersPaused)
        assert (paused.reason, paused.seconds) == ("3 jobs failed", 10)
        assert len(scene.told(WorkersResumed)) == 1
        assert scene.reasons == ["failed", "failed"]


async def test_a_direct_call_counts_and_is_run_again_as_well():
    """Whoever awaits it waits through the pause."""
    async with Scene() as scene:
        work = scene.pool.workers
        for number in range(2):
            with pytest.raises(ConnectionError):
                await work.do(boom(number))

        result = await work.do([boom(3)])

        assert result == "done"
        assert scene.times() == [0, 0, 0, 10]
        assert scene.reasons == ["failed", "failed"]


async def test_a_direct_call_is_told_of_before_its_caller_goes_on():
    """No step of the loop later."""
    async with Scene() as scene:
        with pytest.raises(ConnectionError):
            await scene.pool.workers.do(boom())

        assert scene.reasons == ["failed"]


async def test_each_pause_is_longer_and_the_last_is_the_end():
    """10 s, 20 s, and then everybody is told why."""
    async with Scene() as scene:
        jobs = await scene.submit(*[boom(number) for number in range(12)])

        results = await outcomes(jobs)

        assert [p.seconds for p in scene.told(WorkersPaused)] == [10, 20]
        stopped = [r for r in results if isinstance(r, PoolStoppedError)]
        assert {type(error.__cause__) for error in stopped} == {ConnectionError}
        assert "it had to pause 3 times" in str(stopped[0])
        assert len({id(error) for error in stopped}) == len(stopped)
        assert scene.times() == [0] * 3 + [10] * 3 + [30] * 3
        assert scene.reasons.count("failed") == 9 - 2
        assert scene.reasons.count("stopped") == len(stopped) == 12 - 7
        (event,) = scene.told(WorkersStopped)
        assert event.error_type == "ConnectionError"


async def test_failures_are_counted_over_all_workers():
    """Each of three has failed once."""
    async with Scene(size=3) as scene:
        await outcomes(await scene.submit(boom(1), boom(2), [boom(3)]))

        assert scene.times() == [0, 0, 0, 10]


async def test_failures_decay():
    """Two long ago and two now are no three."""
    async with Scene() as scene:
        await outcomes(await scene.submit(boom(1), boom(2)))
        await asyncio.sleep(301)
        await outcomes(await scene.submit(boom(3), boom(4)))

        assert scene.told(WorkersPaused) == []


async def test_successes_do_not_reset_the_count():
    """One of two jobs failing is too many as well."""
    async with Scene() as scene:
        await outcomes(await scene.submit(boom(1), "fine", boom(2), "fine", [boom(3)]))

        assert len(scene.told(WorkersPaused)) == 1


async def test_a_burst_of_failures_is_one_pause():
    """What began before the pause does not count, whenever it fails."""
    async with Scene(size=8) as scene:
        jobs = [
            await scene.pool.submit(Site.do, boom(number), seconds=1 + 4 * number)
            for number in range(8)
        ]

        results = await outcomes(jobs)

        assert len(scene.told(WorkersPaused)) == 1
        assert [type(result) for result in results].count(ConnectionError) == 8
        assert scene.pool.stats().dropped["failed"] == 8


async def test_running_jobs_go_on_while_the_pool_pauses():
    """Only new ones wait."""
    async with Scene(size=2) as scene:
        long = await scene.pool.submit(Site.do, "long", seconds=5)
        await outcomes(await scene.submit(boom(1), boom(2)))
        short = (await scene.submit([boom(3)]))[0]

        assert await long == "long"
        assert clock.now() - scene.t0 == 5
        assert await short == "done"
        assert clock.now() - scene.t0 == 10


async def test_retries_come_first_and_the_job_counts_once():
    """Three attempts with waits of 5 s and 10 s, then one failure; and again after that."""
    policy = Policy("p").with_retry(3, wait=lambda attempt: 5.0 * 2 ** (attempt - 1))
    async with Scene(policy=policy, escalation=Escalation(failures=2)) as scene:
        failures = [boom(number) for number in range(3)]
        (job,) = await scene.submit(failures)

        await outcomes([job])

        assert scene.times() == [0, 5, 15]
        assert scene.told(WorkersPaused) == []
        assert scene.pool.stats().retried == 2


async def test_an_attempt_that_hangs_is_cut_and_made_again():
    """Each has its 30 s; then the next."""
    policy = Policy("p").with_retry(2, wait=0).with_timeout(30)
    async with Scene(policy=policy) as scene:
        job = await scene.pool.submit(Site.do, "slow", seconds=99)

        (result,) = await outcomes([job])

        assert isinstance(result, TimeoutError)
        assert scene.times() == [0, 30]


async def test_skip_drops_the_job_and_counts_for_nothing():
    """However many of them there are; the worker is healthy and no attempt follows."""
    policy = Policy("p").with_retry(3, wait=1)
    async with Scene(policy=policy) as scene:
        results = await outcomes(await scene.submit(*[SkipTask("old") for _ in range(5)], "fine"))

        assert [type(result) for result in results[:5]] == [SkipTask] * 5
        assert results[5] == "fine"
        assert scene.times() == [0] * 6
        assert scene.reasons == ["skipped"] * 5
        assert scene.told(WorkersPaused) == []


async def test_trip_breaker_pauses_at_once_and_is_run_again():
    """No failure was needed for it, and none is counted."""
    async with Scene() as scene:
        jobs = await scene.submit([TripBreaker("banned")], "next")

        results = await outcomes(jobs)

        assert results == ["done", "next"]
        assert scene.times() == [0, 10, 10]
        assert scene.told(WorkersPaused)[0].reason == "banned"
        assert scene.pool.snapshot()["escalation"]["failures"] == 0


async def test_trip_breaker_works_without_escalation():
    """With its defaults; failed jobs count for nothing then."""
    async with Scene(escalation=None) as scene:
        jobs = await scene.submit(*[boom(number) for number in range(9)], [TripBreaker()])

        results = await outcomes(jobs)

        assert results[-1] == "done"
        assert scene.times() == [0] * 10 + [10]


async def test_several_that_ask_for_a_pause_get_one():
    """All of them are run again after it."""
    async with Scene(size=4) as scene:
        jobs = [
            await scene.pool.submit(Site.do, [TripBreaker()], seconds=1 + number)
            for number in range(4)
        ]

        results = await outcomes(jobs)

        assert results == ["done"] * 4
        assert scene.times() == [0] * 4 + [11] * 4


async def test_what_began_before_a_pause_is_news_when_it_is_run_again():
    """It asked for the pause that was under way; the next time it gets one of its own."""
    async with Scene(size=2) as scene:
        jobs = [
            await scene.pool.submit(Site.do, whats, seconds=seconds)
            for whats, seconds in (([TripBreaker()], 1), ([TripBreaker(), TripBreaker()], 2))
        ]

        await outcomes(jobs)

        assert [pause.seconds for pause in scene.told(WorkersPaused)] == [10, 20]
        assert scene.times() == [0, 0, 11, 11, 33]


async def test_a_job_is_run_again_no_more_often_than_the_pool_may_pause():
    """One that always asks for a pause would be run for ever, one pause an hour."""
    options = Escalation(pause=10, pause_growth=1, trips=3, trip_window=5)
    async with Scene(escalation=options) as scene:
        (job,) = await scene.submit([TripBreaker() for _ in range(99)])

        (result,) = await outcomes([job])

        assert isinstance(result, TripBreaker)
        assert scene.times() == [0, 10, 20, 30]
        assert scene.reasons == ["failed"]


async def test_the_job_that_is_run_again_never_waits_for_room():
    """A full line does not hold it up, nor does it throw anybody out."""
    async with Scene(queue=1) as scene:
        (tripping,) = await scene.submit([TripBreaker()])
        await asyncio.sleep(0)
        (waiting,) = await scene.submit("waiting")
        late = asyncio.create_task(scene.pool.submit(Site.do, "late"))

        assert await outcomes([tripping, waiting, await late]) == ["done", "waiting", "late"]


async def test_stop_pool_ends_it_and_everybody_is_told():
    """The job gets its own failure, all others one whose cause that is."""
    async with Scene() as scene:
        jobs = await scene.submit(StopPool("quota"), "second", "third")

        first, second, third = await outcomes(jobs)

        assert isinstance(first, StopPool)
        assert isinstance(second, PoolStoppedError)
        assert second.__cause__ is first
        assert "a job asked for it (quota)" in str(third)
        assert scene.times() == [0]
        assert scene.reasons == ["stopped"] * 3
        with pytest.raises(PoolStoppedError) as refused:
            await scene.pool.submit(Site.do)
        assert refused.value.__cause__ is first


async def test_jobs_under_way_end_when_the_pool_stops_by_itself():
    """What runs is finished; an attempt that would follow has no worker any more."""
    policy = Policy("p").with_retry(3, wait=1)
    async with Scene(size=3, policy=policy) as scene:
        long = await scene.pool.submit(Site.do, "long", seconds=5)
        failing = await scene.pool.submit(Site.do, boom(7), seconds=2)
        (stopping,) = await scene.submit(StopPool())

        results = await outcomes([long, failing, stopping])

        assert results[0] == "long"
        assert str(results[1]) == "secret 7"
        assert clock.now() - scene.t0 == 5


async def test_several_that_stop_the_pool_stop_it_once():
    """The first of them says what for; one that asks for a pause gets none any more."""
    async with Scene(size=3) as scene:
        whats = (StopPool("first"), StopPool("second"), TripBreaker())
        jobs = [
            await scene.pool.submit(Site.do, what, seconds=1 + number)
            for number, what in enumerate(whats)
        ]

        results = await outcomes(jobs)

        assert results == [*whats]
        assert scene.reasons == ["stopped"] * 3
        (event,) = scene.told(WorkersStopped)
        assert "(first)" in event.reason
        assert scene.told(WorkersPaused) == []


async def test_a_job_that_waits_for_a_resting_worker_is_told_that_the_pool_has_stopped():
    """Not that there is no worker."""
    async with Scene(size=2, pick="primary_backup") as scene:
        await outcomes(await scene.submit(CooldownResource(60)))
        stopping = await scene.pool.submit(Site.do, StopPool(), seconds=2)
        (waiting,) = await scene.submit("waiting")

        results = await outcomes([stopping, waiting])

        assert isinstance(results[1], PoolStoppedError)
        assert results[1].__cause__ is results[0]
        assert scene.reasons == ["failed", "stopped", "stopped"]


async def test_a_call_on_its_way_to_a_worker_is_told_that_the_pool_has_stopped():
    """It waited for its turn in the rate, and then there was no worker."""
    async with Scene(size=2, policy=Policy("p").with_rate("1/10s")) as scene:
        await scene.pool.workers.do()
        waiting = asyncio.create_task(scene.pool.workers.do("waiting"))
        await asyncio.sleep(1)
        stopping = await scene.pool.submit("do", StopPool(), policy=Policy("free"))

        results = await outcomes([stopping, waiting])

        assert isinstance(results[1], PoolStoppedError)
        assert results[1].__cause__ is results[0]
        assert scene.reasons == ["stopped", "stopped"]


async def test_a_pool_stops_while_a_worker_leaves_it():
    """One that is on its way out is in nobody's way."""
    async with Scene(size=2) as scene:
        jobs = [
            await scene.pool.submit(Site.do, what, seconds=seconds)
            for what, seconds in ((StopPool(), 2), ("long", 9))
        ]
        leaving = asyncio.create_task(scene.pool.resize(1))

        results = await outcomes(jobs)

        assert isinstance(results[0], StopPool)
        assert results[1] == "long"
        await leaving


async def test_what_is_no_exception_counts_for_nothing():
    """It ends whoever called, and is told of as a failure."""

    class Odd(BaseException):
        pass

    async with Scene(escalation=Escalation(failures=1)) as scene:
        with pytest.raises(Odd):
            await scene.pool.workers.do(Odd())

        assert scene.reasons == ["failed"]
        assert scene.told(WorkersPaused) == []


async def test_two_pauses_of_the_users_are_one():
    """One resume ends them."""
    async with Scene() as scene:
        scene.pool.pause()
        scene.pool.pause()
        (job,) = await scene.submit("fine")
        await asyncio.sleep(5)

        scene.pool.resume()

        assert await job == "fine"
        assert scene.times() == [5]
        assert len(scene.told(WorkersPaused)) == 1


async def test_leaving_the_block_tells_why_the_pool_has_stopped():
    """Also where nobody has awaited the job."""
    begun: list[tuple[float, object]] = []

    async def main() -> None:
        async with WorkerPool(Site, begun, size=1) as pool:
            await pool.submit(Site.do, StopPool())
            await asyncio.sleep(1)

    with pytest.raises(PoolStoppedError) as told:
        await main()

    assert isinstance(told.value.__cause__, StopPool)


async def test_a_block_that_raises_is_not_hidden_by_that():
    """It says something already."""
    begun: list[tuple[float, object]] = []

    async def main() -> None:
        async with WorkerPool(Site, begun, size=1) as pool:
            await pool.submit(Site.do, StopPool())
            await asyncio.sleep(1)
            raise KeyError

    with pytest.raises(KeyError):
        await main()


async def test_the_first_to_stop_it_is_told_and_the_second_is_not():
    """A second stop does nothing."""
    pool: WorkerPool[Site] = WorkerPool(Site, [], size=1)
    await pool.start()
    await pool.submit(Site.do, StopPool())
    await asyncio.sleep(1)

    with pytest.raises(PoolStoppedError):
        await pool.stop()
    await pool.stop()


async def test_whoever_joins_is_told():
    """They would take the work for done."""
    pool: WorkerPool[Site] = WorkerPool(Site, [], size=1)
    await pool.start()
    await pool.submit(Site.do, StopPool(), seconds=1)

    with pytest.raises(PoolStoppedError):
        await pool.join()
    await pool.kill()


async def test_whoever_waits_for_room_is_told():
    """Their jobs were never taken."""
    async with Scene(queue=1) as scene:
        await scene.pool.submit(Site.do, StopPool(), seconds=1)
        await asyncio.sleep(0)
        await scene.submit("waiting")
        late = asyncio.create_task(scene.pool.submit(Site.do, "late"))
        await asyncio.sleep(2)

        with pytest.raises(PoolStoppedError):
            await late


async def test_a_stopped_pool_can_be_started_again():
    """With failures and pauses forgotten; what was counted goes on."""
    async with Scene() as scene:
        await outcomes(await scene.submit("fine", StopPool()))
        await asyncio.sleep(1)

        await scene.pool.start()

        assert await outcomes(await scene.submit("again")) == ["again"]
        assert scene.pool.stats().done == 2


async def test_stop_pool_while_the_pool_is_stopped_ends_what_is_left():
    """Whoever is stopping it is told."""
    pool: WorkerPool[Site] = WorkerPool(Site, [], size=1)
    await pool.start()
    jobs = [await pool.submit(Site.do, what, seconds=1) for what in (StopPool(), "second")]

    with pytest.raises(PoolStoppedError) as told:
        await pool.stop()

    assert isinstance(told.value.__cause__, StopPool)
    assert isinstance((await outcomes(jobs))[1], PoolStoppedError)


async def test_stop_ends_a_pause_and_loses_nothing():
    """The job that was to be run again is run."""
    async with Scene() as scene:
        (job,) = await scene.submit([TripBreaker()])
        await asyncio.sleep(1)

        await scene.pool.stop()

        assert await job == "done"
        assert scene.times() == [0, 1]


async def test_kill_in_a_pause_drops_what_waits():
    """Nothing is left over, no timer either."""
    async with Scene() as scene:
        (job,) = await scene.submit([TripBreaker()])
        await asyncio.sleep(1)

        await scene.pool.kill()

        assert isinstance((await outcomes([job]))[0], PoolStoppedError)
        assert scene.reasons == ["stopped"]


async def test_resume_ends_a_pause_early():
    """Whoever owns the pool knows better."""
    async with Scene() as scene:
        (job,) = await scene.submit([TripBreaker()])
        await asyncio.sleep(1)

        scene.pool.resume()

        assert await job == "done"
        assert scene.times() == [0, 1]
        await asyncio.sleep(20)
        assert len(scene.told(WorkersResumed)) == 1


async def test_a_pause_that_was_ended_early_does_not_end_the_next():
    """Its time would be up in the middle of it."""
    async with Scene() as scene:
        (job,) = await scene.submit([TripBreaker(), TripBreaker()])
        await asyncio.sleep(1)

        scene.pool.resume()

        assert await job == "done"
        assert scene.times() == [0, 1, 21]


async def test_a_pause_of_the_users_outlasts_that_of_failed_jobs():
    """Each ends its own."""
    async with Scene() as scene:
        (job,) = await scene.submit([TripBreaker()])
        await asyncio.sleep(1)
        scene.pool.pause()
        await asyncio.sleep(20)

        assert scene.times() == [0]
        scene.pool.resume()
        assert await job == "done"


async def test_a_job_can_be_cancelled_while_the_pool_pauses():
    """It is not dropped, and not run again."""
    async with Scene() as scene:
        (job,) = await scene.submit([TripBreaker()])
        await asyncio.sleep(1)

        job.cancel()
        await asyncio.sleep(20)

        assert job.cancelled()
        assert scene.times() == [0]
        assert scene.reasons == []


@pytest.mark.parametrize(
    ("make", "reason", "pauses"),
    [
        (lambda: [SkipTask(), TripBreaker(), StopPool(), OSError()], None, 1),
        (lambda: [SkipTask(), StopPool(), OSError()], "failed", 0),
        (lambda: [SkipTask(), StopPool()], "stopped", 0),
        (lambda: [RestartWorker(), SkipTask()], "skipped", 0),
        (lambda: [RestartWorker(), OSError()], "failed", 0),
    ],
)
async def test_of_several_requests_the_strongest_acts(
    make: Callable[[], list[Exception]], reason: str | None, pauses: int
):
    """A pause, an error, the end, a skip: in that order; those of a group of tasks come at once."""
    async with Scene() as scene:
        (job,) = await scene.submit([ExceptionGroup("several", make())])

        await outcomes([job])

        assert scene.reasons == ([] if reason is None else [reason])
        assert len(scene.told(WorkersPaused)) == pauses


async def test_a_restart_is_honoured_with_any_of_them():
    """The worker is new when the job is run again."""
    async with Scene() as scene:
        group = ExceptionGroup("several", [TripBreaker(), ExceptionGroup("in", [RestartWorker()])])
        (job,) = await scene.submit([group])

        assert await job == "done"
        assert scene.pool.stats().restarts == 1


async def test_what_is_refused_before_it_has_a_worker_does_not_count():
    """What never had a worker says nothing about workers."""
    policy = Policy("p").with_concurrency(1, max_queue=0)
    async with Scene(size=3, policy=policy, escalation=Escalation(failures=1)) as scene:
        long = await scene.pool.submit(Site.do, "long", seconds=5)
        await asyncio.sleep(1)
        results = await outcomes(await scene.submit("one", "two"))

        assert scene.reasons == ["rejected"] * 2
        assert [type(result).__name__ for result in results] == ["ConcurrencyLimitedError"] * 2
        assert scene.told(WorkersPaused) == []
        assert await long == "long"
