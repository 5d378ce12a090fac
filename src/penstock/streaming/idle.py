"""A limit for the wait between two items of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from penstock import clock
from penstock.call import Call
from penstock.errors import CallTimeoutError
from penstock.events import CallTimedOut
from penstock.streaming.items import next_of

__all__ = ["IdleLimit"]


class IdleLimit:
    """Ends a wait for the next item at its limit; the time between two waits does not count.

    One timer serves the whole stream. It is moved when it fires, not with every item: a stream of
    a thousand items a second sets as many timers as one that stands still. Cancels count as in the
    timeout stage.

    Args:
        seconds: The limit, above 0.
        call: Whose stream it is.
    """

    __slots__ = ("_call", "_cancelling", "_due", "_has_cancelled", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float, call: Call) -> None:
        self._seconds = seconds
        self._call = call
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._has_cancelled = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    async def next_of(self, items: AsyncIterator[Any]) -> Any:  # noqa: ANN401 - what a source yields
        """Return the next item, or ``END``.

        Raises:
            CallTimeoutError: It did not come in time.
        """
        self._begin()
        try:
            return await next_of(items)
        except asyncio.CancelledError as cancelled:
            if self._take_back():
                raise self._timed_out() from cancelled
            raise
        finally:
            self._take_back()
            self._due = self._task = None

    def stop(self) -> None:
        """End the watch: the stream is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        task = asyncio.current_task()
        if task is None:
            msg = f"policy '{self._call.context.policy}': 'idle' works inside an asyncio task only"
            raise RuntimeError(msg)
        # The next item may be read in another task than the last.
        self._task, self._cancelling = task, task.cancelling()
        self._due = clock.now() + self._seconds
        if self._timer is None:
            self._arm(self._seconds)

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._due is None or self._task is None:
            # The reader's time; the next wait sets a timer again.
            return
        left = self._due - clock.now()
        if left > 0:
            self._arm(left)
        else:
            self._has_cancelled = True
            self._task.cancel()

    def _take_back(self) -> bool:
        # As asyncio.timeout does: the cancel is ours alone if the count is back where it began.
        if not self._has_cancelled or self._task is None:
            return False
        self._has_cancelled = False
        return self._task.uncancel() <= self._cancelling

    def _timed_out(self) -> CallTimeoutError:
        call, seconds = self._call, self._seconds
        if call.notify is not None:
            call.emit(CallTimedOut, seconds=seconds, attempt=call.attempt)
        msg = f"policy '{call.context.policy}': no item of the stream came for {seconds:g} s"
        return CallTimeoutError(msg, seconds=seconds)
