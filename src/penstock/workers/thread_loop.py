"""A thread with an event loop, in which a worker's methods run: the side of the thread."""

from __future__ import annotations

import asyncio
import threading
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from penstock.workers.work import Work, can_be_awaited

__all__ = ["ThreadLoop"]

# Sync methods that never end would keep the thread's own tasks from their turns.
_MOST_IN_A_ROW = 16

# The thread says that it has ended as the last thing that it does.
_LAST_BREATH = 1.0


class ThreadLoop:
    """Runs what it is handed, and hands it back.

    Both ways the other side is signalled only where it does not know yet that there is something
    for it: a signal costs more than a call, and hands the interpreter from thread to thread.

    It is a daemon: a method that hangs cannot keep the program from ending.

    Args:
        name: The thread's name.
        awaits: Whether awaitables are awaited in the thread; else they are results.
        deliver: Called in the loop that makes this when there is something in ``outbox``.
        ended: Called there when the thread ends, with what has ended it unless it was told to.

    Attributes:
        outbox: Work that has ended.
        is_delivering: Whether ``deliver`` is going to look into ``outbox``; it says when not.
    """

    __slots__ = (
        "_awaits",
        "_deliver",
        "_ended",
        "_home",
        "_inbox",
        "_is_ending",
        "_is_signalled",
        "_own",
        "_thread",
        "is_delivering",
        "outbox",
    )

    def __init__(
        self,
        name: str,
        deliver: Callable[[], None],
        ended: Callable[[str | None], None],
        *,
        awaits: bool,
    ) -> None:
        self._awaits = awaits
        self._deliver = deliver
        self._ended = ended
        self._home = asyncio.get_running_loop()
        self._inbox: deque[Work] = deque()
        self.outbox: deque[Work] = deque()
        self._is_signalled = False
        self.is_delivering = False
        self._is_ending = False
        self._own = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._own.close()
            raise

    # What the pool's loop calls.

    def hand_in(self, work: Work) -> None:
        """Have a function called."""
        self._inbox.append(work)
        if not self._is_signalled:
            self._is_signalled = True
            self._signal(self._drain)

    def cancel(self, work: Work) -> None:
        """Cancel an async method."""
        self._signal(_cancel, work)

    def ask(self, work: Work) -> None:
        """Have the loop say that it gets to it: ``Work.is_heard``."""
        self._signal(_hear, work)

    def end(self) -> None:
        """End the thread after the methods that it has begun; tasks that are left are cancelled."""
        self._signal(self._end)

    def join(self) -> None:
        """Wait until the thread is gone, once it has said that it ends."""
        self._thread.join(_LAST_BREATH)

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
        self._tell(self._ended, reason)

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

    def _begin(self, work: Work) -> None:
        work.is_begun = True
        if not work.is_cancelled:
            # A sync method may run a loop, or use a library that does.
            _set_running_loop(None)
            try:
                work.result = work.context.run(work.function, *work.args, **work.kwargs)
            except BaseException as failure:  # noqa: BLE001 - raised where it is awaited
                work.failure = failure
            finally:
                _set_running_loop(self._own)
            if self._awaits and can_be_awaited(work.result):
                # Kept alive by its loop until the first step, and then by the work.
                asyncio.Task(self._await(work), loop=self._own, context=work.context)
                return
        self._finish(work)

    async def _await(self, work: Work) -> None:
        # Set here, and not where the task is made: before its first step a cancel would undo it
        # without a trace.
        work.task = asyncio.current_task()
        if work.is_cancelled:
            work.throw_away()
            work.failure = asyncio.CancelledError()
            self._finish(work)
            return
        awaitable, work.result = work.result, None
        try:
            work.result = await awaitable
        except BaseException as failure:  # noqa: BLE001 - as above
            if self._is_ending:
                # Cancelled with the loop: the thread's end is what the call has failed with.
                return
            work.failure = failure
        self._finish(work)

    def _finish(self, work: Work) -> None:
        self.outbox.append(work)
        if not self.is_delivering:
            self.is_delivering = True
            self._tell(self._deliver)

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._home.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The pool's loop is closed: nobody waits any more.
            if not self._own.is_closed():
                self._own.stop()

    def _end(self) -> None:
        # Not now: a task that was made in this step has to see that it is not wanted.
        self._own.call_soon(self._own.stop)


def _cancel(work: Work) -> None:
    if work.task is not None:
        work.task.cancel()


def _hear(work: Work) -> None:
    work.is_heard = True
