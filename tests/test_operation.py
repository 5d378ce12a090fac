"""What a policy can call: every shape of callable and awaitable, on the loop or in a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import inspect
import threading
import time
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any
from unittest.mock import AsyncMock, MagicMock
from xmlrpc.client import ServerProxy

import pytest

from penstock import CallTimeoutError, Policy, PolicyError
from penstock.events import CallStarted
from penstock.operation import (
    Lingering,
    PlainOperation,
    _seen,
    is_async_generator_function,
    name_of,
    returns_awaitable,
)
from penstock.testing import EventLog, run, scripted, takes

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

MAIN = threading.main_thread()


def _kind_of(value: object) -> str:
    return value if isinstance(value, str) else type(value).__name__


@pytest.fixture(autouse=True)
def nothing_learned() -> None:
    """No test starts from what another has taught."""
    _seen.clear()


def _on_loop() -> bool:
    return threading.current_thread() is MAIN


# --- coroutine functions, visible as such -----------------------------------------------------


async def _function(word: str = "a") -> str:
    assert _on_loop()
    return word


def _wrapped_by(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        assert _on_loop()
        return fn(*args, **kwargs)

    return wrapper


class Decorated:
    """A class-based decorator: its methods are methods of an object, not of a function."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return types.MethodType(self, owner)

    async def __call__(self, owner: Any, word: str = "a") -> str:
        """Call the method."""
        return await self.fn(owner, word)


class Holder:
    """Something with methods of every kind."""

    async def method(self, word: str = "a") -> str:
        """Return the word."""
        return await _function(word)

    @staticmethod
    async def static(word: str = "a") -> str:
        """Return the word."""
        return await _function(word)

    @classmethod
    async def of_class(cls, word: str = "a") -> str:
        """Return the word."""
        return await _function(word)

    async def __call__(self, word: str = "a") -> str:
        """Return the word."""
        return await _function(word)

    partial_method = functools.partialmethod(method, "b")

    @Decorated
    async def decorated(self, word: str = "a") -> str:
        """Return the word."""
        return await _function(word)


VISIBLE: dict[str, Any] = {
    "function": _function,
    "partial": functools.partial(_function),
    "partial of partial": functools.partial(functools.partial(_function), "b"),
    "method": Holder().method,
    "static method": Holder.static,
    "class method": Holder.of_class,
    "callable object": Holder(),
    "partial of a callable object": functools.partial(Holder(), "b"),
    "method of a class-based decorator": Holder().decorated,
    "async mock": AsyncMock(return_value="a"),
}


@pytest.mark.parametrize("fn", VISIBLE.values(), ids=VISIBLE)
async def test_a_coroutine_function_is_seen_behind_whatever_wraps_it(fn: Any):
    """It never sees a thread."""
    is_seen = returns_awaitable(fn)

    assert is_seen
    assert await Policy().call(fn) in {"a", "b"}


LIKELY: dict[str, Any] = {
    "functools.wraps": _wrapped_by(_function),
    "functools.wraps twice": _wrapped_by(_wrapped_by(_function)),
    "functools.wraps on a method": types.MethodType(_wrapped_by(Holder.method), Holder()),
    "partial of functools.wraps": functools.partial(_wrapped_by(_function), "b"),
}


@pytest.mark.parametrize("fn", LIKELY.values(), ids=LIKELY)
async def test_a_decorated_coroutine_function_is_called_on_the_loop_the_first_time(fn: Any):
    """SDK methods are decorated; what they wrap is evidence enough."""
    assert await Policy().call(fn) in {"a", "b"}


async def _work() -> str:
    return "worked"


class Ready:
    """An awaitable that is no coroutine."""

    def __init__(self, value: str = "ready") -> None:
        self.value = value

    def __await__(self) -> Generator[Any, Any, str]:
        yield from asyncio.sleep(0).__await__()
        return self.value


def _future() -> asyncio.Future[str]:
    future = asyncio.get_running_loop().create_future()
    future.set_result("future")
    return future


def _hidden_future() -> asyncio.Future[str]:
    return _future()


RETURNING: dict[str, tuple[Any, str]] = {
    "coroutine": (lambda: _work(), "worked"),  # noqa: PLW0108 - the lambda is the shape
    "task": (lambda: asyncio.create_task(_work()), "worked"),
    "ensured future": (lambda: asyncio.ensure_future(_work()), "worked"),
    "future": (_future, "future"),
    "future made further in": (_hidden_future, "future"),
    "awaitable object": (Ready, "ready"),
    "awaitable of a lambda": (lambda: Ready("b"), "b"),
}


