"""How a timeout stage ends a call: with one loop timer for all its calls."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from penstock import clock
from penstock.call import Call
from penstock.errors import CallTimeoutError
from penstock.events import CallTimedOut
from penstock.parking import Home
from penstock.stage import Handler
from penstock.stages.timeout.machine import TimeoutMachine, Watch, WatchState
from penstock.stages.timeout.options import TimeoutOptions

__all__ = ["OverrideTimeout", "Timeout"]


class _Running:
    """The task to cancel, and what must be known to take the cancel back."""

    __slots__ = ("bounds_attempt", "call", "cancelling", "task")

    def __init__(self, call: Call, task: asyncio.Task[Any]) -> None:
        self.call = call
        self.task = task
        # A task that once swallowed a cancel keeps its count: only the change tells ours apart.
        self.cancelling = task.cancelling()
        self.bounds_attempt = call.attempts_inside


class Timeout:
    """Cancel a call at its time limit and raise ``CallTimeoutError``.

    Cancellation counts as in ``asyncio.timeout``: a cancel from outside in the same loop step wins,
    and an operation that swallows the cancel and returns keeps its result.
    """

    __slots__ = ("_armed_for", "_machine", "_timer", "home", "options")

    name = "timeout"

    def __init__(self, options: TimeoutOptions) -> None:
        self.options = options
        self.home = Home()
        self._machine = TimeoutMachine()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    async def __call__(self, call: Call, call_next: Handler, /) -> Any:
        """Run the rest of the pipeline with a deadline."""
        now = clock.now()
        seconds = self._seconds(call)
        outer = call.deadline
        at = now + seconds
        if outer is not None and outer <= at:
            return await self._under_outer_deadline(call, call_next, outer, now)
        watch = self._watch(call, at, now)
        running = watch.owner
        call.deadline = at
        try:
            return await call_next(call)
        except asyncio.CancelledError as cancelled:
            if watch.state is WatchState.EXPIRED:
                watch.state = WatchState.LEFT
                if running.task.uncancel() <= running.cancelling:
                    raise self._timed_out(call, seconds) from cancelled
            raise
        finally:
            call.deadline = outer
            if watch.state is WatchState.EXPIRED:
                running.task.uncancel()
            self._machine.leave(watch)

    def fresh(self) -> Self:
        """Return a stage of the same options with new state."""
        return type(self)(self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return the limit in seconds and how many calls are under watch."""
        return {"stage": self.name, "seconds": self.options.seconds, "running": len(self._machine)}

    def _seconds(self, call: Call) -> float:  # noqa: ARG002 - the override below reads it
        return self.options.seconds

    async def _under_outer_deadline(
        self, call: Call, call_next: Handler, outer: float, now: float
    ) -> Any:
        # The timeout further out passes first: a second timer could only say the same later.
        if outer <= now:
            raise self._timed_out(call, 0.0)
        return await call_next(call)

    def _watch(self, call: Call, at: float, now: float) -> Watch:
        task = asyncio.current_task()
        if task is None:
            msg = f"policy '{call.context.policy}': a timeout works inside an asyncio task only"
            raise RuntimeError(msg)
        if task.get_loop() is not self.home.loop:
            self._move_in()
        watch = self._machine.watch(at, _Running(call, task))
        if self._timer is None or at < self._armed_for:
            self._arm(at, now)
        return watch

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
            running = watch.owner
            if running.bounds_attempt and running.call.committed:
                # The attempt has handed on its first item: what follows is the reader's time.
                watch.state = WatchState.LEFT
            else:
                running.task.cancel()
        at = self._machine.next_at()
        if at is not None:
            self._arm(at, now)

    def _move_in(self) -> None:
        if self.home.move(self.name):
            self._machine.clear()
        self._timer = None

    def _timed_out(self, call: Call, seconds: float) -> CallTimeoutError:
        if call.context.notify is not None:
            call.emit(CallTimedOut, seconds=seconds, attempt=call.attempt)
        what = f"attempt {call.attempt}" if call.attempts_inside else "the call"
        msg = f"policy '{call.context.policy}': {what} timed out after {seconds:g} s"
        return CallTimeoutError(msg, seconds=seconds)


class OverrideTimeout(Timeout):
    """The timeout that ``policy.using(timeout=...)`` asks for: each call brings its own limit."""

    __slots__ = ()

    def __init__(self) -> None:
        # The number is never used: every call that comes here has its own.
        super().__init__(TimeoutOptions(seconds=1.0))

    def _seconds(self, call: Call) -> float:
        seconds = call.context.overrides.timeout
        return self.options.seconds if seconds is None else seconds
