"""What a policy can call: coroutine functions, anything that returns an awaitable, plain functions.

A plain function runs in a worker thread, so that one that blocks does not stall the loop. Which kind
an undecorated callable is cannot be told before it has run once (``lambda: client.get(url)`` looks
like ``lambda: requests.get(url)``). So the first time it runs in a thread; if what comes back can be
awaited it is awaited on the loop, and from then on the callable is called on the loop directly.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["Lingering", "PlainOperation", "is_async_generator_function", "returns_awaitable"]

# True: returned an awaitable the last time. False: once returned something else, so it may block.
_seen: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

_NO_LOOP = ("no running event loop", "no current event loop")


def returns_awaitable(fn: Callable[..., Any]) -> bool:
    """Whether ``fn`` is visibly a coroutine function (also behind partial, methods, ``__call__``)."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004 - asks what the call is, not whether there is one
    )


def is_async_generator_function(fn: Any) -> bool:
    """Whether calling ``fn`` makes an async generator, also behind partial and ``__call__``."""
    return inspect.isasyncgenfunction(fn) or (
        not isinstance(fn, type) and inspect.isasyncgenfunction(getattr(fn, "__call__", None))  # noqa: B004 - as above
    )


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

    __slots__ = ("fn", "lingering")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.lingering = Lingering()

    @property
    def operation_name(self) -> str:
        """The wrapped function's name, for messages."""
        return getattr(self.fn, "__qualname__", None) or type(self.fn).__qualname__

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function where it can do no harm, and await what it returns if it can be."""
        key = _identity(self.fn)
        if _was_awaitable(key, self.fn):
            result = self.fn(*args, **kwargs)
        else:
            result = await self._off_the_loop(*args, **kwargs)
        awaitable = inspect.isawaitable(result)
        _remember(key, awaitable)
        return await result if awaitable else result

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
        given_up = False

        def job() -> Any:
            try:
                # Given up while it was queued for a thread: it must not start any more.
                return None if given_up else run(work)
            finally:
                _tell(loop, lingering.ended)

        future = loop.run_in_executor(None, job)
        lingering.running += 1
        try:
            # The shield keeps the job's own future alive, so that its end is always counted.
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            given_up = True
            raise


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop was closed while the thread went on: nobody is left to tell.
        return


def _looks_async(fn: Any) -> bool:
    # A decorated coroutine function (SDK methods are): evidence, corrected by what it returns.
    inner = inspect.unwrap(fn.func if isinstance(fn, partial) else fn)
    return inner is not fn and inspect.iscoroutinefunction(inner)


def _identity(fn: Any) -> Any:
    # A lambda is a new object each time it is evaluated and keeps its code; a decorated function
    # shares its code with everything under the same decorator and is told apart by itself.
    while isinstance(fn, partial | MethodType):
        fn = fn.func if isinstance(fn, partial) else fn.__func__
    if isinstance(fn, FunctionType) and not hasattr(fn, "__wrapped__"):
        return fn.__code__
    return fn


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


async def run_once(run: Callable[[], Awaitable[Any]], awaitable: Awaitable[Any]) -> Any:
    """Await ``run()``; close ``awaitable`` if the policy never got round to starting it."""
    try:
        return await run()
    finally:
        if (
            isinstance(awaitable, Coroutine)
            and inspect.iscoroutine(awaitable)
            and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED
        ):
            awaitable.close()
