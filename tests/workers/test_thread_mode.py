"""Workers that live in threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from random import Random
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    Policy,
    WorkerDiedError,
    WorkerPool,
    current_call,
    current_lease,
)
from penstock.workers import WorkerPoolOptions
from penstock.workers.engine import WorkerSpec
from penstock.workers.modes.in_thread import ThreadEngine
from penstock.workers.slot import SlotState
from penstock.workers.target import target_of

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


class Machine:
    """A worker of sync methods alone."""

    def __init__(self) -> None:
        self.homes = [threading.current_thread()]
        self.busy = 0
        self.peak = 0

    def start(self, index: int) -> None:
        self.index = index
        self.homes.append(threading.current_thread())

    def stop(self) -> None:
        self.homes.append(threading.current_thread())

    def visit(self) -> list[threading.Thread]:
        self.homes.append(threading.current_thread())
        return self.homes

    def place(self) -> int:
        return self.index

    def double(self, number: int) -> int:
        return number * 2

    def crowd(self, seconds: float) -> int:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        time.sleep(seconds)
        self.busy -= 1
        return self.peak

    def hold(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, gate: threading.Event) -> str:
        assert gate.wait(10)
        return "waited"

    def raised(self, failure: BaseException) -> None:
        raise failure

    def run_loop(self) -> str:
        return asyncio.run(asyncio.sleep(0, "of its own"))

    def request(self) -> str:
        return REQUEST.get()

    def tell_tokens(self, tokens: float) -> None:
        current_call().settle(tokens=tokens)

    def settle_and_wait(self, gate: threading.Event) -> bool:
        time.sleep(0.05)  # until the other one waits for units
        current_call().settle(tokens=0)
        return gate.wait(1)

    def open(self, gate: threading.Event) -> None:
        gate.set()

    def rest(self) -> str:
        lease = current_lease()
        lease.report(remaining=7)
        lease.cooldown(60.0, "tired")
        return lease.resource.id or ""

    def count(self) -> Iterator[int]:
        yield from range(3)

    def later_when(self, gate: threading.Event, log: list[str]) -> Any:
        gate.wait(10)
        return self._noted(log)

    async def _noted(self, log: list[str]) -> None:
        log.append("ran")

    def later(self, value: int) -> Any:
        return asyncio.sleep(0.001, value)


class Session:
    """A worker of async methods, which belongs to a loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.beats = 0
        self.busy = 0
        self.peak = 0
        self.log: list[str] = []

    async def start(self) -> None:
        self.task = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        try:
            while True:
                await asyncio.sleep(0.001)
                self.beats += 1
        finally:
            self.log.append("beat ended")

    async def at_home(self) -> bool:
        return asyncio.get_running_loop() is self.loop

    def hold(self, seconds: float) -> None:
        time.sleep(seconds)

    async def heard(self) -> int:
        return self.beats

    async def crowd(self, seconds: float) -> int:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        await asyncio.sleep(seconds)
        self.busy -= 1
        return self.peak

    async def request(self) -> str:
        await asyncio.sleep(0)
        return REQUEST.get()

    async def tell_tokens(self, tokens: float) -> None:
        await asyncio.sleep(0)
        current_call().settle(tokens=tokens)

    async def clean_up(self, seconds: float) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(seconds)
            self.log.append("clean")

    async def insist(self) -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "all the same"

    async def block(self, gate: threading.Event) -> None:
        await asyncio.sleep(0)
        gate.wait(10)

    async def exit_in_task(self) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(60)

    async def raised(self, failure: BaseException) -> None:
        raise failure

    async def logged(self) -> list[str]:
        return self.log


def pool_of(make: Callable[..., Any], **options: Any) -> WorkerPool[Any]:
    """Return a pool of threads; of one, unless there are to be more."""
    options = {"size": 1, "name": "threads", **options}
    return WorkerPool(make, mode="thread", **options)


@asynccontextmanager
async def engine_of(make: Callable[..., Any]) -> AsyncIterator[tuple[Any, list[str]]]:
    """Start one engine, and collect what it says that it has died of."""
    died: list[str] = []
    engine = engine_with(make, died)
    await engine.start()
    try:
        yield engine, died
    finally:
        engine.kill()