@pytest.mark.parametrize(("fn", "result"), RETURNING.values(), ids=RETURNING)
async def test_whatever_returns_an_awaitable_is_awaited(fn: Any, result: str):
    """Also what can only be made where a loop runs; without a warning, the first time too."""
    for _ in range(3):
        assert await Policy().call(fn) == result
    gc.collect()


async def test_a_function_that_needs_a_loop_further_in_may_be_begun_twice():
    """Once in a thread, where it finds none, and then on the loop; from then on only there."""
    threads = []

    def outer() -> asyncio.Future[str]:
        threads.append(_on_loop())
        return _future()

    for _ in range(2):
        assert await Policy().call(outer) == "future"

    assert threads == [False, True, True]


async def test_a_function_of_a_loop_in_debug_mode_is_called_on_the_loop():
    """There asyncio refuses a call from a thread instead of letting it pass."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)

    def soon() -> asyncio.Future[str]:
        future: asyncio.Future[str] = loop.create_future()
        loop.call_soon(future.set_result, "soon")
        return future

    hidden = functools.partial(_call, soon)

    assert await Policy().call(hidden) == "soon"


def _call(fn: Callable[[], Any]) -> Any:
    return fn()


async def test_another_runtime_error_is_the_operations_own():
    """It is not taken for a missing loop and called again."""
    calls = []

    def broken() -> None:
        calls.append(1)
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        await Policy().call(broken)
    assert calls == [1]


# --- plain functions, in a thread -------------------------------------------------------------


async def test_a_plain_function_runs_in_a_worker_thread():
    """With the caller's context, and its own changes to it are its own."""

    def blocking(word: str, *, suffix: str) -> tuple[str, bool, str]:
        seen = VARIABLE.get()
        VARIABLE.set("by the thread")
        return word + suffix, _on_loop(), seen

    VARIABLE.set("by the caller")

    assert await Policy().call(blocking, "a", suffix="b") == ("ab", False, "by the caller")
    assert VARIABLE.get() == "by the caller"


@pytest.mark.parametrize(
    "fn",
    [
        functools.partial(max, 3),
        MagicMock(return_value=7),
        str.upper,
        functools.lru_cache(len),
        dict,
        type("Slotted", (), {"__slots__": (), "__call__": lambda self, *args: args})(),
        type("Unhashable", (), {"__hash__": None, "__call__": lambda self, *args: args})(),
    ],
    ids=_kind_of,
)
async def test_a_callable_of_any_kind_can_be_called(fn: Any):
    """Built-ins, mocks, classes, objects that take no weak reference or have no hash."""
    argument: Any = {} if fn is dict else "text"
    if isinstance(fn, functools.partial):
        argument = 7
    expected = fn(argument)

    for _ in range(2):
        assert await Policy().call(fn, argument) == expected


async def test_a_built_in_that_blocks_does_not_stall_the_loop():
    """As ``time.sleep``; it takes no virtual time, and the clock stands still."""
    assert await Policy().call(time.sleep, 0) is None


async def test_a_class_with_an_async_call_is_called_as_a_class():
    """Calling it makes an object, whatever calling the object would do."""
    assert isinstance(await Policy().call(Holder), Holder)
    assert not is_async_generator_function(type("C", (), {"__call__": _numbers}))


@pytest.mark.integration
async def test_a_proxy_that_has_every_attribute_is_a_plain_function():
    """An XML-RPC method claims to be wrapped, and to have a code and a name."""
    with ServerProxy("http://127.0.0.1:9/") as proxy:
        method: Any = proxy.system.listMethods
        log = EventLog()

        with pytest.raises(ConnectionRefusedError):
            await Policy(observers=[log]).call(method)

    assert log.only(CallStarted).operation == "_Method"


async def test_a_function_that_is_wrapped_in_itself_is_a_plain_function():
    """Looking for what it wraps comes to an end."""

    def endless() -> str:
        return "found"

    endless.__wrapped__ = endless  # type: ignore[attr-defined]

    assert await Policy().call(endless) == "found"


async def test_what_a_plain_function_raises_reaches_the_caller():
    """And is retried like anything else."""
    calls = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("first")
        return "second"

    assert await Policy().with_retry(2, wait=1).call(flaky) == "second"


