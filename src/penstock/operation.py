"""What a policy can call: coroutine functions, whatever returns an awaitable, plain functions.

A plain function runs in a worker thread, so that one that blocks does not stall the loop. Which
kind an undecorated callable is cannot be told before it has run once (``lambda: client.get(url)``
looks like ``lambda: requests.get(url)``). So the first time it runs in a thread; if what comes back
can be awaited it is awaited on the loop, and from then on it is called on the loop directly.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from threading import Lock
from types import CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

__all__ = [
    "Lingering",
    "PlainOperation",
    "innermost",
    "is_async_generator_function",
    "name_of",
    "returns_awaitable",
    "run_once",
]

# True: returned an awaitable the last time. False: once returned something else, so it may block.
_seen: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

# Who uses one of these wants to run where a loop runs.
_LOOP_NAMES = {"create_future", "create_task", "ensure_future", "get_running_loop"}

# What asyncio says in a thread without a loop; the last one in debug mode only.
_NO_LOOP = ("no running event loop", "no current event loop", "Non-thread-safe operation")


def innermost(fn: Any) -> Any:
    """Return what is called in the end, where ``fn`` is a partial or a bound method."""
    while isinstance(fn, partial | MethodType):
        fn = fn.func if isinstance(fn, partial) else fn.__func__
    return fn


def name_of(fn: Any) -> str:
    """Return a callable's qualified name, for people to read."""
    inner = innermost(fn)
    name = getattr(inner, "__qualname__", None)
    return name if isinstance(name, str) else type(inner).__qualname__


def returns_awaitable(fn: Any) -> bool:
    """Whether ``fn`` is visibly a coroutine function, also behind partial and ``__call__``."""
    return any(map(inspect.iscoroutinefunction, _what_is_called(fn)))


def is_async_generator_function(fn: Any) -> bool:
    """Whether calling ``fn`` makes an async generator, also behind partial and ``__call__``."""
    return any(map(inspect.isasyncgenfunction, _what_is_called(fn)))


class Lingering:
    """Work in threads that was given up and goes on.

    A thread cannot be cancelled: the caller leaves, the thread and its socket stay. What a stage
    holds for it (a permit) is released when the last thread has ended.
    """

    __slots__ = ("_releases", "running")

    def __init__(self) -> None:
        self.running = 0
        self._releases: list[Callable[[], object]] = []

    def when_idle(self, release: Callable[[], object]) -> None:
        """Call ``release`` now if no thread is running, else when the last one ends."""
        if self.running:
            self._releases.append(release)
        else:
            release()

    def ended(self) -> None:
        """Count one thread out."""
        self.running -= 1
        if not self.running:
            releases, self._releases = self._releases, []
            for release in releases:
                release()


class PlainOperation:
    """A callable that is not visibly async, made awaitable for one call."""

    __slots__ = ("_is_opaque", "fn", "lingering")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.lingering = Lingering()
        self._is_opaque = False

    @property
    def runs_on(self) -> bool:
        """True where a cancel would end the waiting and not the work.

        A thread runs on, and what is neither a coroutine nor a Future may take a cancel for
        anything.
        """
        return self.lingering.running > 0 or self._is_opaque

    @property
    def operation_name(self) -> str:
        """The wrapped function's name, for messages."""
        return name_of(self.fn)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function where it can do no harm, and await what it returns if it can be."""
        key = _identity(self.fn)
        if _was_awaitable(key, self.fn):
            result = self.fn(*args, **kwargs)
        else:
            result = await self._off_the_loop(*args, **kwargs)
        awaitable = inspect.isawaitable(result)
        _remember(key, awaitable)
        if not awaitable:
            return result
        self._is_opaque = not (inspect.iscoroutine(result) or asyncio.isfuture(result))
        return await result

    async def _off_the_loop(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await self._in_thread(partial(self.fn, *args, **kwargs))
        except RuntimeError as error:
            if not any(text in str(error) for text in _NO_LOOP):
                raise
        # It asked for the running loop, which a thread has not: it makes a Future or a Task.
        return self.fn(*args, **kwargs)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        run = contextvars.copy_context().run
        lingering = self.lingering
        # Taken by the thread that starts the work or by the caller that gives it up, never by both.
        claim = Lock()

        def job() -> Any:
            if not claim.acquire(blocking=False):
                return None
            try:
                return run(work)
            except StopIteration as stop:
                # No future takes one: on Python 3.11 the caller would wait for ever.
                msg = f"{self.operation_name} raised StopIteration"
                raise RuntimeError(msg) from stop
            finally:
                _tell(loop, lingering.ended)

        future = loop.run_in_executor(None, job)
        lingering.running += 1
        try:
            # The shield keeps the job's own future alive, for what becomes of its result.
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if claim.acquire(blocking=False):
                lingering.ended()
            else:
                future.add_done_callback(_close_result)
            raise


async def run_once(run: Callable[[], Awaitable[Any]], awaitable: Awaitable[Any]) -> Any:
    """Await ``run()``; close ``awaitable`` if the policy never got round to starting it."""
    try:
        return await run()
    finally:
        if (
            inspect.iscoroutine(awaitable)
            and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED
        ):
            awaitable.close()


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop was closed while the thread went on: nobody is left to tell.
        return


def _close_result(future: asyncio.Future[Any]) -> None:
    # The caller has left. Python would complain that nobody awaited a coroutine made for it.
    if (
        not future.cancelled()
        and future.exception() is None
        and inspect.iscoroutine(future.result())
    ):
        future.result().close()


def _what_is_called(fn: Any) -> tuple[Any, ...]:
    inner = innermost(fn)
    # The ``__call__`` of a class is not what calling the class does.
    return (inner,) if isinstance(inner, type) else (inner, getattr(inner, "__call__", None))  # noqa: B004 - asks what it is


def _looks_async(fn: Any) -> bool:
    # Evidence, corrected by what it returns: a decorated coroutine function (SDK methods are), or
    # code that uses the running loop.
    try:
        inner = inspect.unwrap(innermost(fn))
    except ValueError:
        # Wrapped in itself, or a proxy that has whatever attribute it is asked for.
        return False
    code = getattr(inner, "__code__", None)
    uses_loop = isinstance(code, CodeType) and not _LOOP_NAMES.isdisjoint(code.co_names)
    return uses_loop or inspect.iscoroutinefunction(inner)


def _identity(fn: Any) -> Any:
    # A lambda is a new object each time it is evaluated and keeps its code; a decorated function
    # shares its code with everything under the same decorator and is told apart by itself.
    inner = innermost(fn)
    if isinstance(inner, FunctionType) and not hasattr(inner, "__wrapped__"):
        return inner.__code__
    return inner


def _was_awaitable(key: Any, fn: Any) -> bool:
    try:
        return _seen.get(key, False) or (key not in _seen and _looks_async(fn))
    except TypeError:
        return _looks_async(fn)


def _remember(key: Any, awaitable: bool) -> None:  # noqa: FBT001 - the remembered value itself
    try:
        _seen[key] = awaitable and _seen.get(key, True)
    except TypeError:
        # An object that takes no weak reference is looked at anew each time.
        return
