"""Workers that live in the pool's own loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from random import Random
from typing import Any

import pytest

from penstock import CallTimeoutError, Policy, WorkerDiedError, WorkerPool, current_call
from penstock.testing import run
from penstock.workers import WorkerPoolOptions
from penstock.workers.engine import WorkerSpec
from penstock.workers.modes.in_loop import LoopEngine

pytestmark = pytest.mark.real_time

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="nobody's")


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    """See that each test leaves no thread behind."""
    before = {*threading.enumerate()}
    yield
    by = time.monotonic() + 5.0
    while left := {thread for thread in threading.enumerate() if thread.is_alive()} - before:
        assert time.monotonic() < by, left
        time.sleep(0.005)


class Desk:
    """A worker of both kinds of methods."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.busy = 0
        self.peak = 0
        self.log: list[str] = []

    async def at_home(self) -> bool:
        return asyncio.get_running_loop() is self.loop

    async def crowd(self, seconds: float) -> int:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await asyncio.sleep(seconds)
        self.busy -= 1
        return self.peak

    async def double(self, number: int) -> int:
        return number * 2

    def triple(self, number: int) -> int:
        return number * 3

    def queue_up(self, seconds: float) -> int:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        time.sleep(seconds)
        self.busy -= 1
        return self.peak

    def wait(self, gate: threading.Event) -> str:
        assert gate.wait(10)
        return "waited"

    def later(self, value: Any) -> Any:
        return self._later(value)

    async def _later(self, value: Any) -> Any:
        await asyncio.sleep(0.001)
        return [value, asyncio.get_running_loop() is self.loop]

    def later_when(self, gate: threading.Event) -> Any:
        gate.wait(10)
        return self._later("too late")

    def request(self) -> str:
        return REQUEST.get()

    def tell_tokens(self, tokens: float) -> None:
        current_call().settle(tokens=tokens)

    def run_loop(self) -> str:
        return asyncio.run(asyncio.sleep(0, "of its own"))

    def raised(self, failure: BaseException) -> None:
        raise failure

    async def fail(self, number: int) -> None:
        raise ValueError(number)

    async def clean_up(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            self.log.append("clean")

    async def logged(self) -> list[str]:
        return self.log


def pool_of(make: Callable[..., Any] = Desk, **options: Any) -> WorkerPool[Any]:
    """Return a pool in this loop; of one worker, unless there are to be more."""
    options = {"size": 1, "name": "desks", **options}
    return WorkerPool(make, **options)


def engine_of(make: Callable[..., Any]) -> LoopEngine:
    """Return an engine that was not started."""
    spec = WorkerSpec(
        id="worker-0", index=0, make=make, args=(), kwargs={}, options=WorkerPoolOptions()
    )
    return LoopEngine(spec, lambda reason: None)


def in_flight(pool: WorkerPool[Any]) -> int:
    """Return how many calls the pool's workers count."""
    run = pool._run
    assert run is not None
    return sum(member.in_flight for member in run.workers.machine.members.values())


async def cpu_seconds_of_a_second() -> float:
    """Return what the program uses while nothing is asked of it."""
    began = time.process_time()
    await asyncio.sleep(1)
    return time.process_time() - began


async def until(condition: Callable[[], object]) -> None:
    """Wait until something has become true."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition is another thread's
            await asyncio.sleep(0.001)


async def test_async_methods_run_in_the_pools_loop() -> None:
    """A worker is made and called in the loop, up to ``per_worker`` calls side by side."""
    async with pool_of(per_worker=4) as pool:
        peaks = await asyncio.gather(*(pool.workers.crowd(0.005) for _ in range(12)))

        assert await pool.workers.at_home()
        assert max(peaks) == 4


async def test_sync_methods_run_in_a_thread_one_after_the_other() -> None:
    """A sync method holds up neither the loop nor meets another one of its worker."""
    async with pool_of(per_worker=4) as pool:
        calls = asyncio.gather(*(pool.workers.queue_up(0.02) for _ in range(4)))
        turns = 0
        while not calls.done():
            turns += 1
            await asyncio.sleep(0.001)

        assert max(await calls) == 1
        assert turns > 10


async def test_workers_without_sync_methods_need_no_thread() -> None:
    """The thread is made for the first sync call, and not before."""
    async with pool_of(size=3) as pool:
        await asyncio.gather(*(pool.workers.double(number) for number in range(9)))
        before = [t.name for t in threading.enumerate() if t.name.startswith("worker-")]
        await pool.workers.triple(1)
        after = [t.name for t in threading.enumerate() if t.name.startswith("worker-")]

    assert [len(before), len(after)] == [0, 1]


async def test_stop_waits_for_its_thread() -> None:
    """No thread is left when the pool has been stopped."""
    async with pool_of() as pool:
        assert await pool.workers.triple(3) == 9

    assert not [t for t in threading.enumerate() if t.name.startswith("worker-")]


async def test_a_coroutine_of_a_plain_method_belongs_to_the_loop() -> None:
    """What a sync method returns and can be awaited is awaited in the pool's loop."""
    async with pool_of() as pool:
        assert await pool.workers.later(7) == [7, True]


async def test_a_coroutine_that_comes_too_late_is_closed() -> None:
    """Nobody is warned of a coroutine whose caller has left."""
    gate = threading.Event()
    async with pool_of() as pool:
        job = await pool.submit("later_when", gate)
        await until(lambda: in_flight(pool))
        await asyncio.sleep(0.01)
        job.cancel()
        await asyncio.wait([job])
        gate.set()
        await until(lambda: not in_flight(pool))

        gc.collect()  # a coroutine that was never awaited would be an error here
        assert await pool.workers.double(1) == 2


async def test_a_coroutine_that_comes_with_a_cancel_is_closed() -> None:
    """Who is cancelled in the very step in which the result comes leaves no coroutine behind."""
    gate = threading.Event()
    engine = engine_of(Desk)
    await engine.start()
    call = asyncio.create_task(engine._in_thread(None, engine._worker.later_when, (gate,), {}))
    await asyncio.sleep(0.01)
    thread: Any = engine._thread

    gate.set()
    while not thread._inside.outbox:
        time.sleep(0.001)  # noqa: ASYNC251 - this loop must not notice
    thread._deliver()
    call.cancel()
    await asyncio.wait([call])

    assert call.cancelled()
    gc.collect()
    await engine.stop()


async def test_sync_methods_see_no_loop_but_the_submitters_context() -> None:
    """A sync method may run a loop, and finds the variables of whoever submitted it."""
    async with pool_of() as pool:
        REQUEST.set("mine")

        assert await pool.workers.run_loop() == "of its own"
        assert await pool.workers.request() == "mine"


async def test_a_sync_method_settles_its_cost() -> None:
    """``current_call().settle`` corrects a shared limit from the worker's thread."""
    policy = Policy("tokens").with_rate({"tokens": "1000/h"}, burst=1000, cost={"tokens": 500})
    async with pool_of(policy=policy) as pool:
        await pool.workers.tell_tokens(100)

    (stage,) = (s for s in policy.snapshot()["stages"] if s["stage"] == "rate_limit")
    assert stage["available"][0] == pytest.approx(900, abs=5)


async def test_exit_in_a_thread_ends_the_worker_alone() -> None:
    """``sys.exit`` in a sync method fails the call; the worker is made anew."""
    async with pool_of() as pool:
        with pytest.raises(WorkerDiedError, match=r"sys\.exit"):
            await pool.workers.raised(SystemExit(1))

        assert await pool.workers.triple(1) == 3


async def test_stop_iteration_becomes_a_runtime_error() -> None:
    """No coroutine can raise StopIteration: the caller gets what Python makes of it."""
    async with pool_of() as pool:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.workers.raised(StopIteration())


async def test_a_cancelled_async_method_has_cleaned_up() -> None:
    """A job that is cancelled has ended when its method has."""
    async with pool_of() as pool:
        job = await pool.submit("clean_up")
        await until(lambda: in_flight(pool))
        await asyncio.sleep(0)
        job.cancel()
        await asyncio.wait([job])

        assert await pool.workers.logged() == ["clean"]


async def test_a_sync_method_that_was_left_keeps_its_worker_busy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A time-out is kept; the worker serves again when the method has ended, and not before."""
    gate = threading.Event()
    policy = Policy("quick").with_timeout(0.05)
    async with pool_of(policy=policy) as pool:
        with caplog.at_level(logging.WARNING, "penstock"), pytest.raises(CallTimeoutError):
            await pool.workers.wait(gate)

        run = pool._run
        assert run is not None
        (slot,) = run.slots.values()
        engine: Any = slot.engine
        assert [in_flight(pool), engine.lingering] == [1, 1]
        assert "Desk.wait" in caplog.text
        gate.set()
        await until(lambda: not in_flight(pool))
        assert engine.lingering == 0
        assert await pool.workers.double(1) == 2


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_start_that_raises_leaves_no_thread(is_async: bool) -> None:
    """What ``start`` has raised is raised, and a thread that it was called in has ended."""

    class Broken:
        async def _start(self) -> None:
            raise ValueError

        def _start_in_thread(self) -> None:
            raise ValueError

        start = _start if is_async else _start_in_thread

    with pytest.raises(ValueError):  # noqa: PT011 - it has no text
        await engine_of(Broken).start()

    assert not [t for t in threading.enumerate() if t.name.startswith("worker-")]


async def test_kill_fails_sync_calls() -> None:
    """A sync call that is under way fails when the engine is killed; it ends in silence."""
    gate = threading.Event()
    engine = engine_of(Desk)
    await engine.start()
    call = asyncio.create_task(engine._in_thread(None, engine._worker.wait, (gate,), {}))
    await asyncio.sleep(0.01)

    engine.kill()

    with pytest.raises(WorkerDiedError):
        await call
    gate.set()


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_stop_that_hangs_is_bounded(is_async: bool) -> None:
    """A worker's ``stop`` gets ``stop_timeout`` seconds."""
    gate = threading.Event()

    class AsyncStop:
        async def stop(self) -> None:
            await asyncio.sleep(60)

    class SyncStop:
        def stop(self) -> None:
            gate.wait(10)

    began = time.monotonic()
    async with pool_of(AsyncStop if is_async else SyncStop, stop_timeout=0.05):
        pass

    assert time.monotonic() - began < 2
    gate.set()


async def test_a_stop_that_raises_still_ends_the_thread() -> None:
    """The thread has ended when the pool has stopped, whatever the worker's ``stop`` does."""

    class Clumsy:
        def stop(self) -> None:
            raise ValueError

    async with pool_of(Clumsy):
        pass

    assert not [t for t in threading.enumerate() if t.name.startswith("worker-")]


async def test_hooks_are_optional_and_of_either_kind() -> None:
    """``start``, ``healthy`` and ``stop`` are found, given the index, and awaited if need be."""
    log: list[Any] = []

    class Told:
        def start(self, index: int) -> None:
            log.append(index)

        async def healthy(self) -> bool:
            return False

        async def stop(self) -> None:
            log.append("stop")

    engine, bare = engine_of(Told), engine_of(object)
    await engine.start()
    await bare.start()

    assert not await engine.healthy()
    assert await bare.healthy()
    await engine.stop()
    await bare.stop()
    bare.kill()
    assert log == [0, "stop"]


@pytest.mark.parametrize("method", ["crowd", "queue_up"])
async def test_a_cancel_at_any_step_leaves_the_books_in_balance(method: str) -> None:
    """Wherever a call is cancelled, no hold on a worker is lost and the next call is served."""
    async with pool_of() as pool:
        for step in range(40):
            task = asyncio.create_task(getattr(pool.workers, method)(0.0005))
            for _ in range(step // 2):
                await asyncio.sleep(0)
            if step % 2:
                await asyncio.sleep(0.0002)
            task.cancel()
            await asyncio.wait([task])

            assert await getattr(pool.workers, method)(0) >= 1
            await until(lambda: not in_flight(pool))


@pytest.mark.parametrize("mode", ["asyncio", "thread"])
def test_virtual_time_waits_for_the_thread(mode: str) -> None:
    """In a test with virtual time the clock stands still while a sync method runs."""

    async def main() -> float:
        began = asyncio.get_running_loop().time()
        async with pool_of(mode=mode) as pool:
            job = await pool.submit("queue_up", 0.05)
            await asyncio.wait([job], timeout=0.2)
            assert job.result() == 1
            await pool.workers.triple(2)
        return asyncio.get_running_loop().time() - began

    assert run(main()) == 0.0


async def test_results_never_cross() -> None:
    """Each of 64 callers gets the results of its own calls, sync or async."""

    async def ask(pool: WorkerPool[Any], caller: int) -> None:
        for number in range(20):
            asked = caller * 1000 + number
            assert await pool.workers.double(asked) == asked * 2
            assert await pool.workers.triple(asked) == asked * 3

    async with pool_of(size=4, per_worker=8) as pool:
        await asyncio.gather(*(ask(pool, caller) for caller in range(64)))


async def test_idle_workers_cost_nothing() -> None:
    """A hundred workers that nobody calls use at most a thousandth of a core."""
    # Other tests leave threads of their libraries behind, which are not idle.
    others = min([await cpu_seconds_of_a_second() for _ in range(2)])
    async with pool_of(size=100) as pool:
        await asyncio.gather(*(pool.workers.triple(number) for number in range(300)))
        await asyncio.sleep(0.1)
        spent = [await cpu_seconds_of_a_second() for _ in range(3)]

    # The least: the collector may have its turn in any of them.
    assert min(spent) - others <= 0.001


@pytest.mark.parametrize("jobs", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_every_job_ends_once_whatever_happens(jobs: int) -> None:
    """Of many jobs in loop and threads, some cancelled and some failing, each ends once."""
    random, ends = Random(jobs), list[int]()
    async with pool_of(size=4, per_worker=4, queue=200, max_restarts=10**6) as pool:
        made = []
        for number in range(jobs):
            method = random.choice(["double", "triple", "fail", "later"])
            job = await pool.submit(method, number)
            job.add_done_callback(lambda _, number=number: ends.append(number))
            made.append((number, method, job))
            if random.random() < 0.2:
                victim = random.choice(made[-50:])[2]
                victim.cancel()
        await pool.join()
        await until(lambda: not in_flight(pool))

    assert sorted(ends) == [*range(jobs)]
    for number, method, job in made:
        if job.cancelled():
            continue
        if method == "fail":
            assert job.exception().args == (number,)  # type: ignore[union-attr]
        else:
            good = {"double": number * 2, "triple": number * 3, "later": [number, True]}
            assert job.result() == good[method]
