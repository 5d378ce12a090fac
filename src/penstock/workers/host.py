"""Host: the side on which a worker lives, in that place's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from typing import Any, NamedTuple

from penstock.call import enter_call
from penstock.workers.envelope import sealed
from penstock.workers.hooks import optional, with_index
from penstock.workers.remote_call import Carrier, Place, RemoteCall, Verb, attach_trace
from penstock.workers.target import Target

__all__ = ["Answer", "Host"]


class Answer(NamedTuple):
    """What came of a call where the worker lives.

    Attributes:
        ok: Whether the method has returned.
        value: What it returned, or an ``Envelope`` with what it raised.
        verbs: What it told its call meanwhile; ``remote_call.play`` tells the real one.
    """

    ok: bool
    value: Any
    verbs: tuple[Verb, ...]

    @classmethod
    def failed(cls, failure: BaseException, verbs: tuple[Verb, ...] = ()) -> Answer:
        """Return the answer of a call that has raised something."""
        return cls(False, sealed(failure), verbs)  # noqa: FBT003 - the field's own value


class Host:
    """A worker where it lives. It knows nothing of the pool.

    Sync methods run in the host's own event loop, one after the other; async ones beside each
    other.

    Args:
        make: The worker's class, or a function that returns one.
        args: What it is called with.
        kwargs: The same, by keyword.
        index: The worker's place in its pool, from 0.
        id_: The worker's id in its pool; None names it by its place, as the pool does.
    """

    __slots__ = ("_args", "_index", "_kwargs", "_make", "_place", "id", "worker")

    def __init__(
        self,
        make: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        index: int,
        id_: str | None = None,
    ) -> None:
        self.id = id_ or f"worker-{index}"
        self.worker: Any = None
        self._make = make
        self._args = args
        self._kwargs = kwargs
        self._index = index
        # Stands there until the worker does.
        self._place = Place(self, self.id)

    async def start(self) -> None:
        """Make the worker and run its ``start``."""
        self.worker = self._make(*self._args, **self._kwargs)
        # What a method finds as the value of the resource that it runs on.
        self._place = Place(self.worker, self.id)
        start = optional(self.worker, "start")
        if start is not None:
            await _ended(start(**with_index(start, self._index)))

    async def healthy(self) -> bool:
        """Ask the worker's ``healthy``; True where it has none."""
        healthy = optional(self.worker, "healthy")
        return healthy is None or bool(await _ended(healthy()))

    async def stop(self) -> None:
        """Run the worker's ``stop``, if there is a worker."""
        stop = None if self.worker is None else optional(self.worker, "stop")
        if stop is not None:
            await _ended(stop())

    async def run(
        self,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        carrier: Carrier | None = None,
    ) -> Answer:
        """Call a method; what it raises is in the answer, a cancel of it too."""
        answer = self.begin(target, args, kwargs, carrier)
        return answer if isinstance(answer, Answer) else await answer

    def begin(
        self,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        carrier: Carrier | None = None,
    ) -> Answer | asyncio.Task[Answer]:
        """Call a method; return the answer of a sync one, and a task for that of an async one."""
        # Of its own: what one call sets in its context, the next one must not find there.
        context = copy_context()
        call = RemoteCall(target, self._place, carrier)
        try:
            result = context.run(self._enter, call, target, args, kwargs, carrier)
        except BaseException as failure:  # noqa: BLE001 - raised where the call came from
            return Answer.failed(failure, (*call.verbs,))
        if not hasattr(result, "__await__"):
            return Answer(True, result, (*call.verbs,))  # noqa: FBT003 - the field's own value
        return asyncio.get_running_loop().create_task(_finish(result, call), context=context)

    def _enter(
        self,
        call: RemoteCall,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        carrier: Carrier | None,
    ) -> Any:
        enter_call(call)
        attach_trace(carrier)
        return target.of(self.worker)(*args, **kwargs)


async def _finish(result: Awaitable[Any], call: RemoteCall) -> Answer:
    try:
        value = await result
    except BaseException as failure:  # noqa: BLE001 - raised where the call came from
        return Answer.failed(failure, (*call.verbs,))
    return Answer(True, value, (*call.verbs,))  # noqa: FBT003 - the field's own value


async def _ended(result: Any) -> Any:
    return await result if hasattr(result, "__await__") else result
