"""What a stream can be read from, and how that is opened and closed."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar

from penstock.driving import END
from penstock.errors import PolicyError

__all__ = [
    "Source",
    "close",
    "close_quietly",
    "is_manager",
    "items_of",
    "next_of",
    "opened",
    "refuse",
    "within",
]

T = TypeVar("T")

Source: TypeAlias = (
    AsyncIterable[T]
    | Awaitable[AsyncIterable[T]]
    | AbstractAsyncContextManager[AsyncIterable[T], bool | None]
)
"""What a function returns whose items can be streamed."""

_log = logging.getLogger("penstock")

# They can be iterated, and hardly anybody who answers a stream with one means its parts.
_NO_ITEMS = (str, bytes, bytearray, Mapping)


async def opened(source: object) -> object:
    """Return what a function has returned, awaited where that is how it is opened."""
    # What is both is read: awaited it may bring something else (a gRPC call brings its end).
    if inspect.isawaitable(source) and not hasattr(source, "__aiter__"):
        brought: object = await source
        return brought
    return source


def is_manager(source: object) -> bool:
    """Whether a source has to be entered before it can be read."""
    return hasattr(type(source), "__aenter__") and not hasattr(source, "__aiter__")


async def within(manager: object, read: Callable[[object], Awaitable[None]]) -> None:
    """Read what a context manager brings, as ``async with`` does."""
    kind: Any = type(manager)
    items: object = await kind.__aenter__(manager)
    try:
        await read(items)
    except GeneratorExit:
        # Collected without being closed: nothing can be awaited any more.
        raise
    except BaseException as failure:
        if not await _leave(manager, failure):
            raise
    else:
        await kind.__aexit__(manager, None, None, None)


async def _leave(manager: object, failure: BaseException) -> bool:
    kind: Any = type(manager)
    try:
        return bool(await kind.__aexit__(manager, type(failure), failure, failure.__traceback__))
    except Exception as error:
        # What it makes of a failure stands in its place; a cancel stays what it is.
        if isinstance(failure, asyncio.CancelledError):
            _tell(error)
            return False
        raise
    finally:
        del failure


def refuse(source: object) -> TypeError:
    """Return the error for a source that has no items to be awaited."""
    kind = f"{type(source).__module__}.{type(source).__qualname__}".removeprefix("builtins.")
    return TypeError(
        f"policy.stream reads an async iterable, and {kind} is none; "
        "give it an async generator function that opens and reads it"
    )


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


async def next_of(items: AsyncIterator[Any]) -> Any:  # noqa: ANN401 - what a source yields
    """Return the next item; ``END`` after the last one."""
    # Not ``async for``, which wants the iterator itself to be iterable again.
    try:
        return await items.__anext__()
    except StopAsyncIteration:
        return END


async def close(first: object, then: object = None) -> None:
    """Close one thing and then another, if they can be closed and are not the same."""
    try:
        # A gRPC call has neither of the first two.
        names = ("aclose", "close", "cancel")
        ways: Iterable[Any] = (getattr(first, name, None) for name in names)
        way = next((way for way in ways if way), None)
        if callable(way):
            closed: object = way()
            if inspect.isawaitable(closed):
                await closed
    finally:
        if then is not None and then is not first:
            await close(then)


async def close_quietly(iterator: object, source: object) -> None:
    """Close both after a failure, which an error of closing must not hide."""
    try:
        await close(iterator, source)
    except Exception as error:  # noqa: BLE001 - as the docstring says
        _tell(error)


def _tell(error: Exception) -> None:
    # Without its text, which may hold keys.
    kind = type(error).__name__
    _log.warning("closing a stream's source raised %s after the stream had failed", kind)
