"""``policy.run_sync``: one loop for all threads, also after a fork and as the process ends."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock import CallTimeoutError, Policy, PolicyError, sync
from penstock.sync import _BackgroundLoop, _Waiting, run_sync, running_home
from penstock.testing import VirtualTimeLoop, scripted, takes

pytestmark = pytest.mark.integration

_IMPORTS = "import asyncio, os, sys, threading, time\nfrom penstock import Policy, PolicyError\n"


def _python(code: str) -> str:
    """Run code in a process of its own, with every warning an error, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", _IMPORTS + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


class Home:
    """A loop that runs in a thread of its own, as an application's does."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine there."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def end(self) -> None:
        """Stop the loop and close it."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


@pytest.fixture
def home() -> Iterator[Home]:
    """A running loop in another thread."""
    home = Home()
    yield home
    home.end()


def _whole() -> Policy:
    return (
        Policy("sync")
        .with_retry(2, wait=0)
        .with_rate(1000)
        .with_breaker()
        .with_concurrency(3)
        .with_timeout(5)
    )


# --- results ----------------------------------------------------------------------------------


def test_a_result_comes_back_from_the_loop():
    """With arguments, through every stage."""
    operation = scripted(ConnectionError, lambda word, *, suffix: word + suffix)

    assert _whole().run_sync(operation, "a", suffix="b") == "ab"
    assert len(operation.calls) == 2


def test_an_error_comes_back_as_it_is():
    """Those of the operation, and those of the policy."""
    with pytest.raises(KeyError, match="lost"):
        _whole().run_sync(scripted(KeyError("lost")))
    with pytest.raises(CallTimeoutError):
        Policy().with_timeout(0.01).run_sync(scripted(takes(10)))


def test_a_plain_function_runs_in_a_thread_of_its_own():
    """The loop that all threads share is not stalled by it; it may even call back in."""
    policy = _whole()

    def blocking() -> str:
        return policy.run_sync(scripted("from further in")) + " " + threading.current_thread().name

    assert policy.run_sync(blocking).startswith("from further in asyncio_")


def test_all_threads_share_one_loop():
    """A client with a connection pool lives on from call to call."""

    async def where() -> tuple[int, str]:
        return id(asyncio.get_running_loop()), threading.current_thread().name

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: Policy().run_sync(where), range(32)))

    assert len(found) == 1
    assert found.pop()[1] == "penstock-run-sync"


def test_a_limit_holds_over_all_threads():
    """Concurrency, queue and all."""
    policy = _whole()
    operation = scripted(then=takes(0.01, "done"))

    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(lambda _: policy.run_sync(operation), range(32)))

    assert results == ["done"] * 32
    assert operation.most_in_flight == 3


def test_the_loop_is_started_once_by_many_threads():
    """And anew when it has been stopped."""
    background = _BackgroundLoop()

    with ThreadPoolExecutor(16) as threads:
        loops = set(threads.map(lambda _: background.get(), range(32)))
    (first,) = loops
    background.stop()
    second = background.get()

    assert first.is_closed()
    assert second is not first
    background.stop()
    background.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_whose_thread_has_died_is_replaced():
    """A callback of somebody else's ended it."""
    background = _BackgroundLoop()
    first = background.get()

    first.call_soon_threadsafe(sys.exit)
    thread = background._thread
    assert thread is not None
    thread.join(10)

    assert background.get() is not first
    background.stop()


def test_an_exit_that_an_operation_raises_is_the_callers():
    """It does not end the loop under everybody else."""
    began = threading.Event()

    async def other() -> str:
        began.set()
        await asyncio.sleep(0.1)
        return "went on"

    with ThreadPoolExecutor(1) as threads:
        beside = threads.submit(Policy().run_sync, other)
        began.wait(10)
        with pytest.raises(SystemExit):
            Policy().run_sync(scripted(SystemExit(3)))
        assert beside.result(10) == "went on"


# --- inside a running loop --------------------------------------------------------------------


