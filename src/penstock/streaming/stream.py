"""The items of an async iterator, as the reader of ``policy.stream`` has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from penstock.driving import END, Closed, Driver
from penstock.errors import PolicyError
from penstock.streaming.items import items_of, next_of
from penstock.streaming.operation import StreamOperation

__all__ = ["PolicyStream"]

T = TypeVar("T")


class PolicyStream(Generic[T]):
    """The items of an async iterator, read under a policy; made by ``policy.stream``.

    Entering waits for the first item that matters: until it is there the source may be opened again
    by retry. After that it is committed: an error passes to the reader and is recorded by the
    stages. Leaving the block closes the source and gives back what was held, after a ``break`` as
    well. It is entered, read and left in one task, as a timeout is.
    """

    def __init__(
        self, run: Callable[[], Coroutine[Any, Any, Any]], operation: StreamOperation
    ) -> None:
        self._run = run
        self._operation = operation
        self._pipeline: Driver | None = None
        self._substitute: AsyncGenerator[Any, None] | None = None
        self._first: Any = END

    def reading(
        self,
        *,
        first: Callable[[T], object] | None = None,
        idle: float | timedelta | None = None,
    ) -> Self:
        """Say how the items are to be read; return the stream, to be entered.

        Args:
            first: Answers for an item whether it is one that matters. Those before it are kept
                back, handed on with it, and dropped where another attempt begins anew; after 64 of
                them the next is not waited for. None takes what is known of the items of OpenAI,
                Anthropic and google-genai, and every other item as one that matters.
            idle: Most seconds of waiting for each item after that first one, above 0. The reader's
                own time does not count. At its end reading raises ``CallTimeoutError``.

        Raises:
            ConfigError: A value is not allowed.
            PolicyError: The stream was entered already.
        """
        if self._pipeline is not None:
            msg = "a stream is told how it is read before it is entered"
            raise PolicyError(msg)
        given = {"first": first, "idle": idle}
        known: Any = {name: value for name, value in given.items() if value is not None}
        self._operation.reading = replace(self._operation.reading, **known)
        return self

    async def __aenter__(self) -> Self:
        """Open the source and wait for the first item that matters.

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
            self._substitute = items_of(self._pipeline.result)
            self._first = await next_of(self._substitute)
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
            item = await next_of(self._substitute)
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
