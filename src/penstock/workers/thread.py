"""A thread that runs one function after another for an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from penstock.call import Call
from penstock.operation import Lingering

__all__ = ["WorkerThread"]


class _Work:
    """One function for the thread, and where its result goes."""

    __slots__ = ("failure", "future", "is_begun", "lingering", "result", "run")

    def __init__(self, run: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.run = run
        self.future = future
        self.is_begun = False
        self.lingering: Lingering | None = None
        self.result: Any = None
        self.failure: BaseException | None = None


class WorkerThread:
    """One thread and its inbox; results come back in the order in which work was given.

    It is a daemon: a function that hangs cannot keep the program from ending.

    Args:
        name: The thread's name.
    """

    __slots__ = ("_inbox", "_loop", "_outbox", "_thread")

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: SimpleQueue[_Work | None] = SimpleQueue()
        self._outbox: deque[_Work] = deque()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def run(
        self, call: Call | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Run a function in the thread, in this context; return its result.

        Args:
            call: What it belongs to. Where the caller leaves and the function goes on, the call
                holds what it holds until the function has ended.
            function: What to run.
            args: Its arguments.
            kwargs: The same, by keyword.
        """
        context = contextvars.copy_context()
        work = _Work(lambda: context.run(function, *args, **kwargs), self._loop.create_future())
        self._inbox.put(work)
        try:
            return await work.future
        except asyncio.CancelledError:
            self._leave(work, call)
            raise

    def stop(self) -> None:
        """End the thread after what it was given so far."""
        self._inbox.put(None)

    def _leave(self, work: _Work, call: Call | None) -> None:
        if not work.is_begun or call is None:
            return
        if call.lingering is None:
            call.lingering = Lingering()
        call.lingering.running += 1
        work.lingering = call.lingering

    def _serve(self) -> None:
        while (work := self._inbox.get()) is not None:
            if not work.future.cancelled():
                work.is_begun = True
                try:
                    work.result = work.run()
                except BaseException as failure:  # noqa: BLE001 - raised where it is awaited
                    work.failure = failure
            self._outbox.append(work)
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                # The loop is closed: nobody waits any more.
                return

    def _deliver(self) -> None:
        outbox = self._outbox
        while outbox:
            work = outbox.popleft()
            if work.lingering is not None:
                work.lingering.ended()
            if work.future.done():
                continue
            if work.failure is None:
                work.future.set_result(work.result)
            else:
                work.future.set_exception(_sound(work.failure))


def _sound(failure: BaseException) -> BaseException:
    # No future takes a StopIteration.
    if not isinstance(failure, StopIteration):
        return failure
    replaced = RuntimeError("the method raised StopIteration")
    replaced.__cause__ = failure
    return replaced
