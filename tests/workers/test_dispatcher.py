"""Who is started when, who waits for room, and that the books balance whatever happens."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from penstock import CooldownResource, Policy
from penstock.errors import (
    ConcurrencyLimitedError,
    NoResourceError,
    PolicyError,
    PoolStoppedError,
)
from penstock.testing import run
from penstock.workers import Job, JobState, WorkerPool

pytestmark = pytest.mark.virtual_time


class Ending(BaseException):
    """Ends no program, and is no error either."""


class Clerk:
    """Serves one job at a time, and remembers which."""

    began: list[Any]
    ended: list[Any]

    def __init__(self) -> None:
        self.began, self.ended = [], []

    async def work(self, name: Any = None, seconds: float = 1.0) -> Any:
        self.began.append(name)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.ended.append(name)
        return name

    async def at_once(self, name: Any = None) -> Any:
        self.began.append(name)
        return name

    async def raises(self, error: BaseException) -> None:
        raise error

    async def swallows(self) -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return "swallowed"

    async def cancels_seen(self) -> int:
        task = asyncio.current_task()
        return -1 if task is None else task.cancelling()


def pool_of(size: int = 1, **options: Any) -> WorkerPool[Clerk]:
    """Return a pool of clerks."""
    return WorkerPool(Clerk, size=size, **options)


def check_books(pool: WorkerPool[Any]) -> None:
    """Nothing is held, and nobody waits."""
    dispatcher = pool._run.dispatcher
    assert dispatcher.starting == 0
    assert not dispatcher.active
    assert dispatcher.queued == 0
    assert dispatcher.unfinished == 0
    assert dispatcher._reserved == 0
    assert not dispatcher._producers
    assert not dispatcher._held_back
    assert not dispatcher.joining
    assert all(slot.in_flight == 0 for slot in pool._run.slots.values())
    assert all(m.in_flight == 0 for m in pool._run.workers.machine.members.values())


def worker_of(pool: WorkerPool[Any], index: int = 0) -> Any:
    """Return the object that serves at a place."""
    return pool._run.slots[f"worker-{index}"].engine._worker


async def ends(job: Job[Any]) -> Any:
    """Return what a job ends with, whatever it is."""
    try:
        return await job
    except BaseException as failure:  # noqa: BLE001 - the outcome that is asked for
        return failure


def test_jobs_start_in_the_order_in_which_they_were_submitted():
    """First come, first served."""

    async def main() -> None:
        async with pool_of() as pool:
            jobs = [await pool.submit(Clerk.work, number) for number in range(40)]
            await asyncio.gather(*jobs)

            assert worker_of(pool).began == [*range(40)]
            check_books(pool)

    run(main())


def test_a_higher_priority_is_served_first():
    """Priority goes before arrival, arrival decides within one."""

    async def main() -> None:
        async with pool_of() as pool:
            jobs = [await pool.submit("work", "first")]
            await asyncio.sleep(0.1)
            for name, priority in [("low", -1), ("a", 0), ("b", 0), ("high", 5)]:
                jobs.append(await pool.submit("work", name, priority=priority))
            await asyncio.gather(*jobs)

            assert worker_of(pool).began == ["first", "high", "a", "b", "low"]

    run(main())


def test_a_call_does_not_overtake_the_line():
    """A direct call stands in line where there is one."""

    async def main() -> None:
        async with pool_of() as pool:
            first = await pool.submit("work", 1)
            second = await pool.submit("work", 2)
            await asyncio.sleep(0.1)
            await pool.workers.work(3)

            assert worker_of(pool).began == [1, 2, 3]
            await asyncio.gather(first, second)

    run(main())


def test_a_worker_is_used_while_another_job_backs_off():
    """A job that waits for its next attempt holds no worker, and the next job learns of that."""

    async def main() -> None:
        policy = Policy("p").with_retry(attempts=2, wait=100, retry_on=ValueError)
        async with pool_of(policy=policy) as pool:
            failing = await pool.submit("raises", ValueError("no"))
            behind = await pool.submit("work", "behind")
            await asyncio.wait([behind], timeout=5)

            assert behind.done()
            failing.cancel()
            assert isinstance(await ends(failing), asyncio.CancelledError)
            check_books(pool)

    run(main())


def test_producers_wait_at_the_bound_and_go_on():
    """The line is as long as it may be, never longer."""

    async def main() -> None:
        async with pool_of(queue=2) as pool:
            longest = 0

            async def produce(number: int) -> Any:
                nonlocal longest
                job = await pool.submit("work", number)
                longest = max(longest, pool._run.dispatcher.queued)
                return await job

            results = await asyncio.gather(*(produce(number) for number in range(10)))

            assert results == [*range(10)]
            assert longest == 2
            assert worker_of(pool).began == [*range(10)]
            check_books(pool)

    run(main())


def test_submit_nowait_refuses_what_has_no_room():
    """Nobody waits, and nothing is left behind."""

    async def main() -> None:
        async with pool_of(queue=1) as pool:
            running = pool.submit_nowait(Clerk.work, 1)
            await asyncio.sleep(0)
            waiting = pool.submit_nowait(Clerk.work, 2)
            with pytest.raises(ConcurrencyLimitedError, match="1 jobs wait"):
                pool.submit_nowait(Clerk.work, 3)

            assert await asyncio.gather(running, waiting) == [1, 2]
            check_books(pool)

    run(main())


def test_a_producer_cancelled_as_it_is_let_in_loses_no_place():
    """The place goes to the next one."""

    async def main() -> None:
        async with pool_of(queue=1) as pool:
            jobs = [await pool.submit("work", 1)]
            await asyncio.sleep(0.1)
            jobs.append(await pool.submit("work", 2))
            unlucky = asyncio.create_task(pool.submit("work", 3))
            next_one = asyncio.create_task(pool.submit("work", 4))
            await asyncio.sleep(0.1)
            jobs[1].cancel()
            unlucky.cancel()
            jobs.append(await asyncio.wait_for(next_one, 0.05))
            await asyncio.wait(jobs)

            assert unlucky.cancelled()
            assert worker_of(pool).began == [1, 4]
            check_books(pool)

    run(main())


def test_producers_that_wait_are_refused_when_the_pool_stops():
    """All of them, at once: they were not accepted yet."""

    async def main() -> None:
        async with pool_of(queue=1) as pool:
            jobs = [await pool.submit("work", 1)]
            await asyncio.sleep(0.1)
            jobs.append(await pool.submit("work", 2))
            producers = [asyncio.create_task(pool.submit("work", n)) for n in range(3, 7)]
            await asyncio.sleep(0.1)
            stopping = asyncio.create_task(pool.stop())
            outcomes = await asyncio.gather(*producers, return_exceptions=True)

            assert all(isinstance(outcome, PoolStoppedError) for outcome in outcomes)
            assert await asyncio.gather(*jobs) == [1, 2]
            await stopping
            check_books(pool)

    run(main())


def test_a_call_made_before_and_awaited_after_the_stop_is_refused():
    """It hangs in no line that nobody serves any more."""

    async def main() -> None:
        async with pool_of() as pool:
            late = pool.workers.work(1)
            await pool.stop()
            with pytest.raises(PoolStoppedError):
                await late
            with pytest.raises(PoolStoppedError):
                await pool.submit("work")
            with pytest.raises(PoolStoppedError):
                pool.submit_nowait("work")

    run(main())


def test_a_pool_that_stops_takes_no_call_though_a_worker_is_ready():
    """It only finishes what it has."""

    async def main() -> None:
        async with pool_of(2) as pool:
            job = await pool.submit("work", 1, 10)
            await asyncio.sleep(0.1)
            stopping = asyncio.create_task(pool.stop())
            call = pool.workers.work(2)
            await asyncio.sleep(0.1)
            with pytest.raises(PoolStoppedError):
                await call
            assert await job == 1
            await stopping

    run(main())


def test_a_producer_that_is_let_in_and_refused_gives_its_place_to_the_next():
    """As one that is cancelled does."""

    async def main() -> None:
        async with pool_of(queue=1) as other, pool_of(queue=1) as pool:
            foreign = Job(other._target("work"), (), None, None, None, 0, other._run.dispatcher)
            foreign.get_loop = lambda: None  # type: ignore[method-assign]
            await pool.submit("work", 1)
            await asyncio.sleep(0.1)
            await pool.submit("work", 2)
            refused = asyncio.create_task(pool.submit("work", foreign))
            following = asyncio.create_task(pool.submit("work", 3))
            outcomes = await asyncio.gather(refused, following, return_exceptions=True)

            assert isinstance(outcomes[0], PolicyError)
            assert await outcomes[1] == 3

    run(main())


def test_a_kill_ends_every_job_wherever_it_stands():
    """In line, on its way, running, called directly, waiting for another: all are told."""

    async def main() -> None:
        async with pool_of(2, queue=None) as pool:
            direct = asyncio.create_task(pool.workers.work("direct"))
            await asyncio.sleep(0.1)
            running = await pool.submit("work", "running")
            await asyncio.sleep(0.1)
            queued = await pool.submit("work", "queued")
            dependent = await pool.submit("work", queued)
            await pool.kill()
            outcomes = [await ends(job) for job in (running, queued, dependent)]

            assert all(isinstance(outcome, PoolStoppedError) for outcome in outcomes)
            with pytest.raises(PoolStoppedError):
                await direct
            assert direct.cancelling() == 0
            check_books(pool)

    run(main())


def test_a_job_that_was_just_started_does_not_run_after_a_kill():
    """Its task exists and has not begun."""

    async def main() -> None:
        async with pool_of() as pool:
            worker = worker_of(pool)
            job = await pool.submit("work", 1)
            assert job.state is JobState.STARTING
            await pool.kill()

            assert isinstance(await ends(job), PoolStoppedError)
            assert worker.began == []
            check_books(pool)

    run(main())


def test_a_job_cancelled_in_line_never_runs():
    """And gives its place back."""

    async def main() -> None:
        async with pool_of() as pool:
            first = await pool.submit("work", 1)
            second = await pool.submit("work", 2)
            await asyncio.sleep(0.1)
            assert second.state is JobState.QUEUED
            assert second.cancel()
            assert not second.cancel()
            await first
            await asyncio.sleep(5)

            assert second.cancelled()
            assert worker_of(pool).began == [1]
            check_books(pool)

    run(main())


def test_a_job_cancelled_on_its_way_frees_the_worker_for_the_next():
    """The task that was made for it does nothing."""

    async def main() -> None:
        async with pool_of() as pool:
            first = await pool.submit("work", 1)
            second = await pool.submit("work", 2)
            assert first.state is JobState.STARTING
            first.cancel()

            assert await second == 2
            assert first.cancelled()
            assert worker_of(pool).began == [2]
            check_books(pool)

    run(main())


def test_a_running_job_that_is_cancelled_ends_after_it_has_cleaned_up():
    """The worker is free then, not before."""

    async def main() -> None:
        async with pool_of() as pool:
            job = await pool.submit("work", 1)
            behind = await pool.submit("work", 2)
            await asyncio.sleep(0.1)
            assert job.cancel()
            assert not job.done()
            assert await behind == 2

            assert job.cancelled()
            assert worker_of(pool).ended == [1, 2]
            check_books(pool)

    run(main())


def test_whoever_is_cancelled_while_awaiting_a_job_cancels_it():
    """As with a task."""

    async def main() -> None:
        async with pool_of() as pool:
            job = await pool.submit("work", 1)

            async def wait() -> None:
                await job

            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.wait([waiting])

            assert waiting.cancelled()
            assert job.cancelled()
            check_books(pool)

    run(main())


def test_a_swallowed_cancel_leaves_a_result_and_troubles_nobody_else():
    """The task that carries the count of it serves no other job."""

    async def main() -> None:
        async with pool_of() as pool:
            job = await pool.submit("swallows")
            behind = await pool.submit("cancels_seen")
            await asyncio.sleep(0.1)
            job.cancel()

            assert await job == "swallowed"
            assert await behind == 0
            check_books(pool)

    run(main())


@pytest.mark.parametrize("error", [asyncio.CancelledError(), Ending(), ValueError("no")])
def test_whatever_a_method_raises_ends_its_own_job_alone(error: BaseException):
    """The pool goes on, and nobody waits for ever."""

    async def main() -> None:
        async with pool_of() as pool:
            job = await pool.submit("raises", error)
            behind = await pool.submit("work", 2)

            assert isinstance(await ends(job), type(error))
            assert await behind == 2
            with pytest.raises(type(error)):
                await pool.workers.raises(error)
            await pool.join()
            check_books(pool)

    async def quiet() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await main()

    run(quiet())


def test_no_context_variable_goes_from_one_job_to_the_next():
    """Also where one task serves several jobs."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="-")

    class Keeper:
        async def see(self) -> str:
            return variable.get()

        async def change(self) -> str:
            variable.set("changed")
            return variable.get()

    async def main() -> list[str]:
        async with WorkerPool(Keeper, size=1) as pool:
            jobs = [await pool.submit("change"), await pool.submit("see")]
            variable.set("mine")
            jobs += [await pool.submit("see"), await pool.submit("change")]
            jobs += [await pool.submit("see")]
            return [await job for job in jobs]

    assert run(main()) == ["changed", "-", "mine", "changed", "mine"]


