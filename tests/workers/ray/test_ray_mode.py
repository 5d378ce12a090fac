"""Workers in actors, on one node."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    ConfigError,
    Policy,
    RemoteError,
    WorkerDiedError,
    WorkerPool,
)
from penstock.call import Call, CallContext, enter_call
from penstock.classify import classify
from penstock.workers import WorkerPoolOptions
from penstock.workers.engine import WorkerSpec
from penstock.workers.target import target_of

pytest.importorskip("ray", reason="Ray is not installed: pip install 'penstock[ray]'")

pytestmark = [pytest.mark.ray, pytest.mark.real_time, pytest.mark.usefixtures("ray_here")]

# Below: a restart is immediate, and no health round comes unless a test wants one.
_OPTIONS: dict[str, Any] = {"mode": "ray", "size": 1, "restart_delay": (0.0,)}


@pytest.fixture(scope="module")
def staff(ray_environment: None) -> Any:
    """Return the module of the workers, as the actors import it."""
    import ray_staff  # noqa: PLC0415 - on the path since the fixture

    return ray_staff


async def _until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    by = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < by, "it did not come to pass"
        await asyncio.sleep(0.01)


async def test_methods_of_both_kinds_run_in_an_actor_that_keeps_its_state(staff: Any) -> None:
    """The worker is another process, told its place, and the same one for each call."""
    async with WorkerPool(staff.Clerk, "ann", **_OPTIONS) as pool:
        results = [await pool.workers.add(1), await pool.workers.add_later(5, delay=0.0)]
        state = await pool.workers.told()
        pid = await pool.workers.pid()

    assert results == [2, 6]
    assert tuple(state) == ("ann", 0, 2, [])
    assert pid != os.getpid()


async def test_a_function_of_the_workers_is_sent_along(staff: Any) -> None:
    """A lambda travels by value, with what it closes over."""
    seven = 7
    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        job = await pool.submit(lambda clerk, more: clerk.add(seven) + more, 10)

        assert await job == 18


async def test_a_reference_among_the_arguments_is_resolved(staff: Any, ray_here: Any) -> None:
    """What was put in Ray's store comes as its value, as with every actor."""
    held = ray_here.put([1, 2, 3])
    async with WorkerPool(staff.Holder, held, **_OPTIONS) as pool:
        assert await pool.workers.get() == [1, 2, 3]
        assert await (await pool.submit(lambda _, items: sum(items), held)) == 6


async def test_failures_travel_as_they_are_or_in_an_envelope(staff: Any) -> None:
    """What pickles keeps its type; the rest becomes a RemoteError with status and traceback."""
    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        with pytest.raises(LookupError, match="no such book") as plain:
            await pool.workers.fail("no such book")
        with pytest.raises(RemoteError, match="out of ink") as odd:
            await pool.workers.fail_oddly("out of ink")

    assert "worker-0" in plain.value.__notes__[0]
    assert (odd.value.status_code, odd.value.type_name) == (503, "ray_staff.OddError")
    assert "fail_oddly" in odd.value.traceback_text


async def test_an_exception_of_a_script_comes_back_as_its_own_class(staff: Any) -> None:
    """A class that no actor could import is sent by value, and is the same one afterwards."""

    class OwnError(Exception):
        pass

    def raise_it(_: object) -> None:
        raise OwnError

    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        with pytest.raises(OwnError):
            await (await pool.submit(raise_it))


async def test_what_cannot_be_sent_fails_the_call_alone(staff: Any) -> None:
    """An argument or a result that does not pickle is named, and the worker goes on."""
    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        pid = await pool.workers.pid()
        with pytest.raises(TypeError, match=r"argument 0 \(lock\) cannot be sent to a Ray actor"):
            await pool.workers.note(threading.Lock())
        with pytest.raises(TypeError, match=r"result of .*give_lock cannot be sent.*lock"):
            await pool.workers.give_lock()

        assert await pool.workers.pid() == pid


def test_workers_that_cannot_be_sent_are_refused_when_the_pool_is_built(staff: Any) -> None:
    """The message names the argument and the attribute that is in the way."""
    held = staff.Holder(threading.Lock())

    with pytest.raises(TypeError, match=r"workers: argument 0\.held \(lock\) cannot be sent"):
        WorkerPool(staff.Holder, held, **_OPTIONS)


@pytest.mark.parametrize(
    ("given", "named"),
    [({"max_restarts": 3}, "max_restarts"), ({"num_cpu": 1}, "num_cpu"), ({"num_cpus": -1}, "-1")],
    ids=["ours", "unknown", "negative"],
)
def test_options_of_actors_are_checked_when_the_pool_is_built(
    staff: Any, given: dict[str, Any], named: str
) -> None:
    """What Ray does not know, and what the pool itself decides, is named."""
    with pytest.raises(ConfigError, match=rf"ray_options.*{named}"):
        WorkerPool(staff.Clerk, ray_options=given, **_OPTIONS)


