"""How a timeout stage ends a call: with one loop timer for all its calls."""

from __future__ import annotations

import asyncio
from asyncio import current_task
from threading import get_ident
from typing import Any, Self

from penstock import clock
from penstock.call import Call
from penstock.errors import CallTimeoutError
from penstock.events import CallTimedOut
from penstock.parking import Home
from penstock.stage import Handler
from penstock.stages.timeout.machine import EXPIRED, LEFT, TimeoutMachine, Watch
from penstock.stages.timeout.options import TimeoutOptions

__all__ = ["OverrideTimeout", "Timeout"]


class Timeout:
    """Cancel a call at its time limit and raise ``CallTimeoutError``.

    Cancellation counts as in ``asyncio.timeout``: a cancel from outside in the same loop step wins,
    and an operation that swallows the cancel and returns keeps its result.
    """

    __slots__ = ("_armed_for", "_machine", "_seconds", "_timer", "home", "options")

    name = "timeout"

    def __init__(self, options: TimeoutOptions) -> None:
        self.options = options
        self.home = Home()
        self._seconds: float | None = options.seconds
        self._machine = TimeoutMachine()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Run the rest of the pipeline with a deadline."""
        now = clock.now()
        seconds = self._seconds or call.context.overrides.timeout or 0.0
        outer = call.deadline
        at = now + seconds
        if outer is not None and outer <= at:
            return await self._under_outer_deadline(call, call_next, outer, now)
        home = self.home
        # Naming the loop spares Python 3.11 a costly look for the running one. It is that one: a
        # loop that is running a task in this thread.
        task = current_task(home.loop) if get_ident() == home.thread else None
        if task is None:
            task = self._move_in(call)
        watch = Watch(at, call, task, task.cancelling())
        self._machine.add(watch)
        if self._timer is None or at < self._armed_for:
            self._arm(at, now)
        call.deadline = at
        try:
            return await call_next(call)
        except asyncio.CancelledError as cancelled:
            if watch.state is EXPIRED and self._take_back(watch):
                raise self._timed_out(call, seconds) from cancelled
            raise
        finally:
            call.deadline = outer
            if watch.state is EXPIRED:
                self._take_back(watch)
            self._machine.leave(watch)

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return the limit in seconds and how many calls are under watch."""
        return {"stage": self.name, "seconds": self.options.seconds, "running": len(self._machine)}

    async def _under_outer_deadline(
        self, call: Call, call_next: Handler, outer: float, now: float
    ) -> Any:
        # The timeout further out passes first: a second timer could only say the same later.
        if outer <= now:
            raise self._timed_out(call, 0.0)
        return await call_next(call)

    def _take_back(self, watch: Watch) -> bool:
        # As asyncio.timeout does: the cancel is ours alone if the count is back where it began.
        watch.state = LEFT
        watch.call.expiring = False
        return bool(watch.task.uncancel() <= watch.cancelling)

    def _arm(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Relative, since clock.now() and loop.time() need not share their zero (uvloop).
        self._timer = asyncio.get_running_loop().call_later(at - now, self._on_timer)
        self._armed_for = at

    def _on_timer(self) -> None:
        self._timer = None
        now = clock.now()
        for watch in self._machine.expire(now):
            if watch.bounds_attempt and watch.call.committed:
                # The attempt has handed on its first item: what follows is the reader's time.
                watch.state = LEFT
            else:
                watch.call.expiring = True
                watch.task.cancel()
        at = self._machine.next_at()
        if at is not None:
            self._arm(at, now)

    def _move_in(self, call: Call) -> asyncio.Task[Any]:
        task = current_task()
        if task is None:
            msg = f"policy '{call.context.policy}': a timeout works inside an asyncio task only"
            raise RuntimeError(msg)
        before = self.home.loop
        if self.home.move(self.name):
            self._machine.clear()
        if self.home.loop is not before:
            self._timer = None
        return task

    def _timed_out(self, call: Call, seconds: float) -> CallTimeoutError:
        if call.notify is not None:
            call.emit(CallTimedOut, seconds=seconds, attempt=call.attempt)
        what = f"attempt {call.attempt}" if call.attempts_inside else "the call"
        when = f"timed out after {seconds:g} s" if seconds else "has no time left to begin"
        msg = f"policy '{call.context.policy}': {what} {when}"
        return CallTimeoutError(msg, seconds=seconds)


class OverrideTimeout(Timeout):
    """The timeout that ``policy.using(timeout=...)`` asks for: each call brings its own limit."""

    __slots__ = ()

    def __init__(self) -> None:
        # The number is never used: every call that comes here brings its own.
        super().__init__(TimeoutOptions(seconds=1.0))
        self._seconds = None
