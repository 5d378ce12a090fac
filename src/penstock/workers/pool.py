"""WorkerPool: long-lived workers that take work through a policy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from penstock.batch import Items
from penstock.policy import Policy
from penstock.progress import Progress
from penstock.workers.crew import Makes
from penstock.workers.functions import FunctionPool
from penstock.workers.handing import Handing
from penstock.workers.job import Job
from penstock.workers.modes import check_mode
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.proxy import Proxy
from penstock.workers.target import Target

__all__ = ["WorkerPool"]

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")
V = TypeVar("V")


class WorkerPool(Handing, Generic[W]):
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
        self._run = None
        kind = makes.kind
        self._proxy = Proxy(
            lambda name: self._caller(self._target(name)),
            "the pool" if kind is None else kind.__qualname__,
        )

    @classmethod
    def from_workers(cls, workers: Iterable[V], **options: Any) -> WorkerPool[V]:
        """Return a pool of workers that are made already, each at its place in the list.

        Args:
            workers: The workers, each with settings of its own; the pool starts and stops them.
            options: As for the class, without ``size``; ``mode`` is ``asyncio`` or ``thread``.

        Raises:
            ConfigError: There is no worker, one is there twice, or an option is not allowed.
        """
        makes = Makes.of_workers(workers)
        pool = cast("WorkerPool[V]", WorkerPool.__new__(WorkerPool))
        pool._setup(makes, makes.options(options))  # noqa: SLF001 - of our own class
        return pool

    @overload
    @staticmethod
    def of(
        function: Callable[P, Coroutine[Any, Any, R]], /, **options: Any
    ) -> FunctionPool[P, R]: ...
    @overload
    @staticmethod
    def of(function: Callable[P, R], /, **options: Any) -> FunctionPool[P, R]: ...
    @staticmethod
    def of(function: Any, /, **options: Any) -> Any:
        """Return a pool whose workers run one function, which need not know of workers.

        Args:
            function: Sync or async; where workers live in processes or on Ray, it can be imported.
            options: As for the class.

        Raises:
            ConfigError: An option is not allowed.
            TypeError: It is no function, makes an async iterator, or cannot be sent.
        """
        pool: FunctionPool[Any, Any] = FunctionPool(function, options)
        return pool

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
        work: str,
        /,
        *args: Any,
        priority: int = 0,
        key: str | None = None,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]: ...
    @overload
    async def submit(
        self,
        work: Callable[Concatenate[W, ...], Any],
        /,
        *args: Any,
        priority: int,
        key: str | None = None,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]: ...
    @overload
    async def submit(
        self,
        work: Callable[Concatenate[W, ...], Any],
        /,
        *args: Any,
        key: str,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]: ...
    @overload
    async def submit(
        self,
        work: Callable[Concatenate[W, ...], Any],
        /,
        *args: Any,
        policy: Policy,
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
        replaced by their results. Type checkers check the arguments of a method, its result, or,
        with ``priority``, ``key`` or ``policy``, neither.

        Args:
            work: A method of the workers (``Browser.fetch`` or its name), or a function that takes
                the worker first.
            args: Its arguments, after the worker.
            priority: Whole number; higher is served first.
            key: What jobs that belong together share, for ``pick="sticky"``.
            policy: What this job goes through instead of the pool's policy.
            kwargs: Its keyword arguments.

        Raises:
            ConfigError: ``priority``, ``key`` or ``policy`` is not allowed.
            PoolStoppedError: The pool takes no more jobs.
            TypeError: ``work`` is nothing that can be called on a worker.
        """
        run = self._run or self._running()
        job = self._job(run, self._target(work), (args, kwargs), priority, key, policy)
        desk = run.dispatcher
        if desk.has_room():
            desk.take(job)
        else:
            await desk.submit(job)
        return job

    @overload
    def submit_nowait(
        self,
        work: Callable[Concatenate[W, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Job[R]: ...
    @overload
    def submit_nowait(
        self, work: Callable[Concatenate[W, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...
    @overload
    def submit_nowait(
        self,
        work: str,
        /,
        *args: Any,
        priority: int = 0,
        key: str | None = None,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]: ...
    @overload
    def submit_nowait(
        self,
        work: Callable[Concatenate[W, ...], Any],
        /,
        *args: Any,
        priority: int,
        key: str | None = None,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]: ...
    @overload
    def submit_nowait(
        self,
        work: Callable[Concatenate[W, ...], Any],
        /,
        *args: Any,
        key: str,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]: ...
    @overload
    def submit_nowait(
        self,
        work: Callable[Concatenate[W, ...], Any],
        /,
        *args: Any,
        policy: Policy,
        **kwargs: Any,
    ) -> Job[Any]: ...
    def submit_nowait(  # type: ignore[misc]  # as above
        self,
        work: Any,
        /,
        *args: Any,
        priority: int = 0,
        key: str | None = None,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> Job[Any]:
        """Hand in a job at once; arguments as for ``submit``.

        Raises:
            ConcurrencyLimitedError: The line is full.
            ConfigError: As ``submit``.
            PoolStoppedError: As ``submit``.
            TypeError: As ``submit``.
        """
        run = self._running()
        job = self._job(run, self._target(work), (args, kwargs), priority, key, policy)
        run.dispatcher.submit_nowait(job)
        return job

    @overload
    def map(
        self,
        work: Callable[[W, A], Coroutine[Any, Any, R]],
        items: Items[A],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        return_exceptions: bool = False,
        progress: Progress = None,
        chunk: int | None = None,
    ) -> AsyncIterator[R]: ...
    @overload
    def map(
        self,
        work: Callable[[W, A], R],
        items: Items[A],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        return_exceptions: bool = False,
        progress: Progress = None,
        chunk: int | None = None,
    ) -> AsyncIterator[R]: ...
    @overload
    def map(
        self,
        work: str,
        items: Items[Any],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        return_exceptions: bool = False,
        progress: Progress = None,
        chunk: int | None = None,
    ) -> AsyncIterator[Any]: ...
    def map(
        self,
        work: Any,
        items: Items[Any],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        return_exceptions: bool = False,
        progress: Progress = None,
        chunk: int | None = None,
    ) -> AsyncIterator[Any]:
        """Return an async iterator over the results of a method for every item.

        Leaving the loop early cancels what is under way. The first failure is raised where its
        result would have come, after all other jobs were cancelled.

        Args:
            work: As for ``submit``, with one argument.
            items: An iterable or async iterable; read as far as ``concurrency`` reaches, so it may
                be endless.
            ordered: Results in the order of the items (the default), or as they come.
            concurrency: Most items that are under way or wait to be read, from 1; None for twice
                what all workers serve.
            return_exceptions: Put an error in its item's place instead of stopping.
            progress: True for a bar (needs rich), or a callable(done, total).
            chunk: Items that go to a worker in one call, from 1. A policy sees such a call as one,
                and an item that fails fails alone. None for one; on Ray, where no policy counts
                calls, for as many as make a call worth its way.

        Raises:
            ConfigError: ``concurrency``, ``progress`` or ``chunk`` is not allowed.
            Exception: A failure of a job.
        """
        return self._results(
            self._target(work),
            items,
            ordered=ordered,
            concurrency=concurrency,
            return_exceptions=return_exceptions,
            progress=progress,
            chunk=chunk,
        )

    @overload
    async def broadcast(
        self,
        work: Callable[Concatenate[W, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[R]: ...
    @overload
    async def broadcast(
        self, work: Callable[Concatenate[W, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[R]: ...
    @overload
    async def broadcast(
        self, work: str, /, *args: Any, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]: ...
    async def broadcast(  # type: ignore[misc]  # as above
        self, work: Any, /, *args: Any, return_exceptions: bool = False, **kwargs: Any
    ) -> list[Any]:
        """Call a method once on every worker that is up, each when its calls have ended.

        It goes past the line and the policy: it is about the worker, not about a job.

        Args:
            work: As for ``submit``.
            args: Its arguments, after the worker.
            return_exceptions: Put an error in its worker's place instead of raising the first.
            kwargs: Its keyword arguments.

        Returns:
            The results in the order of the workers' places.

        Raises:
            PolicyError: A job of this pool has called it, which would wait for itself.
            PoolStoppedError: The pool takes no more calls.
            Exception: The first failure, when all others have ended, too.
        """
        target = self._target(work)
        return await self._everywhere(target, (args, kwargs), keep=return_exceptions)