async def test_a_start_that_raises_is_what_the_pool_raises(staff: Any) -> None:
    """The error of the worker's own start reaches whoever starts the pool."""
    pool = WorkerPool(staff.Refuser, max_restarts=1, **_OPTIONS)

    with pytest.raises(LookupError, match="not today"):
        await pool.start()


async def test_waiting_for_a_node_with_room_is_not_starting(staff: Any) -> None:
    """``start_timeout`` begins when there is a place; until then the worker is starting."""
    options = {"resources": {"nowhere": 1}}
    pool = WorkerPool(staff.Clerk, ray_options=options, start_timeout=0.1, **_OPTIONS)
    starting = asyncio.create_task(pool.start())
    await asyncio.sleep(1.0)
    state = pool.stats().workers[0].state
    starting.cancel()
    await asyncio.wait([starting])

    assert state == "starting"


async def test_an_actor_that_dies_fails_its_calls_alone(staff: Any) -> None:
    """A crash is a WorkerDiedError for who is served; the neighbour goes on, and it is replaced."""
    options = {**_OPTIONS, "size": 2}
    async with WorkerPool(staff.Clerk, **options) as pool:
        await _until(lambda: _ups(pool) == 2)
        neighbour = await pool.submit("add_later", 1, delay=0.5)
        with pytest.raises(WorkerDiedError, match=r"worker-\d ended.*: died"):
            await pool.workers.crash()

        assert await neighbour == 2
        await _until(lambda: _ups(pool) == 2)
        assert await pool.workers.add(1) == 2


async def test_an_idle_actor_that_is_killed_is_replaced_unasked(staff: Any) -> None:
    """Nobody has to call a dead worker first."""
    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        pid = await pool.workers.pid()
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: _ups(pool) == 0)
        await _until(lambda: _ups(pool) == 1)

        assert await pool.workers.pid() != pid


async def test_a_killed_call_is_made_again_as_the_policy_says(staff: Any) -> None:
    """Death is transient: retry goes to the new worker."""
    policy = Policy("again").with_retry(attempts=3, wait=0.01)
    async with WorkerPool(staff.Clerk, policy=policy, **_OPTIONS) as pool:
        pid = await pool.workers.pid()
        job = await pool.submit("add_later", 1, delay=0.3)
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)

        assert await job == 2


async def test_an_actor_that_hangs_is_noticed_and_replaced(
    staff: Any, gone: Callable[[int], None]
) -> None:
    """A process that stands still answers no ping; Ray itself would wait for ever."""
    async with WorkerPool(
        staff.Clerk, health_interval=0.2, health_timeout=0.5, stop_timeout=0.5, **_OPTIONS
    ) as pool:
        pid = await pool.workers.pid()
        os.kill(pid, signal.SIGSTOP)
        await _until(lambda: _ups(pool) == 0)
        await _until(lambda: _ups(pool) == 1)

        assert await pool.workers.pid() != pid
    gone(pid)


async def test_a_worker_that_says_that_it_is_ill_is_replaced(staff: Any) -> None:
    """Its own ``healthy`` is asked in the actor."""
    async with WorkerPool(staff.Slow, health_interval=0.2, **_OPTIONS) as pool:
        pid = await pool.workers.pid()
        await pool.workers.note("ill")
        await _until(lambda: _ups(pool) == 0)

        assert await pool.workers.pid() != pid


async def test_a_busy_worker_is_not_taken_for_a_hung_one(staff: Any) -> None:
    """A sync method that is longer than ``health_timeout`` is work, not an illness."""
    async with WorkerPool(staff.Slow, health_interval=0.1, health_timeout=0.2, **_OPTIONS) as pool:
        assert await pool.workers.block(1.0) == "blocked"


async def test_cancelling_ends_an_async_method_there(staff: Any) -> None:
    """Its ``finally`` has run by the time the job has ended; the worker stays."""
    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        pid = await pool.workers.pid()
        job = await pool.submit("clean_up", 60.0)
        await asyncio.sleep(0.1)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        assert (await pool.workers.told())[3] == ["cleaned"]
        assert await pool.workers.pid() == pid


