"""``policy.wrap(fn)`` and ``@policy``: the same function, under a policy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import MethodType
from typing import Any

from penstock.operation import innermost, is_async_generator_function, name_of

__all__ = ["wrap"]

_NO_PLACE = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)

Run = Callable[..., Coroutine[Any, Any, Any]]


def wrap(run: Run, policy: str, fn: Any, inject: str | None = None) -> Any:
    """Return a coroutine function that calls ``run(fn, *args, **kwargs)`` and looks like ``fn``.

    Args:
        run: The policy's ``call``.
        policy: The policy's name, for messages.
        fn: A function or method, a static or class method, a partial or callable object.
        inject: The parameter that a pool fills in, which the signature is returned without:
            ``"first"`` for the first one (after ``self`` or ``cls``), or a name.

    Raises:
        TypeError: ``fn`` cannot be called, makes an async iterator, or has no such parameter.
    """
    descriptor: Any = fn
    if isinstance(fn, staticmethod | classmethod):
        return type(descriptor)(wrap(run, policy, descriptor.__func__, inject))
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

    async def wrapped_method(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
        # Bound first: the pool puts its resource before all other arguments.
        return await run(MethodType(fn, owner), *args, **kwargs)

    is_method = inject == "first" and _takes_owner(fn)
    outer = wrapped_method if is_method else wrapped
    _look_like(outer, fn)
    if inject is not None:
        _fill_in(outer, inject, policy, place=int(is_method))
    return outer


def _takes_owner(fn: Any) -> bool:
    # By the names that all of Python uses: a function cannot tell that it is going to be a method.
    code = getattr(fn, "__code__", None)
    return code is not None and code.co_argcount > 0 and code.co_varnames[0] in ("self", "cls")


def _fill_in(wrapped: Any, inject: str, policy: str, *, place: int) -> None:
    signature = inspect.signature(wrapped)
    parameters = list(signature.parameters.values())
    if inject != "first":
        kept = [p for p in parameters if p.name != inject]
        takes_any = parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
        missing = len(kept) == len(parameters) and not takes_any
    else:
        taken = parameters[place : place + 1]
        missing = not taken or taken[0].kind in _NO_PLACE
        is_open = bool(taken) and taken[0].kind is inspect.Parameter.VAR_POSITIONAL
        kept = parameters if is_open else [*parameters[:place], *parameters[place + 1 :]]
    if missing:
        what = "first parameter" if inject == "first" else f"parameter {inject!r}"
        msg = f"policy '{policy}': {wrapped.__qualname__} has no {what} for the pool's resource"
        raise TypeError(msg)
    wrapped.__signature__ = signature.replace(parameters=kept)
    # A new dict: until now it is the function's own.
    names = {"return", *(p.name for p in kept)}
    annotated = wrapped.__annotations__.items()
    wrapped.__annotations__ = {name: kind for name, kind in annotated if name in names}


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
