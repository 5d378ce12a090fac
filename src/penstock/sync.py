"""``policy.run_sync``: from code without an event loop, in any number of threads.

All such calls share one loop in one background thread. So a policy's limits hold over all threads,
and clients that are bound to a loop (connection pools are) live as long as the process.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from penstock.errors import PolicyError

__all__ = ["run_sync", "running_home"]

R = TypeVar("R")

# A loop that is closed under a waiting thread tells nobody: every second the thread looks.
_LOOK_EVERY = 1.0

# Seconds for the calls under way to clean up when the process exits.
_EXIT_PATIENCE = 5.0


class _BackgroundLoop:
    """A loop in a daemon thread, started when it is first needed, anew after a fork."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: in the child of a fork, where the thread is gone and the lock may be held.

        The loop is left as it is: closing it here would take its files from the parent's loop.
        """
        self._left_behind = getattr(self, "_loop", None)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._end = asyncio.Event()

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop, self._end = asyncio.new_event_loop(), asyncio.Event()
                self._thread = threading.Thread(
                    target=_serve,
                    args=(self._loop, self._end),
                    name="penstock-run-sync",
                    daemon=True,
                )
                self._thread.start()
            return self._loop

    def stop(self) -> None:
        """Cancel what is under way, stop the thread and close the loop."""
        with self._lock:
            loop, thread, end = self._loop, self._thread, self._end
            self._loop = self._thread = None
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(end.set)
            thread.join(_EXIT_PATIENCE)


def _serve(loop: asyncio.AbstractEventLoop, end: asyncio.Event) -> None:
    try:
        loop.run_until_complete(_until(end))
    finally:
        loop.close()


async def _until(end: asyncio.Event) -> None:
    # What ``asyncio.Runner`` does at its end, but for the worker threads: it would start one more
    # to wait for them, which Python 3.12 refuses as the process ends, and they have ended by then.
    await end.wait()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def running_home(stages: Sequence[Any]) -> asyncio.AbstractEventLoop | None:
    """Return the running loop that one of the stages lives in; None if there is none."""
    for stage in stages:
        home = getattr(stage, "home", None)
        if home is not None and home.loop is not None and home.loop.is_running():
            return home.loop  # type: ignore[no-any-return]  # a stage may be anything
    return None


_background = _BackgroundLoop()
atexit.register(_background.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_background.forget)


def run_sync(
    start: Callable[[], Coroutine[Any, Any, R]], home: asyncio.AbstractEventLoop | None
) -> R:
    """Run a coroutine from a thread without a loop and return its result.

    Args:
        start: Makes the coroutine.
        home: The running loop that the policy's stages live in, if there is one; else the
            background loop is used.

    Raises:
        PolicyError: This thread runs an event loop, which would stand still meanwhile; or the
            home loop was closed before the call had ended.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - documented for asyncio libraries
        msg = "run_sync was called inside a running event loop; use: await policy.call(...)"
        raise PolicyError(msg)
    loop = _background.get() if home is None else home
    waiting = _Waiting(start(), loop)
    try:
        loop.call_soon_threadsafe(waiting.begin)
        return waiting.result()
    except BaseException:
        waiting.leave()
        raise


class _Waiting(Generic[R]):
    """A call that one thread waits for while the loop of another runs it.

    ``asyncio.run_coroutine_threadsafe`` cannot be cancelled when Ctrl-C comes before it returns,
    and lets an exit that the operation raises end the loop under everybody else.
    """

    def __init__(self, main: Coroutine[Any, Any, R], loop: asyncio.AbstractEventLoop) -> None:
        self._main = main
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._is_left = False
        self._outcome: concurrent.futures.Future[R] = concurrent.futures.Future()

    def begin(self) -> None:
        """Start the call; in the loop's thread."""
        if self._is_left:
            self._main.close()
            return
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def result(self) -> R:
        """Wait for the call and return its result."""
        while not concurrent.futures.wait([self._outcome], _LOOK_EVERY).done:
            if self._loop.is_closed():
                msg = "run_sync: the event loop that the policy's stages live in was closed"
                raise PolicyError(msg)
        return self._outcome.result()

    def leave(self) -> None:
        """Cancel the call if it has not ended: the thread was interrupted, or the loop is gone."""
        if self._outcome.done():
            return
        try:
            self._loop.call_soon_threadsafe(self._give_up)
        except RuntimeError:
            # Closed. What has not begun never will, and Python would complain about it.
            if self._task is None:
                self._main.close()

    def _give_up(self) -> None:
        self._is_left = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            self._outcome.set_result(await self._main)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._outcome.set_exception(error)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        if not self._outcome.done():
            # Cancelled before its first step.
            self._main.close()
            self._outcome.set_exception(asyncio.CancelledError())
