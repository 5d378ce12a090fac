"""``policy.wrap(fn)`` and ``@policy``: the same function, under a policy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from penstock.operation import is_async_generator_function

__all__ = ["wrap"]

Run = Callable[..., Coroutine[Any, Any, Any]]


def wrap(run: Run, policy: str, fn: Any) -> Any:
    """Return a coroutine function that calls ``run(fn, *args, **kwargs)`` and looks like ``fn``.

    Raises:
        TypeError: ``fn`` cannot be called, or makes an async iterator.
    """
    if isinstance(fn, staticmethod | classmethod):
        return type(fn)(wrap(run, policy, fn.__func__))
    if not callable(fn) or isinstance(fn, type):
        msg = f"policy '{policy}': wrap takes a function or method; got {fn!r}"
        raise TypeError(msg)
    if is_async_generator_function(fn):
        msg = (
            f"policy '{policy}': {getattr(fn, '__qualname__', fn)!r} makes an async iterator, "
            "which one await cannot hold; read it with: async with policy.stream(fn, ...) as items"
        )
        raise TypeError(msg)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        return await run(fn, *args, **kwargs)

    functools.update_wrapper(wrapped, fn)
    if not hasattr(fn, "__name__"):
        # partial objects and callable instances have no name of their own.
        wrapped.__name__ = type(fn).__name__
        wrapped.__qualname__ = type(fn).__qualname__
    try:
        wrapped.__signature__ = inspect.signature(fn)  # type: ignore[attr-defined]  # PEP 362
    except (TypeError, ValueError):
        # Some built-in callables have no signature to copy.
        return wrapped
    return wrapped
