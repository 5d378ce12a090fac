"""Workers in the pool's own event loop; what is not async runs in a thread of the worker's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from penstock.call import Call, current_call
from penstock.operation import returns_awaitable
from penstock.workers.engine import WorkerSpec
from penstock.workers.hooks import optional, with_index
from penstock.workers.target import Target
from penstock.workers.thread import WorkerThread
from penstock.workers.work import can_be_awaited

__all__ = ["LoopEngine"]


class LoopEngine:
    """A worker in the loop. Made there, too: it may open sessions that belong to the loop."""

    __slots__ = ("_died", "_methods", "_spec", "_thread", "_worker")

    def __init__(self, spec: WorkerSpec, died: Callable[[str], None]) -> None:
        self._spec = spec
        self._died = died
        self._worker: Any = None
        # Made for the first sync method.
        self._thread: WorkerThread | None = None
        # By target: the bound method where it is async, None where it has to go to the thread.
        self._methods: dict[Target, Callable[..., Any] | None] = {}

    @property
    def lingering(self) -> int:
        """Calls of sync methods that were given up and go on."""
        return 0 if self._thread is None else self._thread.lingering

    async def start(self) -> None:
        """Make the worker and run its ``start``."""
        spec = self._spec
        self._worker = spec.make(*spec.args, **spec.kwargs)
        start = optional(self._worker, "start")
        if start is None:
            return
        try:
            await self._run(start, **with_index(start, spec.index))
        except BaseException:
            if self._thread is not None:
                await self._thread.leave()
            raise

    def call(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method: on the loop where it is async, else in the worker's thread."""
        try:
            method = self._methods[target]
        except KeyError:
            method = self._find(target)
        if method is None:
            return self._in_thread(current_call(), target.of(self._worker), args, kwargs)
        return method(*args, **kwargs)

    async def healthy(self) -> bool:
        """Ask the worker's ``healthy``; True where it has none, or would wait for a sync method."""
        healthy = optional(self._worker, "healthy")
        if healthy is None:
            return True
        if self._thread is not None and not returns_awaitable(healthy):
            return await self._thread.ask_healthy(healthy)
        return bool(await self._run(healthy))

    async def stop(self) -> None:
        """Run the worker's ``stop`` and wait until its thread has ended, if it has one."""
        stop = optional(self._worker, "stop")
        try:
            if stop is not None:
                await self._run(stop)
        except asyncio.CancelledError:
            # Whoever waited has lost patience; the thread is not waited for either.
            raise
        except BaseException:
            await self._end_thread()
            raise
        await self._end_thread()

    def kill(self) -> None:
        """Give up the worker's thread: it ends after what it runs at the moment."""
        self._methods.clear()
        if self._thread is not None:
            self._thread.kill()

    def _find(self, target: Target) -> Callable[..., Any] | None:
        method = target.of(self._worker)
        found = self._methods[target] = method if returns_awaitable(method) else None
        return found

    async def _run(self, hook: Callable[..., Any], **kwargs: Any) -> Any:
        if returns_awaitable(hook):
            return await hook(**kwargs)
        return await self._in_thread(None, hook, (), kwargs)

    async def _in_thread(
        self,
        call: Call | None,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if self._thread is None:
            self._thread = WorkerThread(self._spec.id, self._died, awaits=False)
        result = await self._thread.run(call, method, args, kwargs)
        # A plain function may return a coroutine; it belongs to the loop.
        return await result if can_be_awaited(result) else result

    async def _end_thread(self) -> None:
        self._methods.clear()
        if self._thread is not None:
            await self._thread.stop()
