"""What can be called on a pool of workers, and how: methods, functions, all workers at once."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from penstock import ConfigError, Policy, PolicyError, WorkerDiedError
from penstock.testing import cancel_sweep, run
from penstock.testing.cancel_sweep import Sweep
from penstock.workers import Job, Worker, WorkerPool

pytestmark = pytest.mark.virtual_time


class Clerk(Worker):
    """Knows its place, and how many calls it has at a time."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix, self.index, self.calls = prefix, -1, 0
        self.now = self.most = 0

    async def start(self, index: int) -> None:
        self.index = index

    async def where(self, *, seconds: float = 1.0) -> int:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.now -= 1
        return self.index

    async def reload(self, prefix: str) -> str:
        self.prefix = f"{prefix}{self.index}"
        await asyncio.sleep(1)
        return self.prefix

    async def fails_on(self, index: int) -> int:
        if self.index == index:
            raise ValueError(index)
        return self.index

    async def items(self) -> Any:
        yield 1

    def _private(self) -> None: ...


def balanced(pool: WorkerPool[Any]) -> bool:
    """Nothing is held, and nobody waits."""
    dispatcher = pool._run.dispatcher
    books = (dispatcher.unfinished, dispatcher.starting, dispatcher._reserved, dispatcher.joining)
    idle = all(slot.in_flight == 0 for slot in pool._run.slots.values())
    return not any(books) and idle and not dispatcher._producers


def test_a_method_is_submitted_by_name_by_itself_or_as_a_function_of_the_worker():
    """All of them are calls of the same worker."""

    async def main() -> list[Any]:
        async with WorkerPool(Clerk, size=1) as pool:
            return [
                await pool.workers.where(),
                await (await pool.submit("where")),
                await (await pool.submit(Clerk.where, seconds=2)),
                await (await pool.submit(lambda worker, plus: worker.index + plus, 5)),
                await (
                    await pool.submit(partial(lambda worker, plus: worker.index + plus, plus=7))
                ),
            ]

    # Plain functions run in a thread, which virtual time does not wait for.
    assert asyncio.run(main()) == [0, 0, 0, 5, 7]


def test_a_subclass_has_its_own_method_called():
    """Found by its name, as everywhere."""

    class Sub(Clerk):
        async def where(self, *, seconds: float = 1.0) -> int:
            return 100

    async def main() -> int:
        async with WorkerPool(Sub, size=1) as pool:
            return await pool.workers.where()

    assert run(main()) == 100


@pytest.mark.parametrize("name", ["start", "stop", "healthy", "_private", "unknown"])
def test_what_is_not_a_jobs_to_call_is_refused_at_once(name: str):
    """Hooks are the pool's, private names the worker's; unknown ones are nobody's."""
    pool = WorkerPool(Clerk, size=1)

    with pytest.raises(AttributeError, match=name):
        getattr(pool.workers, name)
    with pytest.raises(TypeError, match=name):
        pool._target(name)


def test_an_unknown_method_names_those_that_come_near():
    """Before anything is submitted."""
    pool = WorkerPool(Clerk, size=1)

    with pytest.raises(AttributeError, match="did you mean 'reload'"):
        pool.workers.relaod("x")  # type: ignore[attr-defined]


@pytest.mark.parametrize(("work", "why"), [(3, "a job is"), (Clerk().where, "bound to one worker")])
def test_what_cannot_be_a_job_is_refused(work: Any, why: str):
    """With what to give instead."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            with pytest.raises(TypeError, match=why):
                await pool.submit(work)
            with pytest.raises(TypeError, match="async iterator"):
                await pool.submit(Clerk.items)

    run(main())


def test_functions_made_per_job_do_not_pile_up():
    """The pool remembers a few hundred."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1, queue=None) as pool:
            for number in range(600):
                await pool.submit(lambda worker, number=number: number)
            assert len(pool._targets) <= 256
            await pool.kill()

    run(main())


@pytest.mark.parametrize(
    "given",
    [{"key": "k"}, {"key": ""}, {"key": 3}, {"priority": 1.5}, {"priority": True}, {"policy": 3}],
)
def test_an_option_of_a_job_that_is_not_allowed_is_refused(given: dict[str, Any]):
    """By name; a key says that it needs ``pick="sticky"``."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            with pytest.raises(ConfigError, match=next(iter(given))):
                await pool.submit("where", **given)
            assert balanced(pool)

    run(main())


def test_jobs_of_one_key_go_to_one_worker():
    """While it is ready."""

    async def main() -> list[set[int]]:
        async with WorkerPool(Clerk, size=4, per_worker=8, pick="sticky") as pool:
            seen = []
            for key in "abcdef":
                jobs = [await pool.submit("where", key=key) for _ in range(2)]
                seen.append({await job for job in jobs})
            return seen

    assert all(len(workers) == 1 for workers in run(main()))


def test_a_job_may_bring_its_own_policy():
    """Instead of the pool's."""

    class Flaky:
        async def work(self, fails: list[int]) -> int:
            fails.append(1)
            if len(fails) < 3:
                raise ConnectionError
            return len(fails)

    async def main() -> None:
        async with WorkerPool(Flaky, size=1) as pool:
            with pytest.raises(ConnectionError):
                await pool.workers.work([])
            patient = Policy("patient").with_retry(attempts=3, wait=1)
            assert await (await pool.submit("work", [], policy=patient)) == 3

    run(main())


