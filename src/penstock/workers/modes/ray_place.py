"""What runs in a worker's actor: the worker's host, and what answers while that one is busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from penstock.workers import envelope
from penstock.workers.host import Answer, Host
from penstock.workers.modes.ray_api import cloudpickle, ray
from penstock.workers.remote_call import Carrier
from penstock.workers.target import Target

__all__ = ["BESIDE", "ENDS", "RUNS_ON", "WAITS", "RayPlace"]

BESIDE = "beside"
"""The concurrency group of what is answered while the worker is busy: Ray gives it a thread and an
event loop of its own."""

ENDS = "ends"
"""A cancelled call that ends now, if it has not."""

RUNS_ON = "runs on"
"""A cancelled call whose sync method goes on."""

WAITS = "waits"
"""A cancelled call that another one's sync method keeps from ending; it does not begin any more."""

# Cancels that came too late, and functions that came with one job, must not pile up.
_MOST_REMEMBERED = 1000

# Between two looks at whether a worker that is slow to say how it is has merely something to do.
_BETWEEN_LOOKS = 0.2


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _beside(method: _Method) -> _Method:
    marked: _Method = ray.method(concurrency_group=BESIDE)(method)
    return marked


class RayPlace:
    """The actor of one worker. It knows nothing of the pool.

    The worker's methods run in the actor's own event loop. A sync one blocks it; what has to be
    answered all the same is in the group ``BESIDE``.

    Args:
        index: The worker's place in its pool, from 0.
        id_: The worker's id.
    """

    def __init__(self, index: int, id_: str) -> None:
        # A script's own exceptions, too, are sent as they are.
        envelope.dumps = cloudpickle.dumps
        self._index = index
        self._id = id_
        self._host: Any = None
        self._loop: Any = None
        self._targets: dict[str | bytes, Target] = {}
        self._tasks: dict[int, asyncio.Task[Answer]] = {}
        # The call whose sync method blocks the loop. Read in the other thread.
        self._blocking: int | None = None
        # Calls that must not begin. Written in the other thread, in order of arrival.
        self._cancelled: dict[int, None] = {}

    async def start(self, make: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Answer:
        """Make the worker and run its ``start``."""
        self._loop = asyncio.get_running_loop()
        self._host = Host(make, args, kwargs, self._index, self._id)
        return await _answered(self._host.start())

    async def stop(self) -> Answer:
        """Run the worker's ``stop``."""
        return await _answered(self._host.stop())

    async def run(
        self,
        call: int,
        work: str | bytes,
        carrier: Sequence[Any] | None,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a method; return its result, or an ``Answer`` where there is more to say."""
        try:
            return _light(await self._run(call, work, carrier, args, kwargs))
        finally:
            self._cancelled.pop(call, None)

    @_beside
    async def cancel(self, call: int) -> str:
        """Cancel a call; return what becomes of it."""
        if len(self._cancelled) >= _MOST_REMEMBERED:
            self._cancelled.pop(next(iter(self._cancelled)), None)
        # Before the look: either the call sees this when it begins, or it is seen here.
        self._cancelled[call] = None
        self._loop.call_soon_threadsafe(self._cancel, call)
        blocking = self._blocking
        if blocking == call:
            return RUNS_ON
        return ENDS if blocking is None else WAITS

    @_beside
    async def healthy(self) -> Answer:
        """Ask the worker's ``healthy``; a worker that is busy with a sync method is not asked."""
        asked: asyncio.Future[Answer] | None = None
        while self._blocking is None:
            if asked is None:
                question = asyncio.run_coroutine_threadsafe(self._own_health(), self._loop)
                asked = asyncio.wrap_future(question)
            done, _ = await asyncio.wait([asked], timeout=_BETWEEN_LOOKS)
            if done:
                return asked.result()
        if asked is not None:
            asked.cancel()
        return Answer(True, True, ())  # noqa: FBT003 - the field's own value

    @_beside
    async def watch(self) -> None:
        """Go on until the actor ends: whoever awaits it is told then."""
        await asyncio.get_running_loop().create_future()

    async def _own_health(self) -> Answer:
        return await _answered(self._host.healthy())

    def _cancel(self, call: int) -> None:
        task = self._tasks.get(call)
        if task is not None:
            task.cancel()

    async def _run(
        self,
        call: int,
        work: str | bytes,
        carrier: Sequence[Any] | None,
        args: Any,
        kwargs: dict[str, Any],
    ) -> Answer:
        carried = None if carrier is None else Carrier(*carrier)
        self._blocking = call
        try:
            if call in self._cancelled:
                return Answer.failed(asyncio.CancelledError())
            begun = self._host.begin(self._target(work), (*args,), kwargs, carried)
        finally:
            self._blocking = None
        if isinstance(begun, Answer):
            return begun
        self._tasks[call] = begun
        try:
            return await begun  # type: ignore[no-any-return]  # a task of the host's
        finally:
            del self._tasks[call]

    def _target(self, work: str | bytes) -> Target:
        found = self._targets.get(work)
        if found is None:
            found = Target(work, None, work) if isinstance(work, str) else cloudpickle.loads(work)
            if len(self._targets) >= _MOST_REMEMBERED:
                self._targets.clear()
            self._targets[work] = found
        return found


def _light(answer: Answer) -> Any:
    # A result alone is what Ray itself would send: a tenth of what an answer costs.
    return answer.value if answer.ok and not answer.verbs else answer


async def _answered(work: Any) -> Answer:
    try:
        return Answer(True, await work, ())  # noqa: FBT003 - the field's own value
    except BaseException as failure:  # noqa: BLE001 - raised where the pool is
        return Answer.failed(failure)