async def test_inside_a_running_loop_it_is_refused():
    """The loop would stand still meanwhile; nothing is started and nothing left unawaited."""
    operation = scripted()

    with pytest.raises(PolicyError, match=r"inside a running event loop; use: await policy\.call"):
        Policy().run_sync(operation)

    assert operation.calls == []
    gc.collect()


# --- where the policy lives -------------------------------------------------------------------


STAGES: dict[str, Callable[[Policy], Policy]] = {
    "timeout": lambda p: p.with_timeout(5),
    "rate": lambda p: p.with_rate(100),
    "breaker": lambda p: p.with_breaker(),
    "concurrency": lambda p: p.with_concurrency(1),
    "budget": lambda p: p.with_budget().with_retry(2),
}


@pytest.mark.parametrize("build", STAGES.values(), ids=STAGES)
def test_a_policy_that_lives_in_another_threads_loop_is_called_there(
    build: Callable[[Policy], Policy], home: Home
):
    """Its limits are that loop's, and so are its clients."""

    async def where() -> Any:
        return asyncio.get_running_loop()

    policy = build(Policy())
    assert home.run(policy.call(where)) is home.loop

    assert running_home(policy.stages) is home.loop
    assert policy.run_sync(where) is home.loop


def test_a_policy_whose_loop_has_ended_is_called_in_the_background(home: Home):
    """As one that has never been called, or has no state."""
    policy = _whole()
    home.run(policy.call(scripted("there")))
    home.end()

    assert running_home(policy.stages) is None
    assert running_home([object()]) is None
    assert policy.run_sync(scripted("here")) == "here"


def test_a_policy_that_run_sync_has_used_serves_the_next_loop_when_it_may():
    """The background loop runs on: an own copy is needed, and the error says so."""
    policy = _whole()
    policy.run_sync(scripted("background"))

    async def main() -> None:
        with pytest.raises(PolicyError, match=r"policy\.fresh\(\)"):
            await policy.call(scripted())
        assert await policy.fresh().call(scripted("fresh")) == "fresh"

    asyncio.run(main())


def test_a_loop_that_is_closed_under_a_waiting_thread_is_an_error(home: Home):
    """And not a thread that waits for ever."""
    policy = Policy().with_concurrency(1)
    home.run(policy.call(scripted("there")))
    loop = home.loop
    began = threading.Event()

    async def never() -> None:
        began.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(policy.run_sync, never)
        began.wait(10)
        tasks: list[Any] = list(asyncio.all_tasks(loop))
        home.end()
        with pytest.raises(
            PolicyError, match="the event loop that the policy's stages live in was"
        ):
            waiting.result(10)
    for task in tasks:
        # Nobody will run it any more; asyncio would complain.
        task._log_destroy_pending = False
        task.get_coro().close()


def test_a_loop_that_is_closed_already_is_an_error():
    """Nothing is left unawaited."""
    loop = VirtualTimeLoop()
    loop.close()

    async def main() -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="closed"):
        run_sync(main, loop)
    gc.collect()


# --- interruption -----------------------------------------------------------------------------


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="Ctrl-C goes to the main one"
)
def test_an_interrupt_of_the_waiting_thread_cancels_the_call():
    """The operation's ``finally`` blocks run, and its permit is free."""
    policy = Policy().with_concurrency(1)
    story: list[str] = []

    async def interrupted(after: float) -> None:
        await asyncio.sleep(after)
        try:
            _thread.interrupt_main()
            await asyncio.sleep(60)
        finally:
            story.append("cleaned up")

    for after in (0, 0.1):
        with pytest.raises(KeyboardInterrupt):
            policy.run_sync(interrupted, after)

    assert policy.run_sync(scripted("next")) == "next"
    assert story == ["cleaned up"] * 2


def test_a_cancellation_that_the_operation_raises_comes_back_as_it_is():
    """As asyncio's, which is another class than that of ``concurrent.futures``."""
    with pytest.raises(asyncio.CancelledError, match="by itself"):
        Policy().run_sync(scripted(asyncio.CancelledError("by itself")))


