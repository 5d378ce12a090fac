"""What a stream's call runs: the source, from its opening to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Self

from penstock.call import Call
from penstock.driving import END, Closed, HandingOperation, HandOut
from penstock.hints import peek
from penstock.operation import name_of
from penstock.streaming.idle import IdleLimit
from penstock.streaming.items import next_of
from penstock.streaming.reading import MOST_KEPT_BACK, Reading
from penstock.streaming.source import OpenSource

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
        source = await OpenSource.opened(self._open(*args, **kwargs))
        try:
            # Where the streams of OpenAI and Anthropic keep it.
            self.calls[-1].report(peek(peek(source.items, "response"), "headers"))
            # Closed, for the reader has enough: that is a success.
            with suppress(Closed):
                await self._hand_on(source.iterator())
        except GeneratorExit:
            # Collected without being closed.
            source.close_later()
            raise
        except BaseException as failure:
            if not await source.close(failure):
                raise
        else:
            await source.close()
        # A stream without a single item is over too.
        self.commit()

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
