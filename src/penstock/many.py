"""The methods of a policy that make many calls at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from penstock.batch import Items, batch_concurrency, gather, stream_results
from penstock.progress import Progress
from penstock.stage import Stage

__all__ = ["ManyCalls"]

A = TypeVar("A")
R = TypeVar("R")


class ManyCalls:
    """``gather`` and ``map``, for whatever has ``call`` and ``stages``."""

    __slots__ = ()

    stages: tuple[Stage, ...]
    call: Callable[..., Coroutine[Any, Any, Any]]

    async def gather(
        self,
        fn: Callable[[A], Awaitable[R]],
        items: Items[A],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        progress: Progress = None,
    ) -> list[R]:
        """Call ``fn(item)`` for every item under the policy and return all results.

        Args:
            fn: The operation.
            items: An iterable or async iterable; read as it is needed, so it may be endless.
            concurrency: Calls under way at once, from 1; None takes twice the policy's own
                concurrency limit (its queue permitting), so that a call in back-off leaves no
                permit idle, or 100.
            ordered: Results in input order (the default) or in completion order.
            return_exceptions: Put an error in its item's place instead of stopping at the first.
            progress: True for a bar (needs rich), or a callable(done, total).

        Raises:
            ConfigError: ``concurrency`` or ``progress`` is not allowed.
            Exception: The first error of a call, after the other calls were cancelled.
        """
        return await gather(
            lambda item: self.call(fn, item),
            items,
            concurrency=batch_concurrency(concurrency, self.stages),
            ordered=ordered,
            return_exceptions=return_exceptions,
            progress=progress,
        )

    def map(
        self,
        fn: Callable[[A], Awaitable[R]],
        items: Items[A],
        *,
        concurrency: int | None = None,
        return_exceptions: bool = False,
        progress: Progress = None,
    ) -> AsyncIterator[R]:
        """Return an async iterator over the results of ``fn(item)``, in completion order.

        Arguments and errors as for ``gather``. Leaving the loop early cancels what is under way.
        """
        return stream_results(
            lambda item: self.call(fn, item),
            items,
            concurrency=batch_concurrency(concurrency, self.stages),
            return_exceptions=return_exceptions,
            progress=progress,
        )
