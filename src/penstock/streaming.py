"""Async iterators under a policy: retried until the first item, held until closed."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from penstock.call import Call
from penstock.driving import END, Closed, Driver, HandingOperation, HandOut
from penstock.errors import PolicyError
from penstock.operation import name_of

__all__ = ["PolicyStream", "StreamOperation"]

T = TypeVar("T")

_log = logging.getLogger("penstock")

# They can be iterated, and hardly anybody who answers a stream with one means its parts.
_NO_ITEMS = (str, bytes, bytearray, Mapping)


class StreamOperation(HandingOperation):
    """What a stream's call runs: it opens the source and hands the items on."""

    __slots__ = ("_open",)

    def __init__(self, open_source: Callable[..., Any], calls: tuple[Call, ...] = ()) -> None:
        super().__init__(name_of(open_source), calls)
        self._open = open_source

    def run_for(self, call: Call) -> Self:
        """Return an operation that runs for ``call`` too."""
        return type(self)(self._open, (*self.calls, call))

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Open the source, and hand its items to the reader until it ends or is closed."""
        source = await _opened(self._open(*args, **kwargs))
        iterator = aiter(source)
        try:
            await self._hand_on(iterator)
        except GeneratorExit:
            # Collected without being closed: nothing can be awaited any more.
            raise
        except Closed:
            # The reader has enough: that is a success.
            pass
        except BaseException:
            await _close_quietly(iterator, source)
            raise
        await _close(iterator, source)
        # A stream without a single item is over too.
        self.commit()

    async def _hand_on(self, iterator: AsyncIterator[Any]) -> None:
        while (item := await _next(iterator)) is not END:
            self.commit()
            await HandOut(item)


class PolicyStream(Generic[T]):
    """The items of an async iterator, read under a policy; made by ``policy.stream``.

    Entering waits for the first item: until it is there the source may be opened again by retry.
    After that it is committed: an error passes to the reader and is recorded by the stages. Leaving
    the block closes the source and gives back what was held, after a ``break`` as well. It is
    entered, read and left in one task, as a timeout is.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._run = run
        self._pipeline: Driver | None = None
        self._substitute: AsyncGenerator[Any, None] | None = None
        self._first: Any = END

    async def __aenter__(self) -> Self:
        """Open the source and wait for its first item.

        Raises:
            PolicyError: The stream was entered before, or a fallback answered it with something
                that has no items.
        """
        if self._pipeline is not None:
            msg = "a stream can be entered once; call policy.stream(...) again"
            raise PolicyError(msg)
        self._pipeline = Driver(self._run())
        self._first = await self._pipeline.run()
        if self._pipeline.result is not None:
            self._substitute = _items_of(self._pipeline.result)
            self._first = await _next(self._substitute)
        return self

    def __aiter__(self) -> Self:
        """Return the stream itself.

        Raises:
            PolicyError: It was not entered.
        """
        self._entered()
        return self

    async def __anext__(self) -> T:
        """Return the next item.

        Raises:
            PolicyError: It was not entered, or another task reads it at the moment.
        """
        pipeline = self._entered()
        item, self._first = self._first, END
        if item is END and self._substitute is not None:
            item = await _next(self._substitute)
        elif item is END:
            item = await pipeline.run()
        if item is END:
            raise StopAsyncIteration
        return item  # type: ignore[no-any-return]  # what the source yields

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the source and give back what the stages held.

        A cancellation is passed through the pipeline: a timeout stage that caused it turns it into
        its ``CallTimeoutError``.
        """
        self._first = END
        if self._substitute is not None:
            await self._substitute.aclose()
        pipeline = self._entered()
        reason = exc if isinstance(exc, asyncio.CancelledError) else None
        try:
            await pipeline.finish(reason or Closed())
        except asyncio.CancelledError:
            # The block raises its own cancellation again; one that came while closing is another.
            if reason is None:
                raise
        finally:
            # As in the pipeline: no cycle.
            del exc, reason

    def _entered(self) -> Driver:
        if self._pipeline is None:
            msg = "enter the stream first: async with policy.stream(...) as items"
            raise PolicyError(msg)
        return self._pipeline


async def _opened(source: Any) -> Any:
    # What is both is read: awaited it may bring something else (a gRPC call brings its end).
    if inspect.isawaitable(source) and not hasattr(source, "__aiter__"):
        return await source
    return source


async def _items_of(answer: object) -> AsyncGenerator[Any, None]:
    """Read what a fallback (or a custom stage) answered with in place of the source."""
    # Its declared type is kept: ``isinstance`` narrows to items of an unknown type.
    items: Any = answer
    if isinstance(answer, AsyncIterable):
        iterator: AsyncIterator[Any] = aiter(items)
        try:
            while (item := await _next(iterator)) is not END:
                yield item
        finally:
            await _close(iterator, answer)
    elif isinstance(answer, Iterable) and not isinstance(answer, _NO_ITEMS):
        for item in items:
            yield item
    else:
        msg = (
            f"a stream was answered with {type(items).__name__}; "
            "answer it with a list, an async iterable, or None for no items"
        )
        raise PolicyError(msg)


async def _next(items: AsyncIterator[Any]) -> Any:
    # Not ``async for``, which wants the iterator itself to be iterable again.
    try:
        return await items.__anext__()
    except StopAsyncIteration:
        return END


async def _close(first: Any, then: Any = None) -> None:
    try:
        close = getattr(first, "aclose", None) or getattr(first, "close", None)
        if callable(close):
            closed: Any = close()
            if inspect.isawaitable(closed):
                await closed
    finally:
        if then is not None and then is not first:
            await _close(then)


async def _close_quietly(iterator: Any, source: Any) -> None:
    try:
        await _close(iterator, source)
    except Exception as error:  # noqa: BLE001 - the failure that ended the stream must not be hidden
        # Without its text, which may hold keys.
        kind = type(error).__name__
        _log.warning("closing a stream's source raised %s after the stream had failed", kind)