def engine_with(make: Callable[..., Any], died: list[str]) -> ThreadEngine:
    """Return an engine that was not started."""
    spec = WorkerSpec(
        id="worker-0", index=0, make=make, args=(), kwargs={}, options=WorkerPoolOptions()
    )
    return ThreadEngine(spec, died.append)


async def called(engine: ThreadEngine, name: str, *args: Any) -> Any:
    """Call a method within a policy, as the pool does."""
    target = target_of(name, None)
    policy = Policy("one").rotating(["only"], inject=None)

    async def on_engine() -> Any:
        return await engine.call(target, args, {})

    return await policy.call(on_engine)


def in_flight(pool: WorkerPool[Any]) -> int:
    """Return how many calls the pool's workers count."""
    run = pool._run
    assert run is not None
    return sum(member.in_flight for member in run.workers.machine.members.values())


async def until_all_are_up(pool: WorkerPool[Any]) -> None:
    """Wait until every worker has started."""
    run = pool._run
    assert run is not None
    await until(lambda: all(slot.state is SlotState.UP for slot in run.slots.values()))


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


# Where things happen.


async def test_lives_in_one_thread() -> None:
    """A worker is made, started, called and stopped in one thread, which is named after it."""
    async with pool_of(Machine) as pool:
        homes = await pool.workers.visit()

    assert len(homes) == 4
    assert {thread.name for thread in homes} == {"worker-0"}
    assert len({*homes}) == 1


async def test_start_gets_its_index() -> None:
    """Each worker has a thread of its own and knows its place."""
    async with pool_of(Machine, size=3, pick="round_robin") as pool:
        await until_all_are_up(pool)
        places = {await pool.workers.place() for _ in range(9)}

    assert places == {0, 1, 2}


async def test_sync_methods_run_one_after_the_other() -> None:
    """However many calls a worker takes, its sync methods never meet."""
    async with pool_of(Machine, per_worker=4) as pool:
        peaks = await asyncio.gather(*(pool.workers.crowd(0.005) for _ in range(8)))

    assert max(peaks) == 1


async def test_async_methods_run_side_by_side() -> None:
    """Async methods meet in the worker's loop, up to ``per_worker`` of them."""
    async with pool_of(Session, per_worker=4) as pool:
        peaks = await asyncio.gather(*(pool.workers.crowd(0.01) for _ in range(12)))

    assert max(peaks) == 4


async def test_tasks_live_on_between_calls() -> None:
    """What a worker started in the background goes on while nobody calls it."""
    async with pool_of(Session) as pool:
        before = await pool.workers.heard()
        await asyncio.sleep(0.05)
        after = await pool.workers.heard()

    assert after > before


async def test_stop_ends_the_tasks_of_a_worker() -> None:
    """What still runs in the worker's loop is cancelled when the pool stops."""
    async with pool_of(Session) as pool:
        log = await pool.workers.logged()

    assert log == ["beat ended"]


async def test_a_session_is_made_in_the_loop_that_it_is_used_in() -> None:
    """A worker with async methods finds the same loop when it is made and when it is called."""
    async with pool_of(Session) as pool:
        assert await pool.workers.at_home()


async def test_sync_methods_may_run_a_loop() -> None:
    """A sync method sees no running loop, so libraries that start one work."""
    async with pool_of(Machine) as pool:
        assert await pool.workers.run_loop() == "of its own"
        assert await pool.workers.later(5) == 5
        assert await pool.workers.run_loop() == "of its own"


# What a method returns or raises.


async def test_an_awaitable_is_awaited_in_the_thread() -> None:
    """A plain method that returns a coroutine gives its result."""
    async with pool_of(Machine) as pool:
        assert await pool.workers.later(5) == 5


async def test_a_generator_is_handed_over() -> None:
    """A generator is a result like any other."""
    async with pool_of(Machine) as pool:
        assert [*(await pool.workers.count())] == [0, 1, 2]


@pytest.mark.parametrize("kind", [Machine, Session])
async def test_exit_ends_the_worker_not_the_program(kind: type) -> None:
    """``sys.exit`` in a method fails that call, and the worker is started anew."""
    async with pool_of(kind) as pool:
        with pytest.raises(WorkerDiedError, match=r"sys\.exit") as caught:
            await pool.workers.raised(SystemExit(3))
        assert isinstance(caught.value.__cause__, SystemExit)

        assert await pool.workers.request() == "nobody's"


