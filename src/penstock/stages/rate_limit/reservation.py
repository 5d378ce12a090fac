"""A place in line, or a start that has been taken: it ends in a wait, a settle or a cancel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import get_ident

from penstock import clock
from penstock.call import Cost, Meter
from penstock.errors import PolicyError, RateLimitedError
from penstock.stages.rate_limit.line import RateLine
from penstock.stages.rate_limit.machine import Costs, Receipts
from penstock.waitlist import Waiter, WaiterState

__all__ = ["RateMeter", "Reservation", "rate_limited"]


def rate_limited(what: str, rates: str, wait: float) -> RateLimitedError:
    """Return the error for a start that cannot come in time, with when it could."""
    wait = max(0.0, wait)
    msg = f"{what}: the rate limit of {rates} is reached; retry after {wait:.3g} s"
    return RateLimitedError(msg, retry_after=wait)


class RateMeter(Meter):
    """What one call has paid, and can correct."""

    __slots__ = ("_line", "_read", "_receipts", "paid")

    def __init__(
        self, line: RateLine, receipts: Receipts, paid: Costs, read: Callable[[Cost], Costs]
    ) -> None:
        self._line = line
        self._receipts = receipts
        self._read = read
        self.paid = paid

    def settle(self, actual: Cost) -> None:
        """Charge or give back the difference to ``actual``; the last word counts.

        From any thread: another one than the line's hands it over.
        """
        costs = self._read(actual)
        home = self._line.home
        loop = home.loop
        if get_ident() == home.thread or loop is None or not loop.is_running():
            self._settle(costs)
            return
        # The loop that is closed in this moment has nobody left who waits for units.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._settle, costs)

    def _settle(self, costs: Costs) -> None:
        self._line.settle(self._receipts, self.paid, costs)
        self.paid = costs


class Reservation:
    """A start that is taken, or a place in line for one; made by ``reserve`` and ``acquire``.

    Whoever drops it without ``wait`` or ``cancel`` keeps the place: others wait behind it.
    """

    __slots__ = ("_costs", "_line", "_meter", "_rates", "_read", "_waiter")

    def __init__(
        self,
        line: RateLine,
        costs: Costs,
        priority: int,
        read: Callable[[Cost], Costs],
        rates: str,
    ) -> None:
        self._line = line
        self._costs = costs
        self._read = read
        self._rates = rates
        self._waiter: Waiter | None = None
        self._meter: RateMeter | None = None
        receipts = line.machine.admit(clock.now(), costs)
        if receipts is None:
            self._waiter = line.park(costs, priority)
        else:
            self._hold(receipts)

    @property
    def granted(self) -> bool:
        """Whether the start is taken, so that ``wait`` returns at once."""
        return self._meter is not None or (
            self._waiter is not None and self._waiter.state is WaiterState.GRANTED
        )

    async def wait(self, max_wait: float | None = None) -> None:
        """Wait for the turn.

        Args:
            max_wait: Seconds to wait at most, from 0; None for as long as it takes.

        Raises:
            RateLimitedError: The turn did not come in time; the place is given up.
            PolicyError: The reservation was cancelled before.
        """
        if self._meter is not None:
            return
        if self._waiter is None:
            msg = "this reservation was cancelled; make a new one"
            raise PolicyError(msg)
        waiter, self._waiter = self._waiter, None
        receipts = await self._line.wait_in_line(waiter, max_wait)
        if receipts is None:
            now = clock.now()
            wait = self._line.machine.estimate(now, self._costs) - now
            raise rate_limited("reservation", self._rates, wait)
        self._hold(receipts)

    def cancel(self) -> None:
        """Give everything back; a start that has been used should be settled instead."""
        if self._waiter is not None:
            self._line.leave(self._waiter)
            self._waiter = None
        if self._meter is not None:
            self.settle(0)
            self._meter = None

    def settle(self, actual: Cost) -> None:
        """Charge or give back the difference to ``actual``.

        Raises:
            PolicyError: The start is not taken yet.
        """
        if self._meter is None:
            msg = "a reservation can be settled when its start is taken; await wait() first"
            raise PolicyError(msg)
        self._meter.settle(actual)

    def _hold(self, receipts: Receipts) -> None:
        self._meter = RateMeter(self._line, receipts, self._costs, self._read)
