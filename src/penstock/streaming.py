"""Async iterators under a policy: retried until the first item, held until closed.

The whole pipeline is one coroutine, and it is still running while its items are read: that is how
permits, probes and timers are held until the stream is closed. It is driven by hand, inside the
reader's own task, so no task and no queue stands between the source and the reader, and whatever the
source is bound to (a cancel scope, a context variable) stays in one task.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from penstock.call import Call
from penstock.errors import PolicyError

__all__ = ["PolicyStream", "StreamOperation"]

T = TypeVar("T")

_END = object()


class _Item:
    """What the pipeline yields to its driver instead of a future."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def __repr__(self) -> str:
        # asyncio prints this in "Task got bad yield" when a custom stage starts a task.
        return "<an item of policy.stream: a stage must not run call_next in a task of its own>"


class _Closed(BaseException):
    """Thrown into the pipeline where it waits, when the reader wants no more."""


class StreamOperation:
    """What a stream's call runs: it opens the source and hands the items on.

    With its first item every call that it runs for is committed. That is one call, or one per
    policy where a fallback had another policy answer.
    """

    __slots__ = ("_calls", "_open", "operation_name")

    def __init__(self, open_source: Callable[..., Any], calls: tuple[Call, ...] = ()) -> None:
        self._open = open_source
        self._calls = calls
        name = getattr(open_source, "__qualname__", None)
        self.operation_name: str = name or type(open_source).__qualname__

    def run_for(self, call: Call) -> StreamOperation:
        """Return an operation that runs for ``call`` too."""
        return StreamOperation(self._open, (*self._calls, call))

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Open the source, and hand its items to the reader until it ends or is closed."""
        source = self._open(*args, **kwargs)
        if inspect.isawaitable(source) and not isinstance(source, AsyncIterable):
            source = await source
        iterator = aiter(source)
        try:
            async for item in iterator:
                for call in self._calls:
                    call.committed = True
                await _Item(item)
        except GeneratorExit:
            # Collected without being closed: nothing can be awaited any more.
            raise
        except _Closed:
            await _close(iterator, source)
        except BaseException:
            await _close(iterator, source)
            raise
        else:
            await _close(iterator, source)


class PolicyStream(Generic[T]):
    """The items of an async iterator, read under a policy; made by ``policy.stream``.

    Entering waits for the first item: until it is there the source may be opened again by retry.
    After that it is committed: an error passes to the reader and is recorded by the stages. Leaving
    the block closes the source and gives back what was held, after a ``break`` as well.
    """

    def __init__(self, run: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._run = run
        self._pipeline: Coroutine[Any, Any, Any] | None = None
        self._substitute: AsyncIterator[T] | None = None
        self._first: Any = _END
        self._ended = False

    async def __aenter__(self) -> Self:
        """Open the source and wait for its first item.

        Raises:
            PolicyError: The stream was entered before.
        """
        if self._pipeline is not None:
            msg = "a stream can be entered once; call policy.stream(...) again"
            raise PolicyError(msg)
        self._pipeline = self._run()
        self._first = await self._advance()
        return self

    def __aiter__(self) -> Self:
        """Return the stream itself.

        Raises:
            PolicyError: It was not entered.
        """
        if self._pipeline is None:
            msg = "enter the stream first: async with policy.stream(...) as items"
            raise PolicyError(msg)
        return self

    async def __anext__(self) -> T:
        """Return the next item."""
        item, self._first = self._first, _END
        if item is _END:
            item = await self._advance()
        if item is _END:
            raise StopAsyncIteration
        return item

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
        if self._ended or self._pipeline is None:
            return
        reason = exc if isinstance(exc, asyncio.CancelledError) else _Closed()
        try:
            await _Drive(self._pipeline, reason)
        except asyncio.CancelledError:
            if exc is None:
                raise
        except _Closed:
            pass
        finally:
            self._ended = True

    async def _advance(self) -> Any:
        if self._substitute is not None:
            return await anext(self._substitute, _END)
        if self._ended or self._pipeline is None:
            return _END
        drive = _Drive(self._pipeline, None)
        try:
            item = await drive
        except BaseException:
            self._ended = True
            raise
        if item is not _END:
            return item
        self._ended = True
        if isinstance(drive.result, AsyncIterable):
            # A fallback answered with a stream of its own.
            self._substitute = aiter(drive.result)
            return await self._advance()
        return _END


class _Drive:
    """Run a coroutine up to its next item, passing its futures on to the event loop."""

    __slots__ = ("_coroutine", "_throw", "result")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], throw: BaseException | None) -> None:
        self._coroutine = coroutine
        self._throw = throw
        self.result: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        sent, thrown = None, self._throw
        while True:
            try:
                step = self._coroutine.throw(thrown) if thrown else self._coroutine.send(sent)
            except StopIteration as stop:
                self.result = stop.value
                return _END
            if type(step) is _Item:
                return step.value
            sent = thrown = None
            try:
                sent = yield step
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - handed to the pipeline, whatever it is
                thrown = error


async def _close(*sources: Any) -> None:
    for source in dict.fromkeys(sources):
        close = getattr(source, "aclose", None) or getattr(source, "close", None)
        if close is not None:
            closed = close()
            if inspect.isawaitable(closed):
                await closed