@pytest.mark.parametrize("kind", [Machine, Session])
async def test_stop_iteration_becomes_a_runtime_error(kind: type) -> None:
    """No coroutine can raise StopIteration: the caller gets what Python makes of it."""
    async with pool_of(kind) as pool:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.workers.raised(StopIteration())


@pytest.mark.parametrize("kind", [Machine, Session])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, GeneratorExit, BaseExceptionGroup])
async def test_whatever_is_raised_arrives(kind: type, failure: Any) -> None:
    """A failure that is no Exception reaches the caller, and the thread goes on."""
    raised = failure("all", [SystemExit()]) if failure is BaseExceptionGroup else failure()
    async with engine_of(kind) as (engine, died):
        caught: list[BaseException] = []
        try:
            await called(engine, "raised", raised)
        except BaseException as error:  # noqa: BLE001 - all kinds are asked about
            caught.append(error)

        assert caught == [raised]
        assert await called(engine, "request") == "nobody's"
        assert died == []


async def test_a_cancel_of_its_own_making_is_one() -> None:
    """A method that raises CancelledError has been cancelled; its worker goes on."""
    async with pool_of(Machine) as pool:
        job = await pool.submit("raised", asyncio.CancelledError())
        await asyncio.wait([job])

        assert job.cancelled()
        assert await pool.workers.double(2) == 4


# What holds in the thread.


@pytest.mark.parametrize("kind", [Machine, Session])
async def test_context_variables_of_the_submitter_hold(kind: type) -> None:
    """A method sees the context of whoever has submitted it."""
    async with pool_of(kind) as pool:
        REQUEST.set("mine")
        job = await pool.submit("request")
        REQUEST.set("another")

        assert [await job, await pool.workers.request()] == ["mine", "another"]


@pytest.mark.parametrize("kind", [Machine, Session])
async def test_contexts_of_neighbours_do_not_mix(kind: type) -> None:
    """Calls that reach the thread together have each their own context."""

    async def ask(pool: WorkerPool[Any], name: str) -> Any:
        REQUEST.set(name)
        return await pool.workers.request()

    async with pool_of(kind, per_worker=8) as pool:
        names = [f"request {number}" for number in range(32)]
        await pool.submit("hold", 0.02)

        assert await asyncio.gather(*(ask(pool, name) for name in names)) == names


@pytest.mark.parametrize("kind", [Machine, Session])
async def test_a_method_settles_its_cost(kind: type) -> None:
    """``current_call().settle`` corrects a shared limit from the thread."""
    policy = Policy("tokens").with_rate({"tokens": "1000/h"}, burst=1000, cost={"tokens": 500})
    async with pool_of(kind, policy=policy) as pool:
        await pool.workers.tell_tokens(100)

    (stage,) = (s for s in policy.snapshot()["stages"] if s["stage"] == "rate_limit")
    assert stage["available"][0] == pytest.approx(900, abs=5)


async def test_what_a_thread_gives_back_serves_who_waits() -> None:
    """Units that come back from a thread wake who waits for them, at once."""
    gate = threading.Event()
    policy = Policy("tokens").with_rate({"tokens": "10/h"}, burst=10, cost={"tokens": 10})
    async with pool_of(Machine, size=2, policy=policy) as pool:
        await until_all_are_up(pool)
        first = await pool.submit("settle_and_wait", gate)
        await pool.submit("open", gate)

        assert await first


async def test_a_settle_that_is_not_allowed_is_refused_where_it_is_made() -> None:
    """A cost below 0 is an error of the method that told it."""
    policy = Policy("tokens").with_rate({"tokens": "1000/h"}, burst=1000, cost={"tokens": 500})
    async with pool_of(Machine, policy=policy) as pool:
        with pytest.raises(ValueError, match="cost"):
            await pool.workers.tell_tokens(-1)


async def test_a_method_sends_its_worker_to_rest() -> None:
    """``current_lease()`` works from the thread: the next job goes to another worker."""
    async with pool_of(Machine, size=2) as pool:
        await until_all_are_up(pool)
        tired = await pool.workers.rest()
        other = await pool.workers.rest()

    assert {tired, other} == {"worker-0", "worker-1"}


# Cancels and time-outs.


