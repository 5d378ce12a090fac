"""Call a user's hook so that nothing it does can reach the caller."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from penstock.errors import PolicyError

__all__ = ["Hook"]


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
