"""Virtual time, which must not run ahead of work in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

__all__ = ["ClockHold"]


class ClockHold:
    """Keeps the clock of a loop in virtual time still while threads work; else does nothing.

    Such a loop waits for executors by itself. That it has to wait for other threads must be said.

    Args:
        loop: The loop, of any kind.
    """

    __slots__ = ("_outside_work",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._outside_work: Callable[[], AbstractContextManager[None]] | None
        self._outside_work = getattr(loop, "outside_work", None)

    def hold_until(self, future: asyncio.Future[None]) -> None:
        """Hold the clock until a future is done."""
        if self._outside_work is not None and not future.done():
            hold = ExitStack()
            hold.enter_context(self._outside_work())
            future.add_done_callback(lambda _: hold.close())
