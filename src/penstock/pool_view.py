"""Calling through a pool alone: attempts on one resource after another."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import uniform
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, overload

from penstock import clock
from penstock.call import Call, CallContext, Overrides
from penstock.classify import Classifier
from penstock.edges import failure_classifier, starting_with
from penstock.errors import DisplacedError, NoResourceError
from penstock.operation import name_of
from penstock.options import Count, Options, SecondsFromZero
from penstock.overrides import tightened
from penstock.pools.lease import Lease
from penstock.pools.leasing import Leasing
from penstock.pools.resource import Resource
from penstock.stages.rotation import Rotation, RotationOptions
from penstock.verdict import RetryEffect, TryAgain
from penstock.wrapping import wrap

__all__ = ["PoolView", "Runs", "Usage"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

_COROUTINE_FUNCTION = inspect.CO_COROUTINE
_begin = starting_with("first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Options):
    """How calls go through a pool; see ``Pool`` and ``Pool.using``."""

    stage: ClassVar[str] = "pool"

    attempts: Count = 3
    retry_delay: SecondsFromZero = 0.5
    max_wait: SecondsFromZero | None = None
    start_within: SecondsFromZero | None = None
    classify: Classifier | None = None
    overrides: Overrides = field(default_factory=Overrides)


class PoolView(Generic[T]):
    """A pool as one kind of caller uses it; made by ``pool.using(...)``."""

    __slots__ = ("_context", "_rotation", "_usage", "pool")

    def __init__(self, pool: Leasing, usage: Usage) -> None:
        self.pool = pool
        self._usage = usage
        options = RotationOptions(resources=pool, max_wait=usage.max_wait)
        self._rotation = Rotation(options)
        self._context = CallContext(
            policy=pool.options.name,
            classify=failure_classifier(usage.classify),
            overrides=usage.overrides,
        )

    def using(
        self,
        *,
        attempts: int | None = None,
        max_wait: Any = None,
        start_within: Any = None,
        **overrides: Any,
    ) -> PoolView[T]:
        """Return a view with more of its own; see ``Pool.using``."""
        given = {"attempts": attempts, "max_wait": max_wait, "start_within": start_within}
        laid_over = {"priority": None, "key": None, "request_id": None, "tags": None, **overrides}
        usage = replace(
            self._usage,
            overrides=tightened(
                self._usage.overrides, timeout=None, attempts=None, cost=None, **laid_over
            ),
            **{name: value for name, value in given.items() if value is not None},
        )
        return PoolView(self.pool, usage)

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
        return self._run(Call(self._context, operation, args, kwargs))

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

    async def _run(self, call: Call) -> Any:
        usage, rotation = self._usage, self._rotation
        if usage.start_within is not None:
            call.deadline = clock.now() + usage.start_within
        failed = 0
        last: Exception | None = None
        try:
            while True:
                try:
                    self._check_time(call)
                    return await rotation(call, _begin)
                except Exception as failure:
                    if call.resource is None:
                        raise failure from last
                    # A displaced attempt had not failed, and does not pay for it.
                    if not _was_displaced(call, failure):
                        if not _goes_elsewhere(call, failure):
                            raise
                        failed += 1
                        await self._pause(call, failed, failure)
                    last = failure
                call.resource = None
                call.attempt += 1
                call.forget_verdict()
        finally:
            # Its frames hold this one: together they would be a cycle.
            del last

    def _check_time(self, call: Call) -> None:
        if call.deadline is not None and clock.now() >= call.deadline:
            raise self._exhausted(call, "deadline", "no time is left to begin")

    async def _pause(self, call: Call, failed: int, failure: Exception) -> None:
        usage = self._usage
        if failed >= usage.attempts:
            why = f"all {failed} attempts are spent"
            raise self._exhausted(call, "attempts_spent", why) from failure
        if not isinstance(failure, TryAgain):
            return
        # Another resource would not help, and all at once would hurt: R12 of the parity table.
        delay = failure.after
        if delay is None:
            delay = usage.retry_delay * uniform(0.5, 1.5)
        if call.deadline is not None and clock.now() + delay >= call.deadline:
            why = "the next attempt could not start in time"
            raise self._exhausted(call, "deadline", why) from failure
        await asyncio.sleep(delay)

    def _exhausted(self, call: Call, case: str, why: str) -> NoResourceError:
        # What is wrong with the resource is the cause; its text may hold keys, and stays there.
        return NoResourceError(f"pool '{call.context.policy}': {why}", case=case)


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


def _was_displaced(call: Call, failure: Exception) -> bool:
    return isinstance(failure, DisplacedError) and failure.concerns(call)


def _goes_elsewhere(call: Call, failure: Exception) -> bool:
    if isinstance(failure, TryAgain):
        return True
    verdict = call.judge(failure)
    effect = verdict.effects.retry
    return verdict.sent and (effect is RetryEffect.AT_HINT or effect is RetryEffect.ELSEWHERE)


async def _nothing() -> None:
    """Stand for the block of ``async with pool.lease()``, which runs by itself."""
