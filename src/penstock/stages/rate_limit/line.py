"""The async side of a rate limit: one line, and one loop timer for its head."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import get_ident

from penstock import clock
from penstock.parking import Home, park_until_granted, wake
from penstock.stages.rate_limit.machine import Costs, RateLimitMachine, Receipts
from penstock.waitlist import Waiter, WaiterState

__all__ = ["RateLine"]

# The most a server's hint may stop everybody: the same two minutes that retry takes from a hint.
_MOST_PAUSE = 120.0


class RateLine:
    """Waits for a machine's answers; everything that changes the machine goes through here.

    Args:
        machine: Decides.
        stage: The stage's name, for messages.
    """

    __slots__ = ("_armed_for", "_stage", "_timer", "home", "machine")

    def __init__(self, machine: RateLimitMachine, stage: str) -> None:
        self.machine = machine
        self.home = Home()
        self._stage = stage
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    def move_in(self) -> None:
        """Make the running loop the home of the line.

        Raises:
            PolicyError: Another loop, still running, is its home.
        """
        before = self.home.loop
        if self.home.move(self._stage):
            self.machine.forfeit()
        if self.home.loop is not before:
            self._timer = None

    def park(self, costs: Costs, priority: int) -> Waiter:
        """Stand in line."""
        waiter = self.machine.park(costs, priority)
        # Whoever stands behind somebody changes nothing about when the timer is due.
        if self._timer is None or self.machine.waiting.head() is waiter:
            self._arm(clock.now())
        return waiter

    async def wait_in_line(self, waiter: Waiter, seconds: float | None) -> Receipts | None:
        """Wait for the turn; None if ``seconds`` passed first, and the place is given up."""
        if waiter.state is WaiterState.GRANTED:
            return _receipts_of(waiter)
        try:
            await park_until_granted(waiter, seconds)
        except BaseException:
            self.leave(waiter)
            raise
        return self.collect(waiter)

    def collect(self, waiter: Waiter) -> Receipts | None:
        """Return what was granted; None where patience ran out first."""
        # A grant in the very step in which patience ran out still counts.
        if self.machine.abandon(waiter):
            self.pump()
            return None
        return _receipts_of(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Give up a place, or what was granted in the same step."""
        if not self.machine.abandon(waiter):
            self.machine.give_back(clock.now(), waiter.held, waiter.cost)
        self.pump()

    def give_back(self, receipts: Receipts, costs: Costs) -> None:
        """Give back what was paid."""
        self.machine.give_back(clock.now(), receipts, costs)
        self.pump()

    def settle(self, receipts: Receipts, paid: Costs, actual: Costs) -> None:
        """Charge or give back the difference between what was paid and what was used."""
        self.machine.settle(clock.now(), receipts, paid, actual)
        self.pump()

    def pause(self, seconds: float) -> None:
        """Start nothing for so long, 120 s at most; from any thread, another one hands it over."""
        until = clock.now() + min(seconds, _MOST_PAUSE)
        home, loop = self.home, self.home.loop
        if get_ident() == home.thread or loop is None or not loop.is_running():
            self.machine.pause(until)
            return
        # The loop that is closed in this moment has nobody left to be paused.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self.machine.pause, until)

    def pump(self) -> None:
        """Wake everybody whose turn has come."""
        # Those in line in a loop that has been closed would only waste their starts.
        if self.machine.queued and not self.home.is_closed():
            now = clock.now()
            for waiter in self.machine.grant_due(now):
                wake(waiter)
            self._arm(now)

    def _arm(self, now: float) -> None:
        at = self.machine.next_at(now)
        if at is None or (self._timer is not None and self._armed_for <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        # Relative, since clock.now() and loop.time() need not share their zero (uvloop).
        loop = self.home.loop
        # A call collected after its loop was closed leaves the line too: nobody is served there.
        if loop is not None and not loop.is_closed():
            self._timer = loop.call_later(max(0.0, at - now), self._on_timer)
            self._armed_for = at

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()


def _receipts_of(waiter: Waiter) -> Receipts:
    receipts: Receipts = waiter.held
    return receipts
