"""What a stream's call runs: the source, from its opening to its end."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Self, cast

from penstock.call import Call
from penstock.driving import END, Closed, HandingOperation, HandOut
from penstock.hints import peek
from penstock.operation import name_of
from penstock.reporting import report_headers
from penstock.streaming.idle import IdleLimit
from penstock.streaming.reading import MOST_KEPT_BACK, Reading
from penstock.streaming.sources import (
    close,
    close_quietly,
    is_manager,
    next_of,
    opened,
    refuse,
    within,
)

__all__ = ["StreamOperation"]

_AS_IT_COMES = Reading()


class StreamOperation(HandingOperation):
    """Opens a source and hands its items on.

    Attributes:
        reading: How the reader wants them.
    """

    __slots__ = ("_open", "reading")

    def __init__(
        self,
        open_source: Callable[..., Any],
        calls: tuple[Call, ...] = (),
        reading: Reading = _AS_IT_COMES,
    ) -> None:
        super().__init__(name_of(open_source), calls)
        self._open = open_source
        self.reading = reading

    def run_for(self, call: Call) -> Self:
        """Return an operation that runs for ``call`` too."""
        return type(self)(self._open, (*self.calls, call), self.reading)

    async def __call__(self, *args: object, **kwargs: object) -> None:
        """Open the source, and hand its items to the reader until it ends or is closed."""
        source = await opened(self._open(*args, **kwargs))
        if is_manager(source):
            await within(source, self._read_managed)
        else:
            await self._read(source, source)
        # A stream without a single item is over too.
        self.commit()

    async def _read_managed(self, items: object) -> None:
        # What entering brought is its manager's to close; a generator is nobody's but the reader's.
        await self._read(items, None)

    async def _read(self, items: object, owned: object) -> None:
        if not hasattr(items, "__aiter__"):
            raise refuse(items)
        # Where the streams of OpenAI and Anthropic keep it.
        report_headers(self.calls[-1], peek(peek(items, "response"), "headers"))
        iterator = aiter(cast("AsyncIterable[Any]", items))
        closing = iterator if owned is not None or inspect.isasyncgen(iterator) else None
        try:
            await self._hand_on(iterator)
        except GeneratorExit:
            # Collected without being closed: nothing can be awaited any more.
            raise
        except Closed:
            # The reader has enough: that is a success.
            pass
        except BaseException:
            await close_quietly(closing, owned)
            raise
        await close(closing, owned)

    async def _hand_on(self, iterator: AsyncIterator[Any]) -> None:
        await self._begin(iterator)
        limit = self.reading.idle
        if limit is None:
            while (item := await next_of(iterator)) is not END:
                await HandOut(item)
            return
        idle = IdleLimit(limit, self.calls[-1])
        try:
            while (item := await idle.next_of(iterator)) is not END:
                await HandOut(item)
        finally:
            idle.stop()

    async def _begin(self, iterator: AsyncIterator[Any]) -> None:
        """Hand on the first item that matters, and before it those that were kept back for it.

        They are dropped where the source fails before that: the next attempt brings its own.
        """
        kept: list[Any] = []
        while (item := await next_of(iterator)) is not END:
            kept.append(item)
            if self.reading.begins_with(item) or len(kept) == MOST_KEPT_BACK:
                break
        else:
            if kept and self.reading.first is None:
                # Items that are known: the answer that they announce has an end of its own.
                msg = "the stream ended before the answer that it announced"
                raise EOFError(msg)
        if kept:
            self.commit()
        while kept:
            await HandOut(kept.pop(0))
