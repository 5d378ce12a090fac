"""Workers in threads: one each, in which it is made, started, called and stopped."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.call import current_call
from penstock.workers.engine import WorkerSpec
from penstock.workers.hooks import optional, with_index
from penstock.workers.target import Target
from penstock.workers.thread import WorkerThread

__all__ = ["ThreadEngine"]


class ThreadEngine:
    """A worker in a thread of its own; its sync methods hold up nobody but itself.

    Its async methods run in an event loop of that thread, as do the tasks that they start.
    """

    __slots__ = ("_died", "_spec", "_thread", "_worker")

    def __init__(self, spec: WorkerSpec, died: Callable[[str], None]) -> None:
        self._spec = spec
        self._died = died
        self._worker: Any = None
        self._thread: WorkerThread | None = None

    @property
    def lingering(self) -> int:
        """Calls that were given up and go on."""
        return 0 if self._thread is None else self._thread.lingering

    async def start(self) -> None:
        """Make the worker and run its ``start``, both in the thread."""
        spec = self._spec
        thread = self._thread = WorkerThread(spec.id, self._died, awaits=True)
        try:
            make = self._make_in_loop if _wants_loop(spec.make) else self._make
            self._worker = await thread.run(None, make)
            start = optional(self._worker, "start")
            if start is not None:
                await thread.run(None, start, (), with_index(start, spec.index))
        except BaseException:
            await thread.leave()
            raise

    def call(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        """Call a method in the thread."""
        thread = self._thread
        assert thread is not None  # noqa: S101 - it was started
        return thread.run(current_call(), target.of(self._worker), args, kwargs)

    async def healthy(self) -> bool:
        """Ask the worker's ``healthy``; True where it has none, or a sync method runs."""
        thread, healthy = self._thread, optional(self._worker, "healthy")
        if thread is None or healthy is None:
            return True
        return await thread.ask_healthy(healthy)

    async def stop(self) -> None:
        """Run the worker's ``stop`` and wait until the thread has ended."""
        thread, stop = self._thread, optional(self._worker, "stop")
        if thread is None:
            return
        try:
            if stop is not None:
                await thread.run(None, stop)
        except asyncio.CancelledError:
            # Whoever waited has lost patience; the thread is not waited for either.
            raise
        except BaseException:
            await thread.stop()
            raise
        await thread.stop()

    def kill(self) -> None:
        """Give up the thread: it ends after what it runs at the moment."""
        if self._thread is not None:
            self._thread.kill()

    def _make(self) -> Any:
        spec = self._spec
        return spec.make(*spec.args, **spec.kwargs)

    async def _make_in_loop(self) -> Any:
        return self._make()


def _wants_loop(make: Callable[..., Any]) -> bool:
    # A worker with async methods may open sessions while it is made, which belong to a loop. One
    # without may use libraries that refuse to work where a loop runs.
    if not isinstance(make, type):
        return True
    return any(inspect.iscoroutinefunction(getattr(make, name, None)) for name in dir(make))