def test_values_that_are_equal_and_not_the_same_are_kept_apart():
    """Two requests that are equal are still two; and what cannot be compared is not."""

    class Awkward(list):
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth of an array is ambiguous")

        __hash__ = None

    for kind in (list, Awkward):
        variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")

        class Keeper:
            async def note(self, what: str, at: Any = variable) -> None:
                at.get().append(what)

        async def main(variable: Any = variable, kind: Any = kind, keeper: Any = Keeper) -> None:
            async with WorkerPool(keeper, size=1) as pool:
                own, jobs = [], []
                for name in "abc":
                    own.append(kind())
                    variable.set(own[-1])
                    jobs.append(await pool.submit("note", name))
                await asyncio.gather(*jobs)
                assert [[*each] for each in own] == [["a"], ["b"], ["c"]]

        run(main())


def test_one_job_goes_ahead_while_all_workers_rest():
    """It waits for the end of the rest; the others wait in line."""

    class Tired:
        async def work(self, *, rest: bool) -> str:
            if rest:
                raise CooldownResource(30)
            return "done"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with WorkerPool(Tired, size=2) as pool:
            for _ in range(2):
                with pytest.raises(CooldownResource):
                    await pool.workers.work(rest=True)
            began = loop.time()
            jobs = [await pool.submit("work", rest=False) for _ in range(5)]
            await asyncio.sleep(1)
            states = [job.state for job in jobs]

            assert states == [JobState.RUNNING] + [JobState.QUEUED] * 4
            assert await asyncio.gather(*jobs) == ["done"] * 5
            assert 30 <= loop.time() - began < 31
            check_books(pool)

    run(main())