def test_what_is_left_before_it_has_begun_never_begins():
    """The interrupt came first."""
    loop = VirtualTimeLoop()
    operation = scripted()
    waiting = _Waiting(Policy().call(operation), loop)

    waiting.leave()
    loop.call_soon(waiting.begin)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()

    assert operation.calls == []
    gc.collect()


def test_a_call_that_is_cancelled_before_its_first_step_has_an_end():
    """The loop is stopped just as the call begins."""
    loop = VirtualTimeLoop()
    waiting = _Waiting(Policy().call(scripted()), loop)

    loop.call_soon(waiting.begin)
    loop.call_soon(waiting._give_up)
    loop.call_later(1, loop.stop)
    loop.run_forever()
    loop.close()

    with pytest.raises(asyncio.CancelledError):
        waiting.result()
    gc.collect()


# --- processes --------------------------------------------------------------------------------


def test_the_end_of_the_process_leaves_no_warning():
    """What is under way in daemon threads is cancelled, and cleans up."""
    printed = _python("""
        policy = Policy().with_retry(2, wait=60).with_rate(10).with_breaker().with_timeout(60)

        async def forever():
            try:
                print("began", flush=True)
                await asyncio.sleep(60)
            finally:
                print("cleaned up", flush=True)

        def wait():
            try:
                policy.run_sync(forever)
            except BaseException as error:
                time.sleep(60)

        async def quick():
            return "quick"

        async def lines():
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                print("closed", flush=True)

        async def leave_a_generator_open():
            global kept
            kept = lines()
            await anext(kept)

        print(policy.run_sync(quick), policy.run_sync(lambda: "plain"))
        policy.run_sync(leave_a_generator_open)
        threading.Thread(target=wait, daemon=True).start()
        time.sleep(0.3)
    """)

    assert printed.split("\n") == ["quick plain", "began", "cleaned up", "closed", ""]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_the_child_has_a_loop_of_its_own():
    """The parent's thread is not there; what its calls held is not held in the child."""
    printed = _python("""
        import warnings
        from penstock.sync import _background
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork with threads

        policy = (
            Policy().with_budget().with_retry(2, wait=0).with_rate(100).with_breaker()
            .with_concurrency(1).with_timeout(20)
        )
        began, go = threading.Event(), threading.Event()

        def held():
            began.set()
            go.wait()
            return "held in the parent"

        async def quick():
            return "quick"

        print(policy.run_sync(quick))
        holder = threading.Thread(target=lambda: print(policy.run_sync(held), flush=True))
        holder.start()
        began.wait()
        sys.stdout.flush()

        with _background._lock:  # as another thread may hold it at this moment
            child = os.fork()
            if child == 0:
                print("child:", policy.run_sync(quick), flush=True)
                print("child:", asyncio.run(policy.fresh().call(quick)), flush=True)
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        go.set()
        holder.join()
        print(policy.run_sync(quick))
    """)

    assert printed.split("\n") == [
        "quick",
        "child: quick",
        "child: quick",
        "held in the parent",
        "quick",
        "",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_inside_a_running_loop_can_run_its_own():
    """A worker process that was started from async code."""
    printed = _python("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)

        policy = Policy().with_concurrency(1).with_timeout(20).with_rate(100)

        async def quick():
            return "quick"

        def in_child():
            print("child:", policy.run_sync(quick), flush=True)

        async def main():
            print(await policy.call(quick), flush=True)
            child = os.fork()
            if child == 0:
                threading.Thread(target=in_child).start()
                for thread in threading.enumerate():
                    if thread is not threading.main_thread() and not thread.daemon:
                        thread.join()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print(await policy.call(quick))

        asyncio.run(main())
    """)

    assert printed.split("\n") == ["quick", "child: quick", "quick", ""]


def test_waiting_costs_no_processor_time(monkeypatch: pytest.MonkeyPatch):
    """The thread sleeps until the call has ended, and looks up now and then."""
    monkeypatch.setattr(sync, "_LOOK_EVERY", 0.1)
    began = time.thread_time()

    Policy().run_sync(scripted(takes(0.3)))

    assert time.thread_time() - began < 0.1
