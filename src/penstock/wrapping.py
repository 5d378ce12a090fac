"""``policy.wrap(fn)`` and ``@policy``: the same function, under a policy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from penstock.operation import innermost, is_async_generator_function, name_of

__all__ = ["wrap"]

Run = Callable[..., Coroutine[Any, Any, Any]]


def wrap(run: Run, policy: str, fn: Any) -> Any:
    """Return a coroutine function that calls ``run(fn, *args, **kwargs)`` and looks like ``fn``.

    Args:
        run: The policy's ``call``.
        policy: The policy's name, for messages.
        fn: A function or method, a static or class method, a partial or callable object.

    Raises:
        TypeError: ``fn`` cannot be called, or makes an async iterator.
    """
    descriptor: Any = fn
    if isinstance(fn, staticmethod | classmethod):
        return type(descriptor)(wrap(run, policy, descriptor.__func__))
    if not callable(fn) or isinstance(fn, type):
        msg = f"policy '{policy}': wrap takes a function or method; got {fn!r}"
        raise TypeError(msg)
    if is_async_generator_function(fn):
        msg = (
            f"policy '{policy}': {name_of(fn)!r} makes an async iterator, "
            "which one await cannot hold; read it with: async with policy.stream(fn, ...) as items"
        )
        raise TypeError(msg)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        return await run(fn, *args, **kwargs)

    _look_like(wrapped, fn)
    return wrapped


def _look_like(wrapped: Any, fn: Any) -> None:
    generic = inspect.signature(wrapped)
    inner = innermost(fn)
    wrapped.__qualname__ = name_of(inner)
    wrapped.__name__ = wrapped.__qualname__.rpartition(".")[2]
    # A function's attributes are labels that frameworks look for. An object's are its own affair: a
    # client may hold a key, and a proxy has whatever attribute it is asked for.
    is_function = inspect.isroutine(inner)
    functools.update_wrapper(
        wrapped,
        inner,
        assigned=functools.WRAPPER_ASSIGNMENTS if is_function else ("__module__", "__doc__"),
        updated=functools.WRAPPER_UPDATES if is_function else (),
    )
    wrapped.__wrapped__ = fn
    try:
        # Of an object its ``__call__`` is asked: Python 3.12 would call whatever a proxy has for a
        # signature.
        called = fn if is_function or fn is not inner else fn.__call__
        wrapped.__signature__ = inspect.signature(called)
    except (TypeError, ValueError):
        # Some built-in callables have none to copy, and without this one they would be asked.
        wrapped.__signature__ = generic
