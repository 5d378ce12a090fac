"""Ending a call whose client has gone: servers do not do that by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

__all__ = ["Watch", "while_connected"]

T = TypeVar("T")


async def while_connected(request: Request, awaitable: Awaitable[T]) -> T:
    """Await a call, and cancel it as soon as the client has gone.

    Without it a call goes on for nobody, and holds its permit and its resource meanwhile. The
    request's body is read first, where nobody has done that.

    Raises:
        ClientDisconnect: The client has gone, and the call was cancelled.
    """
    await _read_body(request, awaitable)
    watch = Watch(request.receive)
    try:
        return await awaitable
    except asyncio.CancelledError:
        if watch.was_all():
            raise ClientDisconnect from None
        raise
    finally:
        watch.end()


async def _read_body(request: Request, awaitable: Awaitable[Any]) -> None:
    try:
        await request.body()
    except RuntimeError:
        # Somebody has read it as a stream or as a form.
        pass
    except BaseException:
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        raise


class Watch:
    """Cancels the task that makes it once the client has gone, as ``asyncio.timeout`` does."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        task: Any = asyncio.current_task()
        self._task: asyncio.Task[Any] = task
        self._before = self._task.cancelling()
        self._has_cancelled = False
        self._watcher = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_cancelled = True
        self._task.cancel()

    def was_all(self) -> bool:
        """Return True if nobody else has cancelled the task; the cancel is taken back."""
        return self._has_cancelled and self._take_back() <= self._before

    def end(self) -> None:
        """Stop watching; what comes after it is not cancelled."""
        self._watcher.cancel()
        self._take_back()

    def _take_back(self) -> int:
        if self._has_cancelled:
            self._has_cancelled = False
            self._task.uncancel()
        left: int = self._task.cancelling()
        return left