async def test_a_stop_iteration_from_a_thread_is_an_error_and_no_hang():
    """As in a coroutine, where Python turns it into a RuntimeError."""
    numbers: Iterator[int] = iter([1])
    policy = Policy()

    assert await policy.call(next, numbers) == 1
    with pytest.raises(RuntimeError, match="next raised StopIteration") as caught:
        await policy.call(next, numbers)
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_a_cancellation_that_a_thread_raises_ends_its_own_call():
    """Nobody is left waiting, and the permit is free."""
    policy = Policy().with_concurrency(1)

    def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await policy.call(cancelled)
    assert await policy.call(lambda: "next") == "next"


# --- what is learned --------------------------------------------------------------------------


class Shape:
    """Makes functions of one code that return what is asked for."""

    def __init__(self) -> None:
        self.on_loop: list[bool] = []

    def of(self, awaitable: bool) -> Callable[[], Any]:
        """Return a function of that shape."""

        def shaped() -> Any:
            self.on_loop.append(_on_loop())
            return _work() if awaitable else "plain"

        return shaped


async def test_what_returned_an_awaitable_is_called_on_the_loop_from_then_on():
    """Told by its code: a lambda is a new object each time it is evaluated."""
    shape = Shape()

    for _ in range(3):
        assert await Policy().call(shape.of(True)) == "worked"

    assert shape.on_loop == [False, True, True]


async def test_what_once_returned_anything_else_stays_in_threads():
    """It may block: the loop is stalled once at most."""
    shape = Shape()
    results = [
        await Policy().call(shape.of(kind)) for kind in (True, True, False, True, False, True)
    ]

    assert results == ["worked", "worked", "plain", "worked", "plain", "worked"]
    assert shape.on_loop == [False, True, True, False, False, False]


async def test_what_one_decorator_wraps_is_told_apart():
    """Their wrappers have one code."""
    story = []

    def deco(fn: Callable[[], Any]) -> Callable[[], Any]:
        @functools.wraps(fn)
        def wrapper() -> Any:
            story.append((fn.__name__, _on_loop()))
            return fn()

        return wrapper

    def blocking() -> str:
        return "blocked"

    quick, slow = deco(_work), deco(blocking)
    for _ in range(2):
        assert await Policy().call(quick) == "worked"
        assert await Policy().call(slow) == "blocked"

    assert story == [("_work", True), ("blocking", False)] * 2


async def test_a_wrong_guess_is_corrected():
    """A decorator that makes a coroutine function synchronous again."""
    threads = []

    @functools.wraps(_work)
    def synchronous() -> str:
        threads.append(_on_loop())
        return "done"

    for _ in range(2):
        assert await Policy().call(synchronous) == "done"

    assert threads == [True, False]


async def test_methods_share_what_was_learned_of_their_function():
    """Whichever object they belong to."""
    threads = []

    class Client:
        def get(self) -> Any:
            threads.append(_on_loop())
            return _work()

    for _ in range(2):
        await Policy().call(functools.partial(Client().get))

    assert threads == [False, True]


# --- giving up on a thread --------------------------------------------------------------------


class Block:
    """A blocking function that a test holds and lets go."""

    def __init__(self, result: Any = "done") -> None:
        self.result = result
        self.begun = threading.Event()
        self.go = threading.Event()
        self.calls = 0

    def __call__(self) -> Any:
        """Block."""
        self.calls += 1
        self.begun.set()
        assert self.go.wait(10)
        return self.result() if callable(self.result) else self.result


@pytest.fixture
def one_thread() -> Iterator[Callable[[], None]]:
    """Leave the loop a single worker thread."""
    executors = []

    def limit() -> None:
        executors.append(concurrent.futures.ThreadPoolExecutor(1))
        asyncio.get_running_loop().set_default_executor(executors[0])

    yield limit
    for executor in executors:
        executor.shutdown()


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


@pytest.mark.integration
@pytest.mark.real_time
async def test_who_is_cancelled_leaves_at_once_and_the_permit_stays_until_the_thread_ends():
    """A thread cannot be cancelled: what it uses is still in use."""
    policy = Policy().with_concurrency(1)
    block = Block()
    call = asyncio.create_task(policy.call(block))
    await _until(block.begun.is_set)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert policy.snapshot()["stages"][0]["in_flight"] == 1
    following = asyncio.create_task(policy.call(scripted("next")))
    await asyncio.sleep(0.02)
    assert not following.done()

    block.go.set()
    assert await following == "next"
    assert policy.snapshot()["stages"][0]["in_flight"] == 0


