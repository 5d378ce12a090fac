"""A pool whose workers run one function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

from penstock.batch import Items
from penstock.operation import is_async_generator_function, name_of, returns_awaitable
from penstock.progress import Progress
from penstock.workers.crew import Makes
from penstock.workers.handing import Handing
from penstock.workers.job import Job
from penstock.workers.modes import check_mode
from penstock.workers.options import WorkerPoolOptions
from penstock.workers.target import Target

__all__ = ["FunctionPool", "FunctionWorker"]

P = ParamSpec("P")
R = TypeVar("R")


class FunctionWorker:
    """Runs a function that knows nothing of workers.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, where it is not async."""
        return self.function(*args, **kwargs)

    async def run_async(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, where it is."""
        return await self.function(*args, **kwargs)


class FunctionPool(Handing, Generic[P, R]):
    """A pool of workers that run one function; ``WorkerPool.of(function)`` returns it.

    ::

        async with WorkerPool.of(thumbnail, mode="process", size=8) as pool:
            image = await pool(path)

    Args:
        function: Sync or async.
        options: See ``WorkerPoolOptions``.

    Raises:
        ConfigError: An option is not allowed.
        TypeError: It is no function, makes an async iterator, or cannot be sent where it has to be.
    """

    def __init__(self, function: Any, options: Mapping[str, Any]) -> None:
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"a pool of a function takes a function; got {function!r}")
        if is_async_generator_function(function):
            what = name_of(function)
            raise TypeError(f"{what!r} makes an async iterator, which one result cannot hold")
        self.options = WorkerPoolOptions(**options)
        check_mode(self.options, FunctionWorker, (function,), {})
        self._makes = Makes(FunctionWorker, (function,), {})
        self._targets = {}
        self._run = None
        method = "run_async" if returns_awaitable(function) else "run"
        self._function = Target(method, None, function)
        self._call = self._caller(self._function)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function on the next worker; return its result."""
        result: R = await self._call(*args, **kwargs)
        return result

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Hand in a job; return it when there is room in the line.

        Jobs among the arguments are awaited first and replaced by their results.

        Raises:
            PoolStoppedError: The pool takes no more jobs.
        """
        run = self._running()
        job = self._job(run, self._function, (args, kwargs))
        await run.dispatcher.submit(job)
        return job

    def submit_nowait(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Hand in a job at once.

        Raises:
            ConcurrencyLimitedError: The line is full.
            PoolStoppedError: The pool takes no more jobs.
        """
        run = self._running()
        job = self._job(run, self._function, (args, kwargs))
        run.dispatcher.submit_nowait(job)
        return job

    def map(  # noqa: PLR0913 - as there
        self,
        items: Items[Any],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        return_exceptions: bool = False,
        progress: Progress = None,
        chunk: int | None = None,
    ) -> AsyncIterator[R]:
        """Return an async iterator over the function's results; see ``WorkerPool.map``."""
        return self._results(
            self._function,
            items,
            ordered=ordered,
            concurrency=concurrency,
            return_exceptions=return_exceptions,
            progress=progress,
            chunk=chunk,
        )
