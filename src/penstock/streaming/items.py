"""The items of async iterators, one by one, and how what brings them is closed."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

from penstock.driving import END
from penstock.errors import PolicyError

__all__ = ["close", "items_of", "log_closing", "next_of"]

_log = logging.getLogger("penstock")

# They can be iterated, and hardly anybody who answers a stream with one means its parts.
_NO_ITEMS = (str, bytes, bytearray, Mapping)


async def next_of(items: AsyncIterator[Any]) -> Any:  # noqa: ANN401 - what a source yields
    """Return the next item; ``END`` after the last one."""
    # Not ``async for``, which wants the iterator itself to be iterable again.
    try:
        return await items.__anext__()
    except StopAsyncIteration:
        return END


async def items_of(answer: object) -> AsyncGenerator[Any, None]:
    """Read what a fallback (or a custom stage) answered with in place of the source."""
    # Its declared type is kept: ``isinstance`` narrows to items of an unknown type.
    items: Any = answer
    if isinstance(answer, AsyncIterable):
        iterator: AsyncIterator[Any] = aiter(items)
        try:
            while (item := await next_of(iterator)) is not END:
                yield item
        finally:
            await close(iterator, items)
    elif isinstance(answer, Iterable) and not isinstance(answer, _NO_ITEMS):
        for item in items:
            yield item
    else:
        msg = (
            f"a stream was answered with {type(items).__name__}; "
            "answer it with a list, an async iterable, or None for no items"
        )
        raise PolicyError(msg)


async def close(first: object, then: object = None) -> None:
    """Close one thing and then another, if they can be closed and are not the same."""
    try:
        # A gRPC call has neither of the first two.
        ways: Iterable[Any] = (getattr(first, name, None) for name in ("aclose", "close", "cancel"))
        way = next((way for way in ways if way), None)
        if callable(way):
            closed: object = way()
            if inspect.isawaitable(closed):
                await closed
    finally:
        if then is not None and then is not first:
            await close(then)


def log_closing(error: Exception) -> None:
    """Log an error of closing that must not hide why something was closed."""
    # Without its text, which may hold keys.
    kind = type(error).__name__
    _log.warning("closing a stream's source raised %s after the stream had failed", kind)
