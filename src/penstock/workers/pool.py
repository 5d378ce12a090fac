"""WorkerPool: long-lived workers that take work through a policy."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from penstock.policy import Policy
from penstock.workers.controls import Controls
from penstock.workers.crew import Makes
from penstock.workers.job import Job
from penstock.workers.modes import check_mode
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.proxy import Proxy
from penstock.workers.run import Run
from penstock.workers.target import Target, target_of
from penstock.workers.telling import Telling

__all__ = ["WorkerPool"]

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")


class WorkerPool(Controls, Telling, Generic[W]):
    """Workers with a life cycle: made once, called many times, started anew when they die.

    A worker is any object. Its public methods, sync or async, are what jobs call; ``start``,
    ``stop`` and ``healthy`` are the pool's to call, where it has them::

        async with WorkerPool(Browser, settings, size=4) as pool:
            page = await pool.workers.fetch(url)

    Each worker is a resource of a ``Pool``: picking, cooldown, caps, health and cancellation are
    those of rotation.

    Args:
        make: The workers' class, or a function that returns one.
        args: What it is called with, for each worker.
        kwargs: The same, by keyword.
        options: See ``WorkerPoolOptions``.

    Raises:
        ConfigError: A value is not allowed.
        ImportError: The mode needs an extra that is not installed.
        TypeError: The mode sends what makes a worker to another process, and it cannot be sent.
    """

    def __init__(
        self,
        make: Callable[..., W],
        /,
        *args: Any,
        kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._setup(Makes(make, args, kwargs or {}), WorkerPoolOptions(**options))

    def _setup(self, makes: Makes, options: WorkerPoolOptions) -> None:
        check_mode(options, makes.make, makes.args, makes.kwargs)
        self.options = options
        self._makes = makes
        self._targets: dict[Any, Target] = {}
        self._run: Run | None = None
        kind = makes.kind
        self._proxy = Proxy(self._method, "the pool" if kind is None else kind.__qualname__)

    @property
    def workers(self) -> W:
        """The workers' methods: ``await pool.workers.fetch(url)`` calls one on the next worker.

        For type checkers it is a worker; a method that is not async returns an awaitable too, for
        which ``submit`` has the better type.
        """
        return cast("W", self._proxy)

    @overload
    async def submit(
        self,
        work: Callable[Concatenate[W, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Job[R]: ...
    @overload
    async def submit(
        self, work: Callable[Concatenate[W, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...
    @overload
    async def submit(
        self,
        work: str | Callable[..., Any],
        /,
        *args: Any,
        priority: int = 0,
        key: str | None = None,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]: ...
    async def submit(  # type: ignore[misc]  # whose method has a keyword like ours uses partial
        self,
        work: Any,
        /,
        *args: Any,
        priority: int = 0,
        key: str | None = None,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]:
        """Hand in a job; return it when there is room in the line.

        Jobs among the arguments, in lists, tuples, dicts and sets too, are awaited first and
        replaced by their results.

        Args:
            work: A method of the workers (``Browser.fetch`` or its name), or a function that takes
                the worker first.
            args: Its arguments, after the worker.
            priority: Whole number; higher is served first.
            key: What jobs that belong together share, for ``pick="sticky"``.
            policy: What this job goes through instead of the pool's policy.
            kwargs: Its keyword arguments.

        Raises:
            PoolStoppedError: The pool takes no more jobs.
            TypeError: ``work`` is nothing that can be called on a worker.
        """
        run = self._running()
        job = self._job(run, work, args, kwargs, priority, key, policy)
        await run.dispatcher.submit(job)
        return job

    def _job(
        self,
        run: Run,
        work: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        priority: int,
        key: str | None,
        policy: Policy | None,
    ) -> Job[Any]:
        way = run.ways.of(policy)
        if priority or key is not None:
            way = way.with_own(priority, key)
        return run.dispatcher.job(way, self._target(work), args, kwargs or None, priority)

    def _target(self, work: Any) -> Target:
        target = self._targets.get(work)
        if target is None:
            target = self._targets[work] = target_of(work, self._makes.kind)
        return target

    def _method(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        target = self._target(name)

        def call(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            run = self._running()
            return run.dispatcher.call(run.ways.default, target, args, kwargs)

        call.__name__ = call.__qualname__ = target.operation_name
        return call
