"""Telling everybody what a pool's machine has decided: waiters, displaced attempts, hooks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from random import random
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from penstock import clock
from penstock.hooks import Hook
from penstock.parking import Home, wake
from penstock.pools.given import resources_of
from penstock.pools.lease import Lease
from penstock.pools.logbook import log_change
from penstock.pools.machine import PoolMachine
from penstock.pools.news import Change
from penstock.pools.options import PoolOptions
from penstock.pools.picking import picker_of
from penstock.waitlist import Waiter

if TYPE_CHECKING:
    from penstock.call import Call

__all__ = ["Delivery"]

R = TypeVar("R")

_log = logging.getLogger("penstock")

# Long enough for a loop that is busy; one that does not answer by then never will.
_PATIENCE = 10.0


class Delivery:
    """A pool's machine, and the loop in which its callers live.

    Args:
        resources: A list, a dict of ids, ``Resource`` objects.
        options: The pool's.

    Raises:
        ConfigError: There is no resource, an id is there twice, or an option is not allowed.
    """

    __slots__ = (
        "__weakref__",
        "_armed_for",
        "_hooks",
        "_is_telling",
        "_timer",
        "home",
        "machine",
        "options",
    )

    def __init__(self, resources: Any, options: PoolOptions) -> None:
        self.options = options
        self.home = Home()
        self.machine = PoolMachine(self, options, picker_of(options.pick, random))
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._is_telling = False
        self._hooks: list[Callable[[Change], None]] = []
        if options.on_state_change is not None:
            self._hooks.append(Hook(options.on_state_change, self._report))
        for resource in resources_of(resources):
            self.machine.add(resource)

    def deliver(self) -> None:
        """Tell everybody what the machine has decided, in that order."""
        # A hook may call back in: what comes of that waits for its turn.
        if not self._is_telling:
            self._is_telling = True
            try:
                self._tell()
            finally:
                self._is_telling = False
        self._arm()

    def watch(self, hook: Callable[[Change], None]) -> None:
        """Call ``hook`` at every change of standing, from now on."""
        self._hooks.append(hook)

    def move_in(self) -> None:
        """Make the running loop the pool's home.

        Raises:
            PolicyError: Another running loop is.
        """
        before = self.home.loop
        if self.home.move(f"rotation over pool '{self.options.name}'"):
            self.machine.forfeit()
        if self.home.loop is not before:
            self._timer = None

    def _at_home(self, change: Callable[[], R]) -> R:
        # The machine is not made for two threads at once: from another one than the loop's, the
        # loop is asked to do it.
        loop = self.home.loop
        if get_ident() == self.home.thread or loop is None or not loop.is_running():
            done = change()
            self.deliver()
            return done
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        loop.call_soon_threadsafe(self._hand_over, change, future)
        return future.result(_PATIENCE)

    def _hand_over(self, change: Callable[[], R], future: concurrent.futures.Future[R]) -> None:
        try:
            future.set_result(change())
        except Exception as error:  # noqa: BLE001 - raised where it was asked for
            future.set_exception(error)
        self.deliver()

    def _tell(self) -> None:
        machine = self.machine
        while machine.news:
            news, machine.news = machine.news, []
            for item in news:
                if isinstance(item, Waiter):
                    wake(item)
                elif isinstance(item, Lease):
                    _cancel(item)
                else:
                    self._tell_of(item)

    def _tell_of(self, change: Change) -> None:
        log_change(self.options.name, change)
        for hook in self._hooks:
            hook(change)

    def _arm(self) -> None:
        at = self.machine.next_wake()
        if at is None or (self._timer is not None and self._armed_for <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = self.home.loop
        if loop is None or loop.is_closed():
            return
        self._timer = loop.call_later(max(0.0, at - clock.now()), self._on_timer)
        self._armed_for = at

    def _on_timer(self) -> None:
        self._timer = None
        now = clock.now()
        for lane in [*self.machine.lanes.values()]:
            self.machine.expire(lane, now)
        self.deliver()

    def _report(self, error: BaseException) -> None:
        kind = type(error).__name__
        _log.error("pool '%s': on_state_change raised %s", self.options.name, kind)


def _runs_on(call: Call, task: asyncio.Task[Any]) -> bool:
    # A task that cancels itself would meet the cancel at its next await, wherever that is.
    return getattr(call.fn, "runs_on", False) or task is asyncio.current_task(task.get_loop())


def _cancel(lease: Lease) -> None:
    """Cancel a displaced attempt where that ends it; otherwise it runs on."""
    call, task = lease.call, lease.task
    if task is None:
        # Nobody has come for it yet; whoever does looks.
        return
    if not lease.is_active or call is None or call.committed or _runs_on(call, task):
        lease.displaced = None
        return
    lease.is_cancelled = True
    task.cancel()
