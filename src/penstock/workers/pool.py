"""WorkerPool: long-lived workers that take work through a policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

from penstock.errors import PolicyError, PoolStoppedError
from penstock.policy import Policy
from penstock.workers.crew import Makes
from penstock.workers.job import Job
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.proxy import Proxy
from penstock.workers.run import Run
from penstock.workers.target import Target, target_of

__all__ = ["WorkerPool"]

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")


class WorkerPool(Generic[W]):
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
        self.options = options
        self._makes = makes
        self._targets: dict[Any, Target] = {}
        self._run: Run | None = None
        kind = makes.kind
        self._proxy = Proxy(self._method, "the pool" if kind is None else kind.__qualname__)

    async def start(self) -> None:
        """Start the workers; return when the first of them is up.

        Jobs may be submitted while the others start.

        Raises:
            PolicyError: The pool has been started already.
            Exception: What a worker's ``start`` raised, when none could be started.
        """
        if self._run is not None and self._run.stopped_for is None:
            raise PolicyError(f"pool '{self.options.name}' has been started already")
        run = self._run = Run(self._makes, self.options)
        try:
            await run.start()
        except BaseException:
            await run.kill()
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever is cancelled must not wait for a long line of jobs.
        if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
            await self.kill()
        else:
            await self.stop()

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
        await run.submit(job)
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
        return run.job(self._target(work), args, kwargs or None, way, priority)

    async def join(self) -> None:
        """Wait until no job is left, in line or under way."""
        await self._running().dispatcher.join()

    async def stop(self) -> None:
        """Take no more jobs, finish those there are, then stop the workers."""
        run = self._run
        if run is None:
            return
        run.close("it was stopped")
        run.resume()
        await run.dispatcher.join()
        await run.stop()

    async def kill(self) -> None:
        """Cancel all jobs and end all workers, at once."""
        if self._run is not None:
            await self._run.kill()

    def pause(self) -> None:
        """Give no call to any worker until ``resume``; those under way go on."""
        self._running().pause("asked for")

    def resume(self) -> None:
        """End a pause."""
        self._running().resume()

    def _running(self) -> Run:
        run = self._run
        if run is None:
            msg = f"pool '{self.options.name}' has not been started; use: async with pool"
            raise PoolStoppedError(msg)
        run.check_open()
        return run

    def _target(self, work: Any) -> Target:
        target = self._targets.get(work)
        if target is None:
            target = self._targets[work] = target_of(work, self._makes.kind)
        return target

    def _method(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        target = self._target(name)

        def call(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            run = self._running()
            return run.call(run.ways.default, target, args, kwargs)

        call.__name__ = call.__qualname__ = target.operation_name
        return call
