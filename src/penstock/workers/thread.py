"""A thread that runs the methods of one worker for an event loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from types import GeneratorType
from typing import Any, Never

from penstock.call import Call
from penstock.errors import WorkerDiedError
from penstock.operation import Lingering, name_of

__all__ = ["WorkerThread", "can_be_awaited"]

_log = logging.getLogger("penstock")

# Sync methods that never end would keep the thread's own tasks from their turns.
_MOST_IN_A_ROW = 16

# Seconds in which a loop takes note of a cancel, unless a method blocks it.
_PATIENCE = 1.0

# The thread says that it has ended as the last thing that it does.
_LAST_BREATH = 1.0


class _Work:
    """One call for the thread, and what came of it."""

    __slots__ = (
        "args",
        "context",
        "failure",
        "function",
        "future",
        "is_begun",
        "is_given_up",
        "is_heard",
        "kwargs",
        "lingering",
        "result",
        "task",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context,
        future: asyncio.Future[None],
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.context = context
        # Resolved when the outcome is there, which stands beside it: not every exception may be set
        # on a future, and one that nobody fetched any more would be logged.
        self.future = future
        self.result: Any = None
        self.failure: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self.lingering: Lingering | None = None
        self.is_begun = False
        self.is_given_up = False
        self.is_heard = False

    def fail(self) -> Never:
        """Raise the failure; it is gone then."""
        failure, self.failure = self.failure, None
        assert failure is not None  # noqa: S101 - who calls has looked
        try:
            raise failure
        finally:
            # The traceback holds this frame.
            del failure

    def throw_away(self) -> None:
        """Drop an outcome that nobody waits for."""
        if inspect.iscoroutine(self.result):
            self.result.close()
        self.failure = self.result = None


class WorkerThread:
    """One thread with an event loop of its own; it lives as long as the worker.

    Sync methods run one after the other, and see no running loop: they may start one. What they
    return and can be awaited is awaited in the thread's loop, side by side. Both ways the other
    side is signalled only where it does not know yet that there is something for it.

    It is a daemon: a method that hangs cannot keep the program from ending.

    Args:
        name: The thread's name: its worker's id.
        awaits: Whether awaitables are awaited in the thread; else they are results.
        died: Told why when the thread ends by itself.

    Attributes:
        lingering: Calls that were given up and go on.
    """

    __slots__ = (
        "_awaits",
        "_died",
        "_ended",
        "_home",
        "_inbox",
        "_is_delivering",
        "_is_ending",
        "_is_over",
        "_is_signalled",
        "_outbox",
        "_own",
        "_pending",
        "_thread",
        "lingering",
        "name",
    )

    def __init__(self, name: str, died: Callable[[str], None], *, awaits: bool) -> None:
        self.name = name
        self.lingering = 0
        self._died = died
        self._awaits = awaits
        self._home = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._home.create_future()
        self._pending: set[_Work] = set()
        self._inbox: deque[_Work] = deque()
        self._outbox: deque[_Work] = deque()
        self._is_signalled = False
        self._is_delivering = False
        self._is_over = False
        self._is_ending = False
        self._own = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._own.close()
            raise

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
        work = _Work(function, args, kwargs or {}, copy_context(), self._home.create_future())
        self._pending.add(work)
        self._inbox.append(work)
        if not self._is_signalled:
            self._is_signalled = True
            self._signal(self._drain)
        try:
            await work.future
        except asyncio.CancelledError:
            await self._cancel(work, call)
        return work.result if work.failure is None else work.fail()

    async def stop(self) -> None:
        """End the thread after what it was given, and wait until it has ended."""
        self._is_over = True
        self._signal(self._end)
        await asyncio.shield(self._ended)
        self._fail_all()
        self._thread.join(_LAST_BREATH)

    def kill(self) -> None:
        """Give the thread up: it ends after the method that it runs, whose result goes nowhere."""
        if not self._is_over or self._pending:
            self._is_over = True
            self._fail_all()
        self._signal(self._end)

    # What happens in the pool's loop.

    async def _cancel(self, work: _Work, call: Call | None) -> None:
        """Give up a call whose caller was cancelled; return where it has an outcome all the same.

        Raises:
            CancelledError: It has none, or there is nobody to wait for it.
        """
        if work not in self._pending:
            work.throw_away()
            raise asyncio.CancelledError
        task = work.task
        if task is None:
            work.is_given_up = True
        else:
            work.future = self._home.create_future()
            self._signal(_cancel_task, work)
            if await self._has_ended(work, call):
                return
        self._leave(work, call)
        raise asyncio.CancelledError

    async def _has_ended(self, work: _Work, call: Call | None) -> bool:
        # As long as the thread's loop answers, the method's own clean-up is waited for.
        try:
            while not work.future.done():
                work.is_heard = False
                self._signal(_hear, work)
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

    def _leave(self, work: _Work, call: Call | None) -> None:
        work.is_given_up = True
        if not work.is_begun:
            self._pending.discard(work)
            return
        self.lingering += 1
        _log.warning(
            "worker '%s' goes on with %s after its caller has left, and is busy until it ends",
            self.name,
            name_of(work.function),
        )
        if call is None:
            return
        if call.lingering is None:
            call.lingering = Lingering()
        call.lingering.running += 1
        work.lingering = call.lingering

    def _deliver(self) -> None:
        outbox = self._outbox
        if not outbox:
            self._is_delivering = False
            # One may have come before the thread could see that.
            if not outbox:
                return
            self._is_delivering = True
        while outbox:
            work = outbox.popleft()
            work.task = None
            if work not in self._pending:
                work.throw_away()
                continue
            self._pending.discard(work)
            if work.is_given_up:
                self._end_lingering(work)
                work.throw_away()
            elif not work.future.done():
                work.future.set_result(None)
        # Once more when those who waited have had their turn: what comes meanwhile needs no signal,
        # each of which would hand the interpreter to and fro.
        self._home.call_soon(self._deliver)

    def _end_lingering(self, work: _Work) -> None:
        self.lingering -= 1
        lingering, work.lingering = work.lingering, None
        if lingering is not None:
            lingering.ended()

    def _fail_all(self) -> None:
        pending, self._pending = self._pending, set()
        for work in pending:
            if work.is_given_up:
                self._end_lingering(work)
            elif not work.future.done():
                work.failure = self._loss(work.function)
                work.future.set_result(None)
            work.is_given_up = True

    def _loss(self, function: Callable[..., Any]) -> WorkerDiedError:
        return WorkerDiedError(f"{self.name} ended before {name_of(function)} did")

    def _on_end(self, reason: str | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        if not self._is_over:
            self._is_over = True
            self._fail_all()
            self._died(reason or "its thread ended")

    def _signal(self, callback: Callable[..., None], *args: Any) -> None:
        # Where its loop is closed the thread has ended: what is pending fails when that is heard.
        with suppress(RuntimeError):
            self._own.call_soon_threadsafe(callback, *args)

    # What happens in the thread.

    def _live(self) -> None:
        reason = None
        try:
            with asyncio.Runner(loop_factory=lambda: self._own) as runner:
                try:
                    runner.get_loop().run_forever()
                finally:
                    self._is_ending = True
        except BaseException as failure:  # noqa: BLE001 - a task of the worker's own has ended it
            reason = type(failure).__name__
        self._tell(self._on_end, reason)

    def _drain(self) -> None:
        inbox = self._inbox
        for _ in range(_MOST_IN_A_ROW):
            if not inbox:
                self._is_signalled = False
                # One may have come before the pool's loop could see that.
                if not inbox:
                    return
                self._is_signalled = True
            self._begin(inbox.popleft())
        self._own.call_soon(self._drain)

    def _begin(self, work: _Work) -> None:
        # In this order: who leaves sets the one flag and then looks at the other.
        work.is_begun = True
        if not work.is_given_up:
            _set_running_loop(None)
            try:
                work.result = work.context.run(work.function, *work.args, **work.kwargs)
            except BaseException as failure:  # noqa: BLE001 - raised where it is awaited
                work.failure = failure
            finally:
                _set_running_loop(self._own)
            if self._awaits and can_be_awaited(work.result):
                self._begin_task(work)
                return
        self._finish(work)

    def _begin_task(self, work: _Work) -> None:
        awaitable, work.result = work.result, None
        coroutine = self._await(work, awaitable)
        work.task = asyncio.Task(coroutine, loop=self._own, context=work.context)
        if work.is_given_up:
            work.task.cancel()

    async def _await(self, work: _Work, awaitable: Any) -> None:
        try:
            work.result = await awaitable
        except BaseException as failure:  # noqa: BLE001 - as above
            if self._is_ending:
                # Cancelled with the loop: the thread's end is what the call has failed with.
                return
            work.failure = failure
        self._finish(work)

    def _finish(self, work: _Work) -> None:
        self._outbox.append(work)
        if not self._is_delivering:
            self._is_delivering = True
            self._tell(self._deliver)

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._home.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The pool's loop is closed: nobody waits any more.
            if not self._own.is_closed():
                self._own.stop()

    def _end(self) -> None:
        if self._inbox:
            self._own.call_soon(self._end)
        else:
            self._own.stop()


def can_be_awaited(result: Any) -> bool:
    """Do what ``inspect.isawaitable`` does, in a third of the time for what cannot."""
    kind: type[Any] = type(result)
    return hasattr(kind, "__await__") or (kind is GeneratorType and inspect.isawaitable(result))


def _cancel_task(work: _Work) -> None:
    if work.task is not None:
        work.task.cancel()


def _hear(work: _Work) -> None:
    work.is_heard = True