async def test_who_cancels_a_sync_call_leaves_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The caller leaves, the method goes on, and its worker is busy until it has ended."""
    gate = threading.Event()
    async with pool_of(Machine) as pool:
        job = await pool.submit("wait", gate)
        await until(lambda: in_flight(pool))
        await asyncio.sleep(0.01)
        with caplog.at_level(logging.WARNING, "penstock"):
            job.cancel()
            await asyncio.wait([job], timeout=1)
        assert job.cancelled()
        assert in_flight(pool) == 1
        assert "Machine.wait" in caplog.text

        following = await pool.submit("double", 4)
        await asyncio.sleep(0.02)
        assert not following.done()

        gate.set()
        assert await following == 8
        assert in_flight(pool) == 0


async def test_a_time_out_ends_a_sync_call_for_its_caller() -> None:
    """A time-out is kept though the thread goes on."""
    gate = threading.Event()
    policy = Policy("quick").with_timeout(0.03)
    async with pool_of(Machine, policy=policy) as pool:
        with pytest.raises(CallTimeoutError):
            await pool.workers.wait(gate)
        assert in_flight(pool) == 1

        gate.set()
        await until(lambda: not in_flight(pool))


async def test_a_retry_does_not_keep_the_second_worker_for_the_first() -> None:
    """The worker that has served the second attempt is free although the first one hangs."""
    gate = threading.Event()
    policy = Policy("twice").with_retry(attempts=2, wait=0).with_timeout(0.05)
    waits: list[int] = []

    def hang_once(worker: Machine) -> int:
        waits.append(worker.index)
        if len(waits) == 1:
            gate.wait(10)
        return worker.index

    async with pool_of(Machine, size=2, policy=policy) as pool:
        await until_all_are_up(pool)
        served_by = await (await pool.submit(hang_once))

        assert served_by != waits[0]
        assert in_flight(pool) == 1
        gate.set()
        await until(lambda: not in_flight(pool))


async def test_policies_of_single_workers_do_not_hide_the_lease() -> None:
    """Within a worker's own stages the pool's lease is there, and holds who lingers."""
    gate = threading.Event()
    own = Policy("own").with_timeout(0.03)
    own = own.with_rate({"tokens": "1000/h"}, burst=1000, cost={"tokens": 5})
    async with pool_of(Machine, policy=own, policy_per="worker") as pool:
        with pytest.raises(CallTimeoutError):
            await pool.workers.wait(gate)
        assert in_flight(pool) == 1

        gate.set()
        await until(lambda: not in_flight(pool))
        assert await pool.workers.rest() == "worker-0"


async def test_work_that_has_not_begun_is_skipped() -> None:
    """A call that is cancelled while it waits for the thread never runs."""
    gate, ran = threading.Event(), list[int]()
    async with engine_of(Machine) as (engine, _):
        first = asyncio.create_task(called(engine, "wait", gate))
        await asyncio.sleep(0.01)
        target = target_of(lambda _worker: ran.append(1), None)
        second = asyncio.create_task(_on(engine, target))
        await asyncio.sleep(0.01)

        second.cancel()
        await asyncio.wait([second])
        assert engine.lingering == 0
        gate.set()
        assert await first == "waited"
        await called(engine, "double", 1)
        assert ran == []


async def _on(engine: ThreadEngine, target: Any) -> Any:
    policy = Policy("one").rotating(["only"], inject=None)

    async def on_engine() -> Any:
        return await engine.call(target, (), {})

    return await policy.call(on_engine)


async def test_lingering_calls_are_counted() -> None:
    """The engine knows how many calls go on without a caller."""
    gate = threading.Event()
    async with engine_of(Machine) as (engine, _):
        task = asyncio.create_task(called(engine, "wait", gate))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert engine.lingering == 1

        gate.set()
        await until(lambda: engine.lingering == 0)


async def test_an_awaitable_that_comes_too_late_is_not_awaited() -> None:
    """What a method returns after its caller has left is cancelled before it begins."""
    gate, log = threading.Event(), list[str]()
    async with engine_of(Machine) as (engine, _):
        task = asyncio.create_task(called(engine, "later_when", gate, log))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert engine.lingering == 1

        gate.set()
        await until(lambda: engine.lingering == 0)
        assert log == []


async def test_a_cancel_reaches_an_async_method() -> None:
    """An async method is cancelled in its loop, and has cleaned up when the caller is told."""
    async with pool_of(Session) as pool:
        job = await pool.submit("clean_up", 0.02)
        await until(lambda: in_flight(pool))
        await asyncio.sleep(0.01)
        job.cancel()
        await asyncio.wait([job])

        assert job.cancelled()
        assert await pool.workers.logged() == ["clean"]


async def test_a_swallowed_cancel_gives_the_result() -> None:
    """As in any loop, a method that does not give up goes on to its end."""
    async with engine_of(Session) as (engine, _):
        task = asyncio.create_task(called(engine, "insist"))
        await asyncio.sleep(0.02)
        task.cancel()

        assert await task == "all the same"


async def test_a_long_clean_up_is_waited_for() -> None:
    """As long as the worker's loop answers, who is cancelled waits for the method to end."""
    async with engine_of(Session) as (engine, _):
        task = asyncio.create_task(called(engine, "clean_up", 1.2))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])

        assert engine.lingering == 0
        assert await called(engine, "logged") == ["clean"]


