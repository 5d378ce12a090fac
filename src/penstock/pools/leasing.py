"""The async side of a pool: a lease now, a lease later, or the reason why there is none."""

from __future__ import annotations

import logging
from functools import partial
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any

from penstock import clock
from penstock.errors import ConfigError, NoResourceError
from penstock.events import CallRejected, WaitEnded
from penstock.health import Health
from penstock.options import Number
from penstock.parking import park_until_granted
from penstock.pools.delivery import Delivery
from penstock.pools.lane import Lane
from penstock.pools.lease import Lease
from penstock.pools.origins import origin_of
from penstock.pools.quota import quota_left
from penstock.waitlist import Waiter, WaiterState

if TYPE_CHECKING:
    from penstock.call import Call

__all__ = ["Leasing"]

_log = logging.getLogger("penstock")

# A call that has found no resource by its deadline was refused; it did not take too long. So the
# pool speaks a moment before the timeout, which a breaker further out would count as a failure.
_BEFORE_DEADLINE = 0.001

_SECONDS = Number(unit="s")
_AMOUNT = Number()


class Leasing(Delivery):
    """Leases on a pool's resources, for callers that may wait."""

    __slots__ = ()

    def lane_of(self, call: Call) -> Lane:
        """Return the lane that serves a call."""
        options = self.options
        if not options.tells_calls_apart:
            return self.machine.main
        url = _asked(options.url, call)
        origin = None if options.url is None else origin_of(str(url)) or ""
        return self.machine.lane_for(_asked(options.dimension, call), origin)

    def lease_nowait(self, call: Call) -> Lease | None:
        """Lease a resource if one is ready; None if not."""
        self.move_in()
        lease = self.machine.take(self.lane_of(call), call.key, clock.now())
        self.deliver()
        return lease

    async def wait_for_lease(self, call: Call, max_wait: float | None) -> Lease:
        """Lease a resource as soon as one is ready.

        Args:
            call: Who waits, by its priority.
            max_wait: Most seconds, from 0; None waits as long as the call's deadline allows, and
                not at all where there is none.

        Raises:
            NoResourceError: None can be ready in time, or none was.
        """
        until = None if max_wait is None else clock.now() + max_wait
        while True:
            left = None if until is None else max(0.0, until - clock.now())
            waiter = await self._wait(call, left, takes=True)
            lease: Lease = waiter.held
            # Whoever was served stays in the list of limits for a while; the lease must not.
            waiter.held = None
            if lease.displaced is None:
                return lease
            # An older use of it failed in the step in which it was handed over.
            lease.candidate.member.counts.displaced += 1
            self.give_back(lease)

    async def wait_until_open(self, call: Call, max_wait: float | None) -> None:
        """Wait until somebody can serve the call, taking nothing.

        Raises:
            NoResourceError: Nobody can in time, or nobody could.
        """
        self.move_in()
        lane, now = self.lane_of(call), clock.now()
        self.machine.expire(lane, now)
        self.deliver()
        if lane.is_shut:
            await self._wait(call, max_wait, takes=False)

    def give_back(self, lease: Lease) -> None:
        """End a lease; whoever waits for it is served."""
        self.machine.give_back(lease, clock.now())
        self.deliver()

    def give_back_after(self, lingering: Any, lease: Lease) -> None:
        """End a lease whose outcome is known when the last thread of its call has ended."""
        self.machine.outlive(lease)
        lingering.when_idle(partial(self.give_back, lease))

    def cool_lease(self, lease: Lease, seconds: float | None, reason: str | None) -> None:
        """Do what ``Lease.cooldown`` says."""
        if seconds is not None:
            seconds = _checked("cooldown", "seconds", _SECONDS, seconds)
        # An operation that runs in a thread says it there.
        self._at_home(lambda: self.machine.cool(lease, clock.now(), seconds, reason))

    def disable_lease(self, lease: Lease, reason: str | None) -> None:
        """Do what ``Lease.disable`` says."""
        self._at_home(lambda: self.machine.disable(lease, clock.now(), reason, with_group=False))

    def report_lease(
        self, lease: Lease, remaining: float | None, resets_in: float | None, headers: object
    ) -> None:
        """Do what ``Lease.report`` says."""
        if headers is not None:
            remaining, resets_in = quota_left(headers)
        if remaining is None:
            return
        left = _checked("report", "remaining", _AMOUNT, remaining)
        if resets_in is not None:
            resets_in = _checked("report", "resets_in", _SECONDS, resets_in)
            # The service's word, as a hint is.
            resets_in = min(resets_in, self.options.max_cooldown)
        self._at_home(lambda: self.machine.report(lease, clock.now(), left, resets_in))

    def health(self) -> Health:
        """Return how many resources are ready, and when the first one will be.

        Where health is kept apart by a dimension, that of the dimension which fares worst.
        """
        lanes = [*self.machine.lanes.values()]
        return min(map(self._health, lanes), key=lambda health: health.ready)

    def health_for(self, call: Call) -> Health:
        """Return the same for the dimension of a call."""
        return self._health(self.lane_of(call))

    def is_shut_for(self, call: Call) -> bool:
        """Return True when nobody can serve a call before the end of a rest or a probe, if ever."""
        lane = self.lane_of(call)
        self.machine.expire(lane, clock.now())
        self.deliver()
        return lane.is_shut

    def _health(self, lane: Lane) -> Health:
        now = clock.now()
        if get_ident() == self.home.thread:
            self.machine.expire(lane, now)
            self.deliver()
        return lane.health(now)

    async def _wait(self, call: Call, max_wait: float | None, *, takes: bool) -> Waiter:
        self.move_in()
        machine, lane, now = self.machine, self.lane_of(call), clock.now()
        limit = self._limit(call, lane, now, max_wait)
        what = "queue" if lane.may_open_now else "cooldown"
        waiter = machine.park(lane, limit, key=call.key, priority=call.priority, takes=takes)
        self._arm()
        try:
            await park_until_granted(waiter)
        except BaseException:
            if not lane.abandon(waiter) and waiter.held is not None:
                waiter.held.candidate.member.counts.cancelled += 1
                self.give_back(waiter.held)
            raise
        finally:
            if call.notify is not None:
                call.emit(WaitEnded, stage=what, seconds=clock.now() - now)
        if waiter.state is not WaiterState.GRANTED:
            raise self.refuse(call, lane, "deadline" if lane.hope() is not None else _never(lane))
        return waiter

    def _limit(self, call: Call, lane: Lane, now: float, max_wait: float | None) -> float:
        limit = inf if max_wait is None else now + max_wait
        if call.deadline is not None:
            limit = min(limit, call.deadline - _BEFORE_DEADLINE)
        hope, most = lane.hope(), self.options.max_queue
        if hope is None:
            raise self.refuse(call, lane, _never(lane))
        if limit == inf or max_wait == 0:
            raise self.refuse(call, lane, "all_full" if lane.may_open_now else "all_cooling")
        if max(hope, now) >= limit:
            raise self.refuse(call, lane, "deadline")
        if most is not None and self.machine.queued >= most:
            raise self.refuse(call, lane, "queue_full")
        return limit

    def refuse(self, call: Call, lane: Lane, case: str) -> NoResourceError:
        """Return the error that says why nobody serves the call."""
        now = clock.now()
        hope = None if lane.may_open_now else lane.hope()
        back = None if hope is None else max(0.0, hope - now)
        call.emit(CallRejected, stage="rotation", error_type="NoResourceError", retry_after=back)
        why = _WHY.get(case, "")
        pool, policy = self.options.name, call.context.policy
        who = f"pool '{pool}'" if pool == policy else f"policy '{policy}', pool '{pool}'"
        return NoResourceError(
            f"{who}: no resource is ready{why}: {lane.why_not(now)}",
            retry_after=back,
            case=case,
        )


_WHY = {
    "deadline": " in the time that is left",
    "queue_full": " and the queue is full",
}


def _never(lane: Lane) -> str:
    return "all_disabled" if lane.candidates else "empty"


def _asked(how: Any, call: Call) -> Any:
    if how is None:
        return None
    return call.kwargs.get(how) if isinstance(how, str) else how(call)


def _checked(what: str, field: str, rule: Number, value: object) -> float:
    try:
        return rule.read(value)
    except ValueError:
        msg = f"lease.{what}: '{field}' must be {rule.allowed}; got {value!r}"
        raise ConfigError(msg) from None