@pytest.mark.integration
@pytest.mark.real_time
async def test_an_attempt_that_timed_out_in_a_thread_keeps_its_permit_too():
    """With retry outside, the next attempt waits for it or is refused."""
    policy = Policy().with_concurrency(1).with_timeout(0.02)
    block = Block()

    with pytest.raises(CallTimeoutError):
        await policy.call(block)
    assert policy.snapshot()["stages"][0]["in_flight"] == 1

    block.go.set()
    await _until(lambda: policy.snapshot()["stages"][0]["in_flight"] == 0)


@pytest.mark.integration
@pytest.mark.real_time
async def test_what_was_queued_for_a_thread_never_runs_once_it_is_given_up(
    one_thread: Callable[[], None],
):
    """Its permit is free at once: nothing was begun."""
    one_thread()
    policy = Policy().with_concurrency(2)
    first, second = Block(), Block()
    running = asyncio.create_task(policy.call(first))
    await _until(first.begun.is_set)
    queued = asyncio.create_task(policy.call(second))
    await asyncio.sleep(0.02)

    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    assert policy.snapshot()["stages"][0]["in_flight"] == 1

    first.go.set()
    assert await running == "done"
    assert await policy.call(lambda: "after") == "after"
    assert second.calls == 0


@pytest.mark.integration
@pytest.mark.real_time
@pytest.mark.parametrize(
    "result",
    [_work, lambda: "late", lambda: 1 / 0, lambda: next(iter(()))],
    ids=["coroutine", "value", "error", "stop"],
)
async def test_what_a_thread_still_brings_for_nobody_makes_no_noise(result: Any):
    """A coroutine is closed, an error is dropped."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    policy = Policy().with_concurrency(1)
    block = Block(result)
    call = asyncio.create_task(policy.call(block))
    await _until(block.begun.is_set)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    block.go.set()
    await _until(lambda: policy.snapshot()["stages"][0]["in_flight"] == 0)
    await asyncio.sleep(0.02)
    gc.collect()

    assert complaints == []


@pytest.mark.integration
def test_a_thread_that_outlives_its_loop_tells_nobody():
    """The permit is found lost by the next loop."""
    policy = Policy().with_concurrency(1)
    block = Block()
    loop = asyncio.new_event_loop()
    executor = concurrent.futures.ThreadPoolExecutor(1)

    async def main() -> None:
        loop.set_default_executor(executor)
        call = asyncio.create_task(policy.call(block))
        await _until(block.begun.is_set)
        call.cancel()

    loop.run_until_complete(main())
    loop.close()
    block.go.set()
    executor.shutdown()

    assert run(policy.call(scripted("next"))) == "next"


def test_what_lingers_releases_when_the_last_has_ended():
    """Two attempts of one call may both have been given up."""
    released: list[str] = []
    lingering = Lingering()

    lingering.when_idle(lambda: released.append("at once"))
    lingering.running = 2
    lingering.when_idle(lambda: released.append("first"))
    lingering.when_idle(lambda: released.append("second"))
    lingering.ended()
    assert released == ["at once"]

    lingering.ended()
    assert released == ["at once", "first", "second"]


@pytest.mark.integration
@pytest.mark.real_time
async def test_a_blocking_function_does_not_stall_the_loop():
    """Others go on meanwhile."""
    ticks = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    await Policy().call(time.sleep, 0.2)
    ticking.cancel()

    assert len(ticks) > 10


# --- bare awaitables --------------------------------------------------------------------------


async def _task() -> asyncio.Task[str]:
    return asyncio.create_task(_work())


async def _made_future() -> asyncio.Future[str]:
    return _future()


async def _made_coroutine() -> Awaitable[str]:
    return _work()


async def _made_ready() -> Awaitable[str]:
    return Ready()


@pytest.mark.parametrize("make", [_task, _made_future, _made_coroutine, _made_ready])
async def test_a_bare_awaitable_is_run_where_it_is_needed_once(make: Any):
    """A coroutine, a task, a future, an object."""
    policy = Policy().with_timeout(5).with_breaker().with_concurrency(1)
    awaitable = await make()

    assert await policy.call(awaitable) in {"worked", "future", "ready"}


async def test_a_bare_awaitable_is_refused_where_it_may_be_needed_again():
    """The error says which stage is the reason and what to write; the coroutine is closed."""
    coroutine = _work()

    with pytest.raises(TypeError, match="the stage 'retry' may need it again; pass the function"):
        await Policy().with_retry(2).call(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    with pytest.raises(TypeError, match="may need it again"):
        await Policy().with_fallback(policy=Policy()).call(Ready())
    assert await Policy().with_retry(1).call(_work()) == "worked"
    assert await Policy().with_retry(5).using(attempts=1).call(_work()) == "worked"


async def test_a_bare_coroutine_that_a_stage_rejects_is_closed():
    """Python would complain that it was never awaited."""
    policy = Policy().with_concurrency(1, max_queue=0)
    first = asyncio.create_task(policy.call(scripted(takes(5))))
    await asyncio.sleep(1)
    coroutine = _work()

    with pytest.raises(PolicyError):
        await policy.call(coroutine)

    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    await first


async def test_a_cancel_reaches_a_bare_awaitable():
    """As if it had been awaited directly."""
    task = asyncio.create_task(asyncio.sleep(100))
    call = asyncio.create_task(Policy().with_concurrency(1).call(task))
    await asyncio.sleep(1)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert task.cancelled()


async def test_an_awaitable_takes_no_arguments():
    """They would be lost; the coroutine is closed."""
    coroutine: Any = _work()

    with pytest.raises(TypeError, match="a function and its arguments, or an awaitable alone"):
        await Policy().call(coroutine, 1)

    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_what_can_be_called_and_awaited_is_called_where_there_are_arguments():
    """Without any it is awaited."""

    class Deferred(Ready):
        def __call__(self, word: str) -> str:
            return word

    assert await Policy().call(Deferred()) == "ready"
    assert await Policy().call(Deferred(), "called") == "called"


# --- what cannot be called --------------------------------------------------------------------


async def _numbers(*_: Any) -> AsyncIterator[int]:
    yield 1


class Numbers:
    """Makes async generators when it is called."""

    async def __call__(self) -> AsyncIterator[int]:
        """Make one."""
        yield 1


@pytest.mark.parametrize(
    "fn",
    [
        _numbers,
        functools.partial(_numbers),
        Numbers(),
        Numbers().__call__,
        functools.partial(Numbers()),
    ],
    ids=["function", "partial", "object", "method", "partial of an object"],
)
async def test_what_makes_an_async_iterator_is_refused(fn: Any):
    """The error points to the stream."""
    with pytest.raises(TypeError, match=r"makes an async iterator; use policy\.stream"):
        await Policy().call(fn)


@pytest.mark.parametrize("fn", [5, None, "text", _numbers(), object()], ids=_kind_of)
async def test_what_can_neither_be_called_nor_awaited_is_refused(fn: Any):
    """The error names the policy and shows what came."""
    with pytest.raises(TypeError, match="policy 'search': call takes a function"):
        await Policy("search").call(fn)


async def test_what_raises_while_it_is_called_is_a_failure_of_the_attempt():
    """A wrong argument above all: it is the caller's bug, and not tried again."""
    calls = []

    def picky(word: str) -> Awaitable[str]:
        calls.append(word)
        raise ValueError(word)

    policy = Policy().with_retry(3, wait=1)
    with pytest.raises(ValueError, match="a"):
        await policy.call(picky, "a")
    with pytest.raises(TypeError, match="unexpected keyword"):
        await policy.call(_function, wrod="a")  # type: ignore[call-arg]
    assert calls == ["a"]


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (_function, "_function"),
        (functools.partial(functools.partial(_function), 1), "_function"),
        (Holder().method, "Holder.method"),
        (Holder(), "Holder"),
        (len, "len"),
        (PlainOperation(_function), "PlainOperation"),
        (ServerProxy("http://127.0.0.1:9/").a, "_Method"),
    ],
    ids=_kind_of,
)
def test_a_callable_is_called_by_its_name(fn: Any, name: str):
    """What events and messages show."""
    assert name_of(fn) == name


async def test_an_operation_in_a_thread_is_named_after_its_function():
    """Not after what makes it awaitable."""
    log = EventLog()

    await Policy(observers=[log]).call(functools.partial(max, 1), 2)

    assert log.only(CallStarted).operation == "max"
