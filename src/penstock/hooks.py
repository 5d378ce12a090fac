"""Call a user's hook so that nothing it does can reach the caller."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

from penstock import clock
from penstock.call import Call
from penstock.errors import PolicyError
from penstock.events import WaitEnded

__all__ = ["Hook", "timed"]

T = TypeVar("T")

# Less is the price of asking at all, and no wait.
_SHORTEST_WAIT = 0.001


async def timed(call: Call, what: str, answer: Awaitable[T]) -> T:
    """Await an answer of the user's code, and tell the observers how long that took.

    Args:
        call: The call that waits for it.
        what: ``hook`` or ``fallback``.
        answer: What to await.
    """
    began = clock.now()
    try:
        return await answer
    finally:
        seconds = clock.now() - began
        if call.notify is not None and seconds >= _SHORTEST_WAIT:
            call.emit(WaitEnded, stage=what, seconds=seconds)


class Hook:
    """A function of the user's, sync or async, that is told what has happened.

    An async one runs in a task of its own and is not awaited: it may take its time, or for ever.

    Args:
        function: What to call.
        report: Takes what the function raised.
    """

    __slots__ = ("_function", "_report", "_tasks")

    def __init__(
        self, function: Callable[..., object], report: Callable[[BaseException], None]
    ) -> None:
        self._function = function
        self._report = report
        # The loop itself holds its tasks weakly.
        self._tasks: set[asyncio.Future[object]] = set()

    def __call__(self, *facts: object) -> None:
        """Tell the function; never raises what it raised."""
        try:
            answer = self._function(*facts)
            if inspect.isawaitable(answer):
                self._start(answer)
        # In plain code a CancelledError is only an exception somebody raised.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - reported
            self._report(error)

    @property
    def pending(self) -> set[asyncio.Future[object]]:
        """Tasks of an async one that have not ended."""
        return {*self._tasks}

    def _start(self, answer: Awaitable[object]) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if inspect.iscoroutine(answer):
                answer.close()
            msg = "an async hook needs a running event loop; change the state from a coroutine"
            raise PolicyError(msg) from None
        task = asyncio.ensure_future(answer, loop=loop)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[object]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._report(error)
