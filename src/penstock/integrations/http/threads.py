"""Blocking sends in worker threads, which go on when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from penstock.call import Call
from penstock.operation import Lingering

__all__ = ["in_thread"]

# Every request has a thread of its caller's that waits for it, so this bounds nothing in practice;
# a loop's own executor has six on two cores.
_MOST_THREADS = 1000

# By loop: a forked child has another loop, and none of its parent's threads.
_executors: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadPoolExecutor] = WeakKeyDictionary()


async def in_thread(work: Callable[[], Any], call: Call, close: Callable[[Any], object]) -> Any:
    """Run blocking work in a worker thread and return its result.

    Args:
        work: What blocks. A cancel ends the waiting and not the work.
        call: Whose work it is; its ``lingering`` counts the thread until it has ended.
        close: Takes a result that comes when the caller has left.
    """
    if call.lingering is None:
        call.lingering = Lingering()
    lingering: Lingering = call.lingering
    loop = asyncio.get_running_loop()
    run = contextvars.copy_context().run
    # Taken by the thread that starts the work or by the caller that gives it up, never by both.
    claim = Lock()

    def job() -> Any:
        if not claim.acquire(blocking=False):
            return None
        try:
            return run(work)
        finally:
            _tell(loop, lingering.ended)

    future = loop.run_in_executor(_executor_of(loop), job)
    lingering.running += 1
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if claim.acquire(blocking=False):
            lingering.ended()
        else:
            future.add_done_callback(lambda done: _throw_away(done, close))
        raise


def _executor_of(loop: asyncio.AbstractEventLoop) -> ThreadPoolExecutor:
    executor = _executors.get(loop)
    if executor is None:
        executor = ThreadPoolExecutor(_MOST_THREADS, "penstock-http")
        _executors[loop] = executor
    return executor


def _throw_away(done: asyncio.Future[Any], close: Callable[[Any], object]) -> None:
    # Asking for the exception keeps asyncio from reporting that nobody has.
    if not done.cancelled() and done.exception() is None and done.result() is not None:
        close(done.result())


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop was closed while the thread went on: nobody is left to tell.
        return