async def test_a_second_cancel_is_not_kept_waiting() -> None:
    """Who is cancelled while the method cleans up leaves at once."""
    async with engine_of(Session) as (engine, _):
        task = asyncio.create_task(called(engine, "clean_up", 0.3))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()

        task.cancel()
        await asyncio.wait([task], timeout=0.1)
        assert task.cancelled()
        assert engine.lingering == 1
        await until(lambda: engine.lingering == 0)


async def test_a_loop_that_does_not_answer_is_left() -> None:
    """An async method that blocks its thread does not keep who is cancelled."""
    gate = threading.Event()
    async with engine_of(Session) as (engine, _):
        task = asyncio.create_task(called(engine, "block", gate))
        await asyncio.sleep(0.02)
        task.cancel()
        began = time.monotonic()
        await asyncio.wait([task])

        assert time.monotonic() - began < 3
        assert engine.lingering == 1
        gate.set()
        await until(lambda: engine.lingering == 0)


@pytest.mark.parametrize(("kind", "method"), [(Machine, "crowd"), (Session, "crowd")])
async def test_a_cancel_at_any_step_leaves_the_books_in_balance(kind: type, method: str) -> None:
    """Wherever a call is cancelled, no hold on a worker is lost and the next call is served."""
    async with pool_of(kind) as pool:
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
        thread = next(iter(pool._run.slots.values())).engine._thread  # type: ignore[union-attr]
        assert not thread._pending
        assert thread.lingering == 0


# Beginnings and ends.


async def test_kill_fails_what_is_under_way() -> None:
    """Pending calls fail when the thread is given up; a late result goes nowhere."""
    gate = threading.Event()
    async with engine_of(Machine) as (engine, died):
        calls = [asyncio.create_task(called(engine, "wait", gate)) for _ in range(2)]
        await asyncio.sleep(0.02)

        engine.kill()
        engine.kill()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [WorkerDiedError] * 2
        with pytest.raises(WorkerDiedError):
            await called(engine, "double", 1)
        gate.set()
        await asyncio.sleep(0.02)
        assert died == []


