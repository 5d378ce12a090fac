"""A stage wraps one call: ``await stage(call, call_next)``. Start reading here.

A pipeline of stages is a nest: the first stage is the outermost, and each is handed the rest of the
pipeline as ``call_next``. The innermost ``call_next`` runs the operation. Any coroutine function
with two parameters is a stage::

    async def log(call, call_next):
        print("starting", call.operation)
        return await call_next(call)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from penstock.call import Call
from penstock.health import Gate

__all__ = ["Handler", "Stage", "StatefulStage", "compose", "name_of"]

# The result's type is the caller's business: it is restored by ``Policy.call``'s own signature.
Handler = Callable[[Call], Coroutine[Any, Any, Any]]


class Stage(Protocol):
    """What a policy is made of; a plain coroutine function fits."""

    def __call__(self, call: Call, call_next: Handler, /) -> Awaitable[Any]:
        """Run ``call_next(call)``, or not, or more than once, and return the result."""
        ...


@runtime_checkable
class StatefulStage(Protocol):
    """What every built-in stage also offers."""

    @property
    def name(self) -> str:
        """The word for this stage in YAML, events and snapshots."""
        ...

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Return the live state as a plain dict that JSON can hold."""
        ...


def name_of(stage: object) -> str:
    """Return the word for a stage: a built-in one's name, or what a custom one is called."""
    name = getattr(stage, "name", None) or getattr(stage, "__name__", None)
    return str(name or type(stage).__name__)


def compose(stages: Sequence[Stage], innermost: Handler, gate: Gate | None = None) -> Handler:
    """Nest the stages round ``innermost``; the first stage ends up outermost.

    Done once per policy: composing anew for every call costs more than the stages themselves.

    Args:
        stages: Outermost first.
        innermost: What stands inside all of them.
        gate: The pool of resources that stands innermost. Stages that admit calls then have those
            that it cannot serve wait in front of them, so that none takes a token or a permit in
            vain.
    """
    handler = innermost
    for stage in reversed(stages):
        handler = _bind(stage, handler)
        if gate is not None and getattr(stage, "admits", False):
            handler = _behind(gate, handler)
    return handler


def _behind(gate: Gate, call_next: Handler) -> Handler:
    state = gate.state

    def handler(call: Call) -> Coroutine[Any, Any, Any]:
        return wait_and_run(call) if state.is_shut else call_next(call)

    async def wait_and_run(call: Call) -> Any:
        # Of those that were let through together the first may be the only one that is served.
        while gate.is_shut_for(call):
            await gate.wait_until_open(call)
        return await call_next(call)

    return handler


def _bind(stage: Stage, call_next: Handler) -> Handler:
    # The bound method is looked up once; calling the instance would look it up on every call.
    run: Any = stage if inspect.isfunction(stage) else stage.__call__
    if type(stage).__module__.partition(".")[0] != "penstock":
        return _bind_custom(run, call_next)

    def handler(call: Call) -> Coroutine[Any, Any, Any]:
        return run(call, call_next)  # type: ignore[no-any-return]  # a coroutine function's answer

    return handler


def _bind_custom(run: Callable[[Call, Handler], Awaitable[Any]], call_next: Handler) -> Handler:
    # A stage of the user's may drop a failure and go on. Whatever fails then can take its place in
    # memory, and would be taken for it.
    def call_anew(call: Call) -> Coroutine[Any, Any, Any]:
        call.doubt_verdict()
        return call_next(call)

    # It may return any awaitable; a handler returns a coroutine, so that a call can be a task.
    async def handler(call: Call) -> Any:
        try:
            return await run(call, call_anew)
        except BaseException:
            call.doubt_verdict()
            raise

    return handler