async def test_a_call_cancelled_at_once_does_not_run(staff: Any) -> None:
    """The cancel comes right behind the call, and nothing waits for Ray to try again."""
    began = time.monotonic()
    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        for _ in range(5):
            job = await pool.submit("add_later", 1, delay=60.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            job.cancel()
            await asyncio.wait([job])

        assert (await pool.workers.told())[2] == 0
    assert time.monotonic() - began < 8.0


async def test_a_sync_method_that_is_timed_out_ends_its_worker(staff: Any) -> None:
    """It cannot be cancelled; the worker is killed, and another takes its place at once."""
    policy = Policy("brief").with_timeout(0.3)
    async with WorkerPool(staff.Clerk, policy=policy, **_OPTIONS) as pool:
        pid = await pool.workers.pid()
        with pytest.raises(CallTimeoutError):
            await pool.workers.block(60.0)
        await _until(lambda: _ups(pool) == 0)
        await _until(lambda: _ups(pool) == 1)

        assert await pool.workers.pid() != pid


async def test_a_sync_method_may_finish_behind_a_cancelled_call(staff: Any) -> None:
    """With ``on_cancel="finish"`` its worker is busy until it has; the others serve meanwhile."""
    options = {**_OPTIONS, "size": 2}
    async with WorkerPool(staff.Clerk, on_cancel="finish", **options) as pool:
        await _until(partial(_all_up, pool))
        job = await pool.submit("block", 1.5)
        await asyncio.sleep(0.1)
        job.cancel()
        began = time.monotonic()
        await asyncio.wait([job])
        for number in range(4):
            assert await pool.workers.add(number) == number + 1
        elsewhere_after = time.monotonic() - began
        logs = [log for *_, log in await pool.broadcast("told")]

    assert elsewhere_after < 1.0
    assert sorted(logs) == [[], ["blocked"]]


async def test_a_method_that_swallows_its_cancel_is_killed_in_the_end(staff: Any) -> None:
    """The caller waits a second for it, the worker ``stop_timeout`` seconds."""
    async with WorkerPool(staff.Clerk, stop_timeout=1.5, **_OPTIONS) as pool:
        pid = await pool.workers.pid()
        job = await pool.submit("stay", 60.0)
        await asyncio.sleep(0.1)
        job.cancel()
        await asyncio.wait([job], timeout=1.4)

        assert job.done()
        await _until(lambda: _ups(pool) == 0)
        assert await pool.workers.pid() != pid


async def test_a_method_settles_what_its_call_has_cost(staff: Any) -> None:
    """What it tells its call in the actor is charged by the pool's own limit."""
    policy = Policy("limits").with_rate({"tokens": "200/min"}, cost={"tokens": 100})
    async with WorkerPool(staff.Clerk, policy=policy, **_OPTIONS) as pool:
        await pool.workers.settle(120.0)

    assert policy.snapshot()["stages"][0]["available"] == [pytest.approx(80, abs=10)]


async def test_a_cost_that_means_nothing_hides_no_failure(staff: Any) -> None:
    """It is refused where the call is; what the method itself has failed with says more."""
    policy = Policy("limits").with_rate({"tokens": "2000/min"}, cost={"tokens": 100})
    async with WorkerPool(staff.Clerk, policy=policy, **_OPTIONS) as pool:
        with pytest.raises(ConfigError, match="cost"):
            await pool.workers.settle(-1.0)
        with pytest.raises(LookupError, match="more"):
            await pool.workers.settle_and_fail(-1.0)


async def test_functions_that_come_with_one_job_do_not_pile_up(
    staff: Any, engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many are kept."""
    from penstock.workers.modes import on_ray  # noqa: PLC0415 - imports Ray

    monkeypatch.setattr(on_ray, "_MOST_KEPT", 2)
    engine = await engines(staff.Clerk)
    targets = [target_of(lambda _, n=number: n, staff.Clerk) for number in range(5)]

    results = [await _called(engine.call, target, (), {}) for target in targets]

    assert results == [*range(5)]
    assert len(engine._sent) <= 2


async def test_an_engine_of_which_ray_is_gone_is_not_killed_again(
    staff: Any, engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking Ray to would connect to it anew."""
    from penstock.workers.modes import on_ray  # noqa: PLC0415 - as above

    engine = await engines(staff.Clerk)
    killed: list[object] = []

    class Gone:
        is_initialized = staticmethod(lambda: False)
        kill = staticmethod(killed.append)

    monkeypatch.setattr(on_ray, "ray", Gone)
    engine.kill()
    monkeypatch.undo()

    assert killed == []


async def test_exits_in_a_method_end_its_worker_and_not_the_program(staff: Any) -> None:
    """``sys.exit`` is a WorkerDiedError for the caller, and a restart."""
    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        pid = await pool.workers.pid()
        with pytest.raises(WorkerDiedError, match=r"sys\.exit"):
            await pool.workers.leave()

        assert await pool.workers.pid() != pid


async def test_stopping_leaves_no_actor_behind(staff: Any, gone: Callable[[int], None]) -> None:
    """Each worker's process has ended, after a stop and after a kill."""
    options = {**_OPTIONS, "size": 2}
    pids = set()
    for end in ("stop", "kill"):
        pool = WorkerPool(staff.Clerk, **options)
        await pool.start()
        await _until(partial(_all_up, pool))
        jobs = [await pool.submit("pid") for _ in range(2)]
        pids |= {await job for job in jobs}
        await getattr(pool, end)()

    assert len(pids) >= 2
    for pid in pids:
        gone(pid)


async def test_map_sends_many_calls_in_one(staff: Any) -> None:
    """Each result is its item's; one that fails fails alone; a chunk grows as it pays."""
    async with WorkerPool(staff.Clerk, **_OPTIONS) as pool:
        numbers = [result async for result in pool.map("add", range(2000))]
        failed = [
            result
            async for result in pool.map("fail", ["one", "two"], chunk=2, return_exceptions=True)
        ]
        calls = pool.stats().workers[0].done

    assert numbers == [*range(1, 2001)]
    assert [str(failure) for failure in failed] == ["one", "two"]
    assert calls < 500


async def test_calls_of_a_killed_engine_fail_at_once(staff: Any, engines: Any) -> None:
    """Nobody waits for Ray to say so, and what lingers is let go."""
    engine = await engines(staff.Clerk)
    task = asyncio.create_task(_called(engine.call, target_of("block", staff.Clerk), (60.0,), {}))
    await asyncio.sleep(0.1)
    engine.kill()
    engine.kill()

    with pytest.raises(WorkerDiedError, match="worker-0 ended: killed"):
        await task


async def test_500_jobs_end_once_each_while_workers_are_killed(staff: Any) -> None:
    """Random kills, cancels and failures: every job ends, and its result is its own."""
    await _stress(staff, jobs=500, kills=4, seed=5)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_20_000_jobs_end_once_each_while_workers_are_killed(staff: Any) -> None:
    """The same for long, with many jobs in one call of the actor."""
    async with WorkerPool(staff.Clerk, size=2, mode="ray", queue=None) as pool:
        results = [result async for result in pool.map("add", range(20_000))]
    await _stress(staff, jobs=20_000, kills=40, seed=7)

    assert results == [*range(1, 20_001)]


async def _stress(staff: Any, *, jobs: int, kills: int, seed: int) -> None:
    draw = Random(seed)
    policy = Policy("again").with_retry(attempts=20, wait=0.01)
    options = {"mode": "ray", "size": 2, "per_worker": 8, "restart_delay": (0.0,), "queue": None}
    async with WorkerPool(staff.Clerk, policy=policy, max_restarts=1000, **options) as pool:
        await _until(partial(_all_up, pool))
        works: list[Any] = []
        for number in range(jobs):
            word = "fail" if number % 10 == 3 else draw.choice(["add", "add_later"])
            works.append((word, await pool.submit(word, number)))
        cancelled = {number for number in range(0, jobs, 17) if works[number][1].cancel()}
        for _ in range(kills):
            await asyncio.sleep(draw.uniform(0.05, 0.3))
            await _crash(pool)
        ended = await asyncio.gather(*(job for _, job in works), return_exceptions=True)

    for number, ((word, _), result) in enumerate(zip(works, ended, strict=True)):
        if number in cancelled:
            assert isinstance(result, asyncio.CancelledError), (number, result)
        elif word == "fail":
            assert isinstance(result, LookupError), (number, result)
            assert str(result) == str(number)
        else:
            assert result == number + 1, (number, result)


async def _crash(pool: Any) -> None:
    with pytest.raises(WorkerDiedError):
        await (await pool.submit("crash", policy=Policy("once"), priority=1))


async def _called(fn: Callable[..., Any], *args: Any) -> Any:
    enter_call(Call(CallContext(policy="p", classify=classify), fn))
    return await fn(*args)


def _ups(pool: Any) -> int:
    return sum(worker.state == "up" for worker in pool.stats().workers)


def _all_up(pool: Any) -> bool:
    return all(worker.state == "up" for worker in pool.stats().workers)


@pytest.fixture
async def engines() -> Any:
    """Return what starts one engine, without a pool."""
    from penstock.workers.modes.on_ray import RayEngine  # noqa: PLC0415 - imports Ray

    started: list[Any] = []

    async def start(make: Callable[..., Any], **options: Any) -> Any:
        spec = WorkerSpec(
            id="worker-0",
            index=0,
            make=make,
            args=(),
            kwargs={},
            options=WorkerPoolOptions(mode="ray", **options),
        )
        engine = RayEngine(spec, lambda reason: None)
        started.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in started:
        engine.kill()