def test_of_five_calls_two_fail_and_three_succeed():
    """A failure is its own call's alone."""

    async def main() -> list[Any]:
        async with WorkerPool(Clerk, size=5) as pool:
            calls = [pool.workers.fails_on(number % 2 * number) for number in range(5)]
            return await asyncio.gather(*calls, return_exceptions=True)

    results = run(main())

    assert sum(isinstance(result, ValueError) for result in results) >= 1
    assert all(isinstance(result, int | ValueError) for result in results)


def test_a_timeout_loses_no_result_of_a_shielded_job():
    """Whoever waits may leave; the job goes on."""

    async def main() -> int:
        async with WorkerPool(Clerk, size=1) as pool:
            job = await pool.submit("where", seconds=10)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(job), 1)
            return await job

    assert run(main()) == 0


def test_a_broadcast_reaches_every_worker_once_in_order():
    """Each when its calls have ended, with no more than it is written for."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=3) as pool:
            busy = [await pool.submit("where", seconds=5) for _ in range(2)]
            await asyncio.sleep(0.1)
            assert await pool.broadcast(Clerk.reload, "x") == ["x0", "x1", "x2"]
            assert all(job.done() for job in busy)
            assert await pool.workers.where() in {0, 1, 2}
            assert balanced(pool)

    run(main())


def test_a_broadcast_raises_the_first_failure_or_returns_them_all():
    """After all others have ended."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=3) as pool:
            with pytest.raises(ValueError, match="1"):
                await pool.broadcast(Clerk.fails_on, 1)
            first, failure, last = await pool.broadcast("fails_on", 1, return_exceptions=True)
            assert (first, last) == (0, 2)
            assert isinstance(failure, ValueError)
            assert balanced(pool)

    run(main())


def test_a_broadcast_from_a_job_is_refused():
    """It would wait for itself."""

    class Selfish:
        pool: WorkerPool[Any]

        async def work(self) -> None:
            await Selfish.pool.broadcast("work")

    async def main() -> None:
        async with WorkerPool(Selfish, size=1) as pool:
            Selfish.pool = pool
            with pytest.raises(PolicyError, match="waits for all workers"):
                await pool.workers.work()

    run(main())


def test_a_broadcast_names_a_worker_that_went_down_before_its_turn():
    """Instead of waiting for ever."""

    class Mortal(Clerk):
        async def die(self) -> None:
            await asyncio.sleep(1)
            raise SystemExit

    async def main() -> None:
        async with WorkerPool(Mortal, size=1, restart_delay=100) as pool:
            dying = await pool.submit("die")
            await asyncio.sleep(0.1)
            with pytest.raises(WorkerDiedError):
                await pool.broadcast("where")
            with pytest.raises(WorkerDiedError):
                await dying

    run(main())


async def _submits(pool: WorkerPool[Clerk], sweep: Sweep) -> None:
    first = await pool.submit("where")

    async def submit() -> None:
        for _ in range(3):
            job: Job[int] = await pool.submit("where")
        await job

    sweep.victim(submit())
    sweep.beside(_await(first), _call(pool))


async def _calls(pool: WorkerPool[Clerk], sweep: Sweep) -> None:
    sweep.victim(_call(pool))
    sweep.beside(_call(pool), _call(pool))


async def _awaits(pool: WorkerPool[Clerk], sweep: Sweep) -> None:
    jobs = [await pool.submit("where") for _ in range(2)]
    sweep.victim(_await(jobs[1]))
    sweep.beside(_await(jobs[0]), _call(pool))


async def _maps(pool: WorkerPool[Clerk], sweep: Sweep) -> None:
    async def read() -> None:
        async for _ in pool.map(lambda worker, _: worker.where(), range(4), chunk=2):
            pass

    async def read_plain() -> None:
        async for _ in pool.map("fails_on", range(10, 14)):
            pass

    sweep.victim(read_plain())
    sweep.beside(_call(pool))


async def _broadcasts(pool: WorkerPool[Clerk], sweep: Sweep) -> None:
    sweep.victim(pool.broadcast("where"))
    sweep.beside(_call(pool), _call(pool))


async def _joins(pool: WorkerPool[Clerk], sweep: Sweep) -> None:
    job = await pool.submit("where")
    sweep.victim(pool.join())
    sweep.beside(_await(job), pool.join())


async def _call(pool: WorkerPool[Clerk]) -> None:
    # The coroutine is made in the step in which it is awaited.
    await pool.workers.where()


async def _await(what: Any) -> None:
    await what


@pytest.mark.parametrize("scenario", [_submits, _calls, _awaits, _maps, _broadcasts, _joins])
def test_a_cancel_at_any_step_leaves_the_books_balanced(scenario: Any):
    """Nothing is lost, nothing leaks, and the pool serves on."""

    async def play(sweep: Sweep) -> WorkerPool[Clerk]:
        pool = WorkerPool(Clerk, size=1, queue=1)
        await pool.start()
        await scenario(pool, sweep)
        return pool

    async def check(pool: WorkerPool[Clerk]) -> None:
        await pool.join()
        assert balanced(pool)
        assert await pool.workers.where() == 0
        await pool.stop()

    assert cancel_sweep(play, check) >= 3
