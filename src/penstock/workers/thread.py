"""A thread that runs the methods of one worker, as the pool's event loop sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from penstock.call import Call
from penstock.errors import WorkerDiedError
from penstock.operation import name_of
from penstock.workers.outside import ClockHold
from penstock.workers.thread_loop import ThreadLoop
from penstock.workers.work import Work

__all__ = ["WorkerThread"]

_log = logging.getLogger("penstock")

# Seconds in which a loop takes note of a cancel, unless a method blocks it; and in which a thread
# ends that has nothing to do, on a machine that is busy.
_PATIENCE, _GRACE = 1.0, 0.2


class WorkerThread:
    """One thread with an event loop of its own; it lives as long as the worker.

    Sync methods run one after the other, and see no running loop: they may start one. What they
    return and can be awaited is awaited in the thread's loop, side by side.

    Args:
        name: The thread's name: its worker's id.
        died: Told why when the thread ends by itself.
        awaits: Whether awaitables are awaited in the thread; else they are results.

    Attributes:
        lingering: Calls whose callers have left, and that go on.
    """

    __slots__ = (
        "_clock",
        "_died",
        "_ended",
        "_inside",
        "_is_over",
        "_loop",
        "_pending",
        "lingering",
        "name",
    )

    def __init__(self, name: str, died: Callable[[str], None], *, awaits: bool) -> None:
        self.name = name
        self.lingering = 0
        self._died = died
        self._loop = asyncio.get_running_loop()
        self._clock = ClockHold(self._loop)
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._pending: set[Work] = set()
        self._is_over = False
        self._inside = ThreadLoop(name, self._deliver, self._on_end, awaits=awaits)

    async def run(
        self,
        call: Call | None,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function in the thread, in this context; return its result.

        Whoever is cancelled while they await a sync function leaves at once; an async one is
        cancelled too, and they wait until it has cleaned up, as they would in their own loop.

        Args:
            call: What it belongs to. Where the caller leaves and the function goes on, the call
                holds what it holds until the function has ended.
            function: What to call.
            args: Its arguments.
            kwargs: The same, by keyword.

        Raises:
            WorkerDiedError: The thread has ended, or was given up.
        """
        if self._is_over:
            raise self._loss(function)
        if call is not None and call.lingering is not None:
            # What an earlier attempt left behind keeps the worker of that attempt, not this one.
            call.lingering = None
        work = Work(function, args, kwargs or {}, copy_context(), self._loop.create_future())
        self._clock.hold_until(work.future)
        self._pending.add(work)
        self._inside.hand_in(work)
        try:
            await work.future
        except asyncio.CancelledError:
            await self._cancel(work, call)
        return work.result if work.failure is None else work.fail()

    async def ask_healthy(self, healthy: Callable[..., Any]) -> bool:
        """Call a worker's ``healthy``; True while the thread is busy with a sync method.

        What runs at the moment is no illness, and time limits are there for what runs too long.
        """
        asked = self._loop.create_task(self.run(None, healthy))
        try:
            while not asked.done():
                if self._runs_another(healthy):
                    return True
                await asyncio.wait([asked], timeout=_PATIENCE)
            return bool(asked.result())
        finally:
            asked.cancel()

    def _runs_another(self, function: Callable[..., Any]) -> bool:
        return any(
            work.is_begun and work.task is None and work.function != function
            for work in self._pending
        )

    async def stop(self) -> None:
        """End the thread after what it runs, and wait until it has ended."""
        self._is_over = True
        self._inside.end()
        self._clock.hold_until(self._ended)
        await asyncio.shield(self._ended)
        self._fail_all()
        self._inside.join()

    def kill(self) -> None:
        """Give the thread up: it ends after the method that it runs, whose result goes nowhere."""
        self._is_over = True
        for work in self._pending:
            if work.is_begun and work.task is None:
                _log.warning(
                    "worker '%s' was given up while it runs %s; its thread ends after that",
                    self.name,
                    name_of(work.function),
                )
        self._fail_all()
        self._inside.end()

    async def leave(self) -> None:
        """Give the thread up, and wait a moment for it, in which one that does not hang ends."""
        self.kill()
        self._clock.hold_until(self._ended)
        await asyncio.wait([self._ended], timeout=_GRACE)
        if self._ended.done():
            self._inside.join()

    async def _cancel(self, work: Work, call: Call | None) -> None:
        """Give up a call whose caller was cancelled; return where it has an outcome all the same.

        Raises:
            CancelledError: It has none, or there is nobody to wait for it.
        """
        if work not in self._pending:
            work.throw_away()
            raise asyncio.CancelledError
        work.is_cancelled = True
        if work.task is not None:
            work.future = self._loop.create_future()
            self._clock.hold_until(work.future)
            self._inside.cancel(work)
            if await self._has_ended(work, call):
                return
        self._leave(work, call)
        raise asyncio.CancelledError

    async def _has_ended(self, work: Work, call: Call | None) -> bool:
        # As long as the thread's loop answers, the method's own clean-up is waited for.
        try:
            while not work.future.done():
                work.is_heard = False
                self._inside.ask(work)
                await asyncio.wait([work.future], timeout=_PATIENCE)
                if not (work.is_heard or work.future.done()):
                    return False
        except asyncio.CancelledError:
            if work in self._pending:
                self._leave(work, call)
            else:
                work.throw_away()
            raise
        return True

    def _leave(self, work: Work, call: Call | None) -> None:
        if not work.is_begun:
            self._pending.discard(work)
            return
        work.linger(call)
        self.lingering += 1
        _log.warning(
            "worker '%s' goes on with %s after its caller has left, and is busy until it ends",
            self.name,
            name_of(work.function),
        )

    def _deliver(self) -> None:
        inside = self._inside
        outbox = inside.outbox
        if not outbox:
            inside.is_delivering = False
            # One may have come before the thread could see that.
            if not outbox:
                return
            inside.is_delivering = True
        while outbox:
            self._hand_out(outbox.popleft())
        # Once more when those who waited have had their turn: what comes until then needs no
        # signal.
        self._loop.call_soon(self._deliver)

    def _hand_out(self, work: Work) -> None:
        work.task = None
        if work not in self._pending:
            work.throw_away()
            return
        self._pending.discard(work)
        if work.is_given_up:
            self._end_lingering(work)
            work.throw_away()
        elif not work.future.done():
            work.future.set_result(None)

    def _end_lingering(self, work: Work) -> None:
        self.lingering -= 1
        work.end_lingering()

    def _fail_all(self) -> None:
        pending, self._pending = self._pending, set()
        for work in pending:
            work.is_cancelled = True
            if work.is_given_up:
                self._end_lingering(work)
            elif not work.future.done():
                work.failure = self._loss(work.function)
                work.future.set_result(None)

    def _loss(self, function: Callable[..., Any]) -> WorkerDiedError:
        return WorkerDiedError(f"{self.name} ended before {name_of(function)} did")

    def _on_end(self, reason: str | None) -> None:
        self._ended.set_result(None)
        if not self._is_over:
            self._is_over = True
            self._fail_all()
            self._died(reason or "its thread ended")