def test_every_job_in_line_fails_when_all_workers_are_parked():
    """Errors, never silence."""

    class Dying:
        starts = 0

        async def start(self) -> None:
            Dying.starts += 1
            if Dying.starts > 1:
                raise OSError("gone")

        async def work(self) -> None:
            await asyncio.sleep(1)
            raise SystemExit

    async def main() -> None:
        options: dict[str, Any] = {"max_restarts": 2, "restart_delay": 0, "queue": None}
        async with WorkerPool(Dying, size=1, **options) as pool:
            jobs = [await pool.submit("work") for _ in range(40)]
            outcomes = [await ends(job) for job in jobs]

            assert {type(outcome) for outcome in outcomes[1:]} == {NoResourceError}
            with pytest.raises(NoResourceError):
                await pool.workers.work()
            check_books(pool)

    run(main())


def test_a_pool_is_used_in_its_own_loop_alone():
    """Another thread is told so; so is another loop after the pool's was closed."""

    async def main() -> WorkerPool[Clerk]:
        pool = pool_of()
        await pool.start()

        def elsewhere() -> None:
            with pytest.raises(PolicyError, match="event loop"):
                asyncio.run(pool.workers.work())
            with pytest.raises(PolicyError, match="event loop"):
                asyncio.run(pool.submit("work"))

        await asyncio.to_thread(elsewhere)
        return pool

    async def later(pool: WorkerPool[Clerk]) -> None:
        with pytest.raises(PolicyError, match="event loop"):
            await pool.submit("work")
        with pytest.raises(PolicyError, match="event loop"):
            await pool.workers.work()

    asyncio.run(later(asyncio.run(main())))


def test_join_returns_when_nothing_is_left():
    """Neither in line nor running nor called directly; a cancelled join leaves nothing."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pool_of(2) as pool:
            await pool.join()
            direct = asyncio.create_task(pool.workers.work(0))
            jobs = [await pool.submit("work", number) for number in range(1, 6)]
            gone = asyncio.create_task(pool.join())
            await asyncio.sleep(0.5)
            gone.cancel()
            await pool.join()

            assert loop.time() == pytest.approx(3)
            assert all(job.done() for job in jobs)
            await direct
            check_books(pool)

    run(main())
