"""Pool: resources to rotate over, by themselves or under a policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from penstock.binding import observers_of
from penstock.classify import Classify
from penstock.events import Observer
from penstock.keywords import PoolKeywords
from penstock.pool_attempts import Usage
from penstock.pool_view import PoolView, Runs
from penstock.pools.administration import Administered
from penstock.pools.lease import Lease
from penstock.pools.options import PoolOptions
from penstock.pools.resource import Resource

__all__ = ["Pool"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Pool(Administered, Generic[T]):
    """Resources to rotate over: API keys, proxies, GPU workers, sessions.

    Give it to ``policy.rotating(pool)``, to several policies if they share the resources, or use it
    alone: ``await pool.run(operation)`` gives the operation a resource, and another one if the
    first turns out to be rate limited or refused.

    Args:
        resources: A list of values or ``Resource`` objects, or a dict of them by id.
        attempts: Most attempts of one ``run``, the first included, from 1.
        retry_delay: Seconds before another attempt after ``TryAgain``, from 0, spread by half of it
            either way. Fail-over to another resource never pauses.
        max_wait: Most seconds that a ``run`` waits for a resource, from 0; None fails at once where
            none is ready.
        classify: What a failure means, asked before the built-in table, as for ``Policy``.
        observers: Callables that take every ``Event`` of the pool's own calls, as for ``Policy``.
        telemetry: False leaves the pool's own calls out of OpenTelemetry.
        options: See ``PoolOptions``.

    Raises:
        ConfigError: There is no resource, an id is there twice, or a value is not allowed.
    """

    __slots__ = ("_usage", "_view")

    @overload
    def __init__(
        self,
        resources: Mapping[str, Resource[T]] | Iterable[Resource[T]],
        *,
        attempts: int = 3,
        retry_delay: float | timedelta = 0.5,
        max_wait: float | timedelta | None = None,
        classify: Classify | None = None,
        observers: Iterable[Observer] = (),
        telemetry: bool = True,
        **options: Unpack[PoolKeywords],
    ) -> None: ...
    @overload
    def __init__(
        self,
        resources: Mapping[str, T],
        *,
        attempts: int = 3,
        retry_delay: float | timedelta = 0.5,
        max_wait: float | timedelta | None = None,
        classify: Classify | None = None,
        observers: Iterable[Observer] = (),
        telemetry: bool = True,
        **options: Unpack[PoolKeywords],
    ) -> None: ...
    @overload
    def __init__(
        self,
        resources: Iterable[T],
        *,
        attempts: int = 3,
        retry_delay: float | timedelta = 0.5,
        max_wait: float | timedelta | None = None,
        classify: Classify | None = None,
        observers: Iterable[Observer] = (),
        telemetry: bool = True,
        **options: Unpack[PoolKeywords],
    ) -> None: ...
    def __init__(
        self,
        resources: Any,
        *,
        attempts: int = 3,
        retry_delay: float | timedelta = 0.5,
        max_wait: float | timedelta | None = None,
        classify: Classify | None = None,
        observers: Iterable[Observer] = (),
        telemetry: bool = True,
        **options: Any,
    ) -> None:
        # The options check them all, and are typed as what they store.
        super().__init__(resources, PoolOptions(**options))
        use: Any = {"attempts": attempts, "retry_delay": retry_delay, "max_wait": max_wait}
        self._usage = Usage(
            **use, classify=classify, observers=observers_of(observers), telemetry=telemetry
        )
        self._view: PoolView[T] = PoolView(self, self._usage)

    def run(
        self,
        fn: Callable[Concatenate[Resource[T], P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]:
        """Run ``fn(resource, *args, **kwargs)``; await what is returned.

        An attempt whose resource turns out to be rate limited, refused or used up is made again on
        another one at once. Every other error reaches the caller as it is, after one attempt.

        Raises:
            NoResourceError: Nobody can serve; it says which case it is, and the last failure is its
                cause.
            TypeError: ``fn`` returned something that cannot be awaited.
        """
        return self._view.run(fn, *args, **kwargs)

    @property
    def rotated(self) -> Runs[T]:
        """Decorate a function to run on the pool; it is called without the resource."""
        return self._view.rotated

    def lease(self) -> AbstractAsyncContextManager[Lease]:
        """Hold a resource for the length of an ``async with`` block.

        What the block raises counts as an attempt's failure. The block is never cancelled for an
        older use of its resource: nobody could run it again.

        Raises:
            NoResourceError: Nobody is ready within ``max_wait``.
        """
        return self._view.lease()

    def using(
        self,
        *,
        attempts: int | None = None,
        max_wait: float | timedelta | None = None,
        start_within: float | timedelta | None = None,
        priority: int | None = None,
        key: str | None = None,
        request_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> PoolView[T]:
        """Return a light view of the pool for calls that need something of their own.

        Args:
            attempts: Most attempts, from 1.
            max_wait: Most seconds to wait for a resource, from 0.
            start_within: Seconds in which attempts may start, from 0; one that runs is not cut off.
                Where ``max_wait`` is not set, a call may wait for a resource as long.
            priority: Whole number; higher is served first.
            key: What calls that belong together share, for ``pick="sticky"``.
            request_id: Put on every event of the call.
            tags: Free labels, text to text.

        Raises:
            ConfigError: A value is not allowed.
        """
        return self._view.using(
            attempts=attempts,
            max_wait=max_wait,
            start_within=start_within,
            priority=priority,
            key=key,
            request_id=request_id,
            tags=tags,
        )

    def fresh(self) -> Self:
        """Return a pool of the same resources and options with new state."""
        pool = object.__new__(type(self))
        resources = [member.resource for member in self.machine.members.values()]
        Administered.__init__(pool, resources, self.options)
        pool._usage = self._usage
        pool._view = PoolView(pool, self._usage)
        return pool

    def __repr__(self) -> str:
        return f"<Pool {self.options.name!r}: {len(self.machine.members)} resources>"
