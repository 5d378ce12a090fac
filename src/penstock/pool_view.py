"""Calling through a pool alone: attempts on one resource after another."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from penstock.binding import Pipeline, Settings, bind, context_of, observers_of
from penstock.call import Call
from penstock.operation import name_of
from penstock.overrides import tightened
from penstock.pool_attempts import PoolAttempts, Usage
from penstock.pools.lease import Lease
from penstock.pools.leasing import Leasing
from penstock.pools.resource import Resource
from penstock.stage import Handler
from penstock.stages.rotation import Rotation, RotationOptions
from penstock.wrapping import wrap

__all__ = ["PoolView", "Runs"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

_COROUTINE_FUNCTION = inspect.CO_COROUTINE


class PoolView(Generic[T]):
    """A pool as one kind of caller uses it; made by ``pool.using(...)``."""

    __slots__ = ("_context", "_enter", "_pipeline", "_rotation", "_settings", "_usage", "pool")

    def __init__(self, pool: Leasing, usage: Usage, like: PoolView[T] | None = None) -> None:
        self.pool = pool
        self._usage = usage
        self._settings = Settings(
            pool.options.name,
            usage.classify,
            observers=observers_of(usage.observers),
            telemetry=usage.telemetry,
        )
        self._context = replace(context_of(self._settings), overrides=usage.overrides)
        self._pipeline: Pipeline | None = None
        self._enter: Handler | None = None
        if like is None:
            self._rotation = Rotation(RotationOptions(resources=pool, max_wait=usage.max_wait))
        else:
            # Only what the calls bring is another: the stages are the same.
            self._rotation, self._pipeline = like.parts()

    def parts(self) -> tuple[Rotation, Pipeline]:
        """Return what views of the same limits share."""
        if self._pipeline is None:
            stages = (PoolAttempts(self._usage), self._rotation)
            self._pipeline = bind(self._settings, stages)
        return self._rotation, self._pipeline

    def _bound(self) -> Handler:
        self._enter = self.parts()[1].plain
        return self._enter

    def using(
        self,
        *,
        attempts: int | None = None,
        max_wait: Any = None,
        start_within: Any = None,
        **overrides: Any,
    ) -> PoolView[T]:
        """Return a view with more of its own; see ``Pool.using``."""
        given: dict[str, Any] = {
            "attempts": attempts,
            "max_wait": max_wait,
            "start_within": start_within,
        }
        set_anew = {name: value for name, value in given.items() if value is not None}
        laid_over = {"priority": None, "key": None, "request_id": None, "tags": None, **overrides}
        usage = replace(
            self._usage,
            overrides=tightened(
                self._usage.overrides, timeout=None, attempts=None, cost=None, **laid_over
            ),
            **set_anew,
        )
        return PoolView(self.pool, usage, None if set_anew else self)

    def run(
        self,
        fn: Callable[Concatenate[Resource[T], P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]:
        """Run ``fn(resource, *args, **kwargs)``; see ``Pool.run``."""
        operation: Any = fn
        code = getattr(fn, "__code__", None)
        if code is None or not code.co_flags & _COROUTINE_FUNCTION:
            _check_is_function(operation)
            operation = _Started(fn)
        return (self._enter or self._bound())(Call(self._context, operation, args, kwargs))

    @property
    def rotated(self) -> Runs[T]:
        """Decorate a function to run on the pool; it is called without the resource."""
        return Runs(self)

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[Lease]:
        """Hold a resource for the length of the block; see ``Pool.lease``."""
        call = Call(self._context, _nothing)
        lease = self.pool.lease_nowait(call)
        if lease is None:
            lease = await self.pool.wait_for_lease(call, self._usage.max_wait)
        try:
            yield lease
        except BaseException as failure:
            self._rotation.fail(call, lease, failure)
            raise
        else:
            self._rotation.succeed(lease)
        finally:
            self.pool.give_back(lease)


class Runs(Generic[T]):
    """The decorator ``pool.rotated``: the function's first parameter is filled in by the pool."""

    __slots__ = ("_view",)

    def __init__(self, view: PoolView[T]) -> None:
        self._view = view

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Resource[T], P], Awaitable[R]], /
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, Resource[T], P], Awaitable[R]], /
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Return the function without its first parameter (after ``self``), run on the pool.

        Raises:
            TypeError: It cannot be called, makes an async iterator, or has no such parameter.
        """
        return wrap(self._view.run, self._view.pool.options.name, fn, inject="first")


class _Started:
    """An operation that is no coroutine function: called on the loop, and awaited."""

    __slots__ = ("_fn", "operation_name", "runs_on")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self.operation_name = name_of(fn)
        self.runs_on = False

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        awaitable = self._fn(*args, **kwargs)
        if not inspect.isawaitable(awaitable):
            msg = (
                f"pool.run takes a function that returns an awaitable; {self.operation_name} "
                f"returned {type(awaitable).__name__} (a policy runs plain functions in a thread)"
            )
            raise TypeError(msg)
        # What is neither a coroutine nor a Future may take a cancel for anything.
        self.runs_on = not (inspect.iscoroutine(awaitable) or asyncio.isfuture(awaitable))
        return await awaitable


def _check_is_function(fn: Any) -> None:
    if callable(fn):
        return
    if inspect.iscoroutine(fn):
        # Python would complain that nobody awaited it.
        fn.close()
    msg = f"pool.run takes a function and its arguments; got {type(fn).__name__}"
    raise TypeError(msg)


async def _nothing() -> None:
    """Stand for the block of ``async with pool.lease()``, which runs by itself."""
