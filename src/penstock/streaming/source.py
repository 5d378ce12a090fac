"""What a stream can be read from, and how that is opened, left and closed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeAlias, TypeVar, cast

from penstock.streaming.items import close, log_closing

__all__ = ["OpenSource", "Source"]

T = TypeVar("T")

Source: TypeAlias = (
    AsyncIterable[T]
    | Awaitable[AsyncIterable[T]]
    | AbstractAsyncContextManager[AsyncIterable[T], bool | None]
)
"""What a function returns whose items can be streamed."""

# A loop keeps a weak reference to its tasks only.
_closing: set[asyncio.Task[bool]] = set()


class OpenSource:
    """A source from its opening on, closed in one way or another.

    Attributes:
        items: What is iterated.
    """

    __slots__ = ("_iterator", "_loop", "_manager", "items")

    def __init__(self, items: object, manager: object) -> None:
        self.items = items
        self._manager = manager
        self._iterator: AsyncIterator[Any] | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def opened(cls, source: object) -> Self:
        """Open what a function has returned: await it, enter it, whichever it takes."""
        # What is both is read: awaited it may bring something else (a gRPC call brings its end).
        if inspect.isawaitable(source) and not hasattr(source, "__aiter__"):
            brought: object = await source
            source = brought
        kind: Any = type(source)
        if hasattr(kind, "__aenter__") and not hasattr(source, "__aiter__"):
            return cls(await kind.__aenter__(source), source)
        return cls(source, None)

    def iterator(self) -> AsyncIterator[Any]:
        """Begin to read.

        Raises:
            TypeError: It has no items to be awaited.
        """
        if not hasattr(self.items, "__aiter__"):
            kind = f"{type(self.items).__module__}.{type(self.items).__qualname__}"
            msg = (
                f"policy.stream reads an async iterable, and {kind.removeprefix('builtins.')} is "
                "none; give it an async generator function that opens and reads it"
            )
            raise TypeError(msg)
        self._iterator = aiter(cast("AsyncIterable[Any]", self.items))
        return self._iterator

    async def close(self, failure: BaseException | None = None) -> bool:
        """Close it, or leave its context manager, as ``async with`` would.

        Args:
            failure: Why; None where it was read, or is wanted no more.

        Returns:
            Whether the failure is one no more.
        """
        try:
            try:
                await self._close_items()
            except Exception as error:
                if failure is None:
                    raise
                log_closing(error)
            return self._manager is not None and await self._leave(failure)
        finally:
            # It has this frame in its traceback: together they would be a cycle.
            del failure

    def close_later(self) -> None:
        """Close it in a task: it is left to the collector, and nothing can be awaited here.

        Left to itself, each generator of an SDK's chain would be closed in a task of its own, and
        they stand in each other's way.
        """
        try:
            if asyncio.get_running_loop() is not self._loop:
                return
        except RuntimeError:
            return
        # As Python says it to a coroutine that is collected; errors are logged.
        task = self._loop.create_task(self.close(GeneratorExit()))
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    async def _close_items(self) -> None:
        iterator = self._iterator
        if self._manager is None:
            await close(iterator, self.items)
        elif inspect.isasyncgen(iterator):
            # What else a manager has brought is the manager's to close, and may be others' too.
            await iterator.aclose()

    async def _leave(self, failure: BaseException | None) -> bool:
        kind: Any = type(self._manager)
        if failure is None:
            return bool(await kind.__aexit__(self._manager, None, None, None))
        told = type(failure), failure, failure.__traceback__
        try:
            return bool(await kind.__aexit__(self._manager, *told))
        except Exception as error:
            # What it makes of a failure stands in its place; a cancel stays what it is.
            if isinstance(failure, Exception):
                raise
            log_closing(error)
            return False
        finally:
            del failure, told
