"""``policy.run_sync``: from code without an event loop, in any number of threads.

All such calls share one loop in one background thread. So a policy's limits hold over all threads,
and clients that are bound to a loop (connection pools are) live as long as the process.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from penstock.errors import PolicyError

__all__ = ["run_sync", "running_home"]

R = TypeVar("R")


class _BackgroundLoop:
    """A loop in a daemon thread, started when it is first needed, anew after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop = asyncio.new_event_loop()
                self._pid = os.getpid()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="penstock-run-sync", daemon=True
                )
                self._thread.start()
                atexit.register(self.stop)
            return self._loop

    def stop(self) -> None:
        """Stop the thread and close the loop."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None or self._pid != os.getpid():
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        if not thread.is_alive():
            loop.close()


def running_home(stages: Sequence[Any]) -> asyncio.AbstractEventLoop | None:
    """Return the running loop that one of the stages lives in; None if there is none."""
    for stage in stages:
        home = getattr(stage, "home", None)
        if home is not None and home.loop is not None and home.loop.is_running():
            return home.loop
    return None


background = _BackgroundLoop()


def run_sync(
    start: Callable[[], Coroutine[Any, Any, R]], home: asyncio.AbstractEventLoop | None
) -> R:
    """Run a coroutine from a thread without a loop and return its result.

    Args:
        start: Makes the coroutine.
        home: The running loop that the policy's stages live in, if there is one; else the
            background loop is used.

    Raises:
        PolicyError: This thread runs an event loop, which would stand still meanwhile.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - documented for asyncio libraries
        msg = "run_sync was called inside a running event loop; use: await policy.call(...)"
        raise PolicyError(msg)
    future = asyncio.run_coroutine_threadsafe(start(), home or background.get())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
