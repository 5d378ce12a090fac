"""How a call begins that is not simply a coroutine function."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

from penstock.call import Call, CallContext
from penstock.driving import HandingOperation
from penstock.operation import (
    PlainOperation,
    is_async_generator_function,
    returns_awaitable,
    run_once,
)
from penstock.stage import Handler, Stage, name_of

__all__ = ["Operation", "enter"]


class Operation(NamedTuple):
    """What the user wants called."""

    fn: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - handed on, never changed


def enter(
    handler: Handler, context: CallContext, stages: Sequence[Stage], operation: Operation
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of one call.

    Raises:
        TypeError: The operation cannot be called, or not as often as the stages may need it.
    """
    fn, args, kwargs = operation
    if isinstance(fn, HandingOperation):
        return _run_handing(handler, Call(context, fn, args, kwargs), fn)
    if inspect.isawaitable(fn) and not (args or kwargs):
        _refuse_repeaters(fn, context, stages)

        async def once() -> Any:
            return await fn

        call = Call(context, once)
        return run_once(lambda: handler(call), fn)
    if not callable(fn):
        if inspect.iscoroutine(fn):
            fn.close()
        what = "a function and its arguments, or an awaitable alone"
        msg = f"policy '{context.policy}': call takes {what}; got {fn!r}"
        raise TypeError(msg)
    if is_async_generator_function(fn):
        msg = f"policy '{context.policy}': {fn!r} makes an async iterator; use policy.stream(...)"
        raise TypeError(msg)
    if returns_awaitable(fn):
        operation_fn: Any = fn
        return handler(Call(context, operation_fn, args, kwargs))
    plain = PlainOperation(fn)
    call = Call(context, plain, args, kwargs)
    call.lingering = plain.lingering
    return handler(call)


async def _run_handing(handler: Handler, call: Call, operation: HandingOperation) -> Any:
    call.fn = operation.run_for(call)
    try:
        return await handler(call)
    finally:
        # The two refer to each other.
        call.fn = operation


def _refuse_repeaters(awaitable: Any, context: CallContext, stages: Sequence[Stage]) -> None:
    once = context.overrides.attempts == 1
    repeaters = [
        stage
        for stage in stages
        if getattr(stage, "repeats", False) and not (once and name_of(stage) == "retry")
    ]
    if not repeaters:
        return
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    msg = (
        f"policy '{context.policy}': an awaitable can be awaited once, and the stage "
        f"'{name_of(repeaters[0])}' may need it again; "
        "pass the function and its arguments instead"
    )
    raise TypeError(msg)