@pytest.mark.parametrize(("kind", "method"), [(Machine, "crowd"), (Session, "crowd")])
async def test_a_kill_at_any_step_ends_the_call(kind: type, method: str) -> None:
    """Wherever a call stands when its thread is given up, it ends, and leaves nothing behind."""
    for step in range(30):
        async with engine_of(kind) as (engine, _):
            task = asyncio.create_task(called(engine, method, 0.0005))
            for _ in range(step // 2):
                await asyncio.sleep(0)
            if step % 2:
                time.sleep(0.0002)  # noqa: ASYNC251 - the thread goes on, this loop does not
            engine.kill()
            await asyncio.wait([task], timeout=2)

            assert task.done()
            failure = task.exception()
            assert failure is None or isinstance(failure, WorkerDiedError)
    gc.collect()


async def test_what_lingers_ends_once() -> None:
    """A call without a caller is counted out by the kill, and not again when it ends."""
    gate = threading.Event()
    async with engine_of(Machine) as (engine, _):
        task = asyncio.create_task(called(engine, "wait", gate))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

        engine.kill()
        gate.set()
        await asyncio.sleep(0.02)
        assert engine.lingering == 0


async def test_a_failure_is_not_kept() -> None:
    """Nothing of the thread holds an exception, in a cycle or otherwise, once it was raised."""

    class BoomError(Exception):
        pass

    async with engine_of(Machine) as (engine, _):
        gc.collect()
        gc.disable()
        try:
            seen = await _failure_of(engine, BoomError)
            assert seen() is None
        finally:
            gc.enable()


async def _failure_of(engine: ThreadEngine, kind: type[Exception]) -> weakref.ref[Exception]:
    with pytest.raises(kind) as caught:
        await engine._thread.run(None, _raise, (kind,))  # type: ignore[union-attr]
    seen = weakref.ref(caught.value)
    del caught
    await asyncio.sleep(0.01)
    return seen


def _raise(kind: type[Exception]) -> None:
    raise kind


async def test_kill_frees_who_lingers() -> None:
    """A worker that is given up keeps nobody busy: what takes its place can be called."""
    gate = threading.Event()
    async with pool_of(Machine) as pool:
        job = await pool.submit("wait", gate)
        await asyncio.sleep(0.02)
        job.cancel()
        await asyncio.wait([job])
        assert in_flight(pool) == 1

        run = pool._run
        assert run is not None
        (slot,) = run.slots.values()
        assert slot.engine is not None
        run.supervisor.died(slot, slot.engine, "unhealthy")
        assert await pool.workers.double(3) == 6
        assert in_flight(pool) == 0
        gate.set()


async def test_a_worker_whose_loop_is_torn_down_has_died() -> None:
    """``sys.exit`` outside of any call ends the thread: its calls fail, it is replaced."""
    async with pool_of(Session, per_worker=2) as pool:
        victim = await pool.submit("clean_up", 0.0)
        await until(lambda: in_flight(pool))
        with pytest.raises(WorkerDiedError):
            await pool.workers.exit_in_task()
        with pytest.raises(WorkerDiedError):
            await victim

        assert await pool.workers.at_home()


async def test_a_constructor_that_hangs_is_bounded() -> None:
    """A pool of which no worker can be made in time says so."""
    gate = threading.Event()
    pool = pool_of(lambda: gate.wait(10), start_timeout=0.02, max_restarts=1, restart_delay=[0.001])

    with pytest.raises(TimeoutError):
        await pool.start()
    gate.set()


@pytest.mark.parametrize(
    ("failure", "told"), [(ValueError, ValueError), (SystemExit, WorkerDiedError)]
)
@pytest.mark.parametrize("where", ["made", "started"])
async def test_a_beginning_that_raises_is_told(failure: Any, told: Any, where: str) -> None:
    """What a constructor or ``start`` has raised is raised to who starts the pool."""

    class Broken:
        def __init__(self) -> None:
            if where == "made":
                raise failure(7)

        def start(self) -> None:
            raise failure(7)

    pool = pool_of(Broken, max_restarts=1, restart_delay=[0.001])

    with pytest.raises(told):
        await pool.start()


async def test_a_stop_that_hangs_is_bounded() -> None:
    """A worker's ``stop`` gets ``stop_timeout`` seconds; then the thread is given up."""
    gate = threading.Event()

    class Stubborn:
        def stop(self) -> None:
            gate.wait(10)

    began = time.monotonic()
    async with pool_of(Stubborn, stop_timeout=0.05):
        pass

    assert time.monotonic() - began < 2
    gate.set()


async def test_a_stop_that_raises_still_ends_the_thread() -> None:
    """The thread has ended when ``stop`` of the pool returns, whatever the worker's does."""

    class Clumsy:
        def stop(self) -> None:
            raise ValueError

    async with pool_of(Clumsy):
        pass

    assert "worker-0" not in [thread.name for thread in threading.enumerate()]


async def test_no_thread_is_left_of_a_worker_that_was_starting() -> None:
    """A worker whose start is cancelled takes its thread along, unless it hangs."""

    class Slow:
        async def start(self, index: int) -> None:
            await asyncio.sleep(60 * index)

    async with pool_of(Slow, size=3):
        await until(lambda: len(threading.enumerate()) >= 4)

    # On a busy machine a thread may need longer to end than the pool waits for it.
    await until(lambda: not [t for t in threading.enumerate() if t.name.startswith("worker-")])


async def test_no_thread_is_left_when_stop_returns() -> None:
    """Stopping waits until the threads have ended."""
    async with pool_of(Machine, size=5) as pool:
        await asyncio.gather(*(pool.workers.double(number) for number in range(50)))

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]


