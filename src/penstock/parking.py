"""The async side of the wait list: await a grant, survive a cancel, never outlive a loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from threading import get_ident
from weakref import WeakSet

from penstock.errors import PolicyError
from penstock.waitlist import Waiter

__all__ = ["Home", "park_until_granted", "wake"]


class Home:
    """The event loop a stage works in at the moment.

    Machines are plain Python and not made for two threads at once. A stage may serve one loop after
    another (``asyncio.run`` twice, one loop per test), not two that run at the same time.
    """

    __slots__ = ("__weakref__", "is_closed", "loop", "thread")

    def __init__(self) -> None:
        _homes.add(self)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.is_closed: Callable[[], bool] = _always

    def move(self, stage: str) -> bool:
        """Make the running loop the home; return True if what the old loop held is lost.

        Cheap to call often, but the hot path calls it only when ``get_ident()`` differs from
        ``thread`` or ``is_closed()``: reading the running loop costs more than a whole stage on
        Python 3.11. (A call cannot know its thread when it is made: it may be made in one and run
        in another.) A stage that hands something out must look at both. ``asyncio.run`` twice is
        one thread with two loops, and what has been handed out in the second must not be forgotten
        when the end of the first is noticed late.

        Raises:
            PolicyError: The old home is still running, in another thread.
        """
        loop = asyncio.get_running_loop()
        old = self.loop
        if loop is old:
            return False
        if old is not None and old.is_running() and not old.is_closed():
            msg = (
                f"stage '{stage}' is in use by another running event loop; "
                "give each loop its own copy with policy.fresh()"
            )
            raise PolicyError(msg)
        self.loop = loop
        self.thread = get_ident()
        self.is_closed = loop.is_closed
        return old is not None and old.is_closed()


_homes: WeakSet[Home] = WeakSet()


def _forget_running_loops() -> None:
    # In the child of a fork: a loop that ran in another thread says for ever that it is running. A
    # closed one takes its place, so that the next move finds what the parent's calls hold lost.
    lost = [home for home in _homes if home.loop is not None and home.loop.is_running()]
    if not lost:
        return
    closed = asyncio.new_event_loop()
    closed.close()
    for home in lost:
        home.loop, home.thread, home.is_closed = closed, 0, closed.is_closed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_running_loops)


def park_until_granted(waiter: Waiter, seconds: float | None = None) -> Awaitable[bool]:
    """Wait until ``wake(waiter)``; return False if ``seconds`` passed first.

    A False return and an exception (cancellation above all) leave the waiter as it is: the caller
    abandons it, and gives back what it was granted if the grant came in the same step.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()
    waiter.signal = future
    # The future itself: a coroutine round it would cost every waiter a frame.
    return future if seconds is None else _with_patience(future, seconds)


async def _with_patience(future: asyncio.Future[bool], seconds: float) -> bool:
    timer = future.get_loop().call_later(seconds, _give_up, future)
    try:
        return await future
    finally:
        timer.cancel()


def wake(waiter: Waiter) -> None:
    """Wake a waiter that has just been granted; nothing happens if it is past waiting."""
    future = waiter.signal
    # Nobody may wait yet (a reservation), or its loop is closed and takes no callbacks: what its
    # waiters were granted comes back with the next move.
    if future is not None and not future.done() and not future.get_loop().is_closed():
        future.set_result(True)


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)


def _always() -> bool:
    return True