def test_a_loop_that_is_closed_meanwhile_ends_the_thread() -> None:
    """Where nobody waits any more a thread ends after what it runs."""
    gate = threading.Event()
    loop = asyncio.new_event_loop()
    engine = engine_with(Machine, [])
    loop.run_until_complete(engine.start())
    task = loop.create_task(called(engine, "wait", gate))
    loop.run_until_complete(asyncio.sleep(0.02))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))

    loop.close()
    gate.set()

    by = time.monotonic() + 5.0
    while "worker-0" in [thread.name for thread in threading.enumerate()]:
        assert time.monotonic() < by
        time.sleep(0.001)


async def test_health_is_asked_in_the_thread() -> None:
    """``healthy`` is called where the worker lives; one without it is healthy."""

    class Patient:
        async def healthy(self) -> bool:
            return threading.current_thread() is threading.main_thread()

    async with engine_of(Patient) as (sick, _), engine_of(Machine) as (well, _):
        assert not await sick.healthy()
        assert await well.healthy()
    assert await engine_with(Machine, []).healthy()


@pytest.mark.parametrize("mode", ["thread", "asyncio"])
async def test_a_worker_that_is_busy_is_not_ill(mode: str) -> None:
    """It cannot answer while it runs a sync method, and is left alone."""
    gate = threading.Event()

    class Busy:
        def work(self) -> bool:
            return gate.wait(10)

        def healthy(self) -> bool:
            return True

    pool = WorkerPool(Busy, size=1, mode=mode, health_interval=0.05, health_timeout=0.1)
    async with pool:
        job = await pool.submit("work")
        await asyncio.sleep(0.4)
        gate.set()

        assert await job
        assert pool.stats().restarts == 0


async def test_a_worker_whose_health_check_hangs_is_ill() -> None:
    """Nothing else runs in its thread."""
    gate = threading.Event()
    asked = []

    class Stuck:
        def healthy(self) -> bool:
            asked.append(1)
            return len(asked) > 1 or gate.wait(10)

    limits = {"health_interval": 0.05, "health_timeout": 0.1, "stop_timeout": 0.1}
    async with WorkerPool(Stuck, size=1, mode="thread", **limits) as pool:
        by = time.monotonic() + 5
        while not pool.stats().restarts:
            assert time.monotonic() < by
            await asyncio.sleep(0.02)
        gate.set()


async def test_an_engine_that_was_not_started_can_be_stopped() -> None:
    """Stopping and killing what never began does nothing."""
    engine = engine_with(Machine, [])

    await engine.stop()
    engine.kill()

    assert engine.lingering == 0


# Under load.


async def test_results_never_cross() -> None:
    """Each of 64 callers gets the results of its own calls."""

    async def ask(pool: WorkerPool[Any], caller: int) -> None:
        for number in range(20):
            asked = caller * 1000 + number
            assert await pool.workers.double(asked) == asked * 2
            assert await pool.workers.later(asked) == asked

    async with pool_of(Machine, size=4, per_worker=8) as pool:
        await asyncio.gather(*(ask(pool, caller) for caller in range(64)))


async def test_idle_workers_cost_nothing() -> None:
    """A hundred workers that nobody calls use at most a thousandth of a core."""
    # Other tests leave threads of their libraries behind, which are not idle.
    others = min([await cpu_seconds_of_a_second() for _ in range(2)])
    async with pool_of(Machine, size=100) as pool:
        await until_all_are_up(pool)
        await asyncio.gather(*(pool.workers.double(number) for number in range(300)))
        await asyncio.sleep(0.1)
        spent = [await cpu_seconds_of_a_second() for _ in range(3)]

    # The least: the collector may have its turn in any of them.
    assert min(spent) - others <= 0.001


@pytest.mark.parametrize("jobs", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_every_job_ends_once_whatever_happens(jobs: int) -> None:
    """Of many jobs, some cancelled and some failing, each ends once and as it should."""
    random, ends = Random(jobs), list[int]()
    async with pool_of(Either, size=4, per_worker=4, queue=200, max_restarts=10**6) as pool:
        made = []
        for number in range(jobs):
            method = random.choice(["sync", "other", "fail", "slow"])
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
            assert job.result() == number


class Either:
    """A worker of both kinds of methods."""

    def sync(self, number: int) -> int:
        return number

    def slow(self, number: int) -> int:
        time.sleep(0.0005)
        return number

    async def other(self, number: int) -> int:
        await asyncio.sleep(0.001)
        return number

    def fail(self, number: int) -> int:
        raise ValueError(number)
