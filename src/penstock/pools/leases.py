"""Leases on the resources of a pool: handed out, waited for, ended."""

from __future__ import annotations

from typing import Any

from penstock.pools.candidate import Candidate, Member, Standing
from penstock.pools.lane import Ask, Lane
from penstock.pools.lanes import Lanes
from penstock.pools.lease import Lease
from penstock.pools.resource import Resource
from penstock.waitlist import Waiter

__all__ = ["Leases"]

# Looked up on every call: an enum's member through its class costs more.
_READY = Standing.READY


class Leases(Lanes):
    """What callers of a pool ask for: a resource now, or a place in line."""

    def take(
        self, lane: Lane, key: str | None, now: float, last: Resource[Any] | None = None
    ) -> Lease | None:
        """Lease whoever serves next; None when nobody is ready.

        Args:
            lane: Who may serve.
            key: What calls that belong together share.
            now: Monotonic seconds.
            last: Who served the attempt before, and failed: another one is better where one is
                ready. Least in flight, a resource that fails fast would be picked again and again.
        """
        cooling = lane.cooling
        if cooling and cooling[0][0] <= now:
            self.expire(lane, now)
        candidate = lane.picker.pick(key, now)
        if candidate is None:
            return None
        if last is not None and candidate.resource is last:
            candidate = self._another(lane, candidate, key, now)
        return self._lease(candidate, now)

    def give_back(self, lease: Lease, now: float) -> None:
        """End a lease, whatever came of it; once it has ended, nothing happens."""
        candidate = lease.candidate
        if candidate.leases.pop(lease.serial, None) is None:
            return
        candidate.in_flight -= 1
        candidate.member.in_flight -= 1
        if lease.is_counted:
            candidate.member.outlived -= 1
        if candidate.standing is _READY:
            candidate.lane.picker.freed(candidate)
        else:
            self._come_free(lease, candidate, now)

    def outlive(self, lease: Lease) -> None:
        """Note that a use has been counted and may go on, in a thread that cannot be cancelled."""
        lease.is_counted = True
        lease.candidate.member.outlived += 1

    def park(
        self, lane: Lane, limit: float, *, key: str | None = None, priority: int, takes: bool
    ) -> Waiter:
        """Stand in line until ``limit``; only where nobody of the lane is ready."""
        self._asks += 1
        return lane.park(Ask(self._asks, limit, key, takes), priority)

    def expire(self, lane: Lane, now: float) -> None:
        """End the rests whose time has come, and the waiting of those whose time is up."""
        while (until := lane.next_return()) is not None and until <= now:
            candidate = lane.cooling[0][2]
            self._rules.expire(candidate)
            reason = "probe" if candidate.recovering else "rested"
            self._announce(candidate.member, "cooling", "ready", reason, lane=lane)
            self._refresh(candidate, now)
        self.news.extend(lane.give_up(now))

    def next_wake(self) -> float | None:
        """Return the monotonic second at which somebody who waits has to be looked after."""
        times = [
            time
            for lane in self.lanes.values()
            if (limit := lane.next_limit()) is not None
            for time in (limit, lane.next_return())
            if time is not None
        ]
        return min(times, default=None)

    def forfeit(self) -> None:
        """Forget every lease and every waiter: the loop that they lived in is gone."""
        for lane in self.lanes.values():
            lane.waiting.abandon_all()
            lane.at_gate.abandon_all()
        for member in self.members.values():
            self._forfeit(member)

    def _forfeit(self, member: Member) -> None:
        member.in_flight = member.outlived = 0
        for candidate in member.candidates:
            member.counts.cancelled += sum(
                not lease.is_counted for lease in candidate.leases.values()
            )
            candidate.in_flight, candidate.probe = 0, None
            candidate.leases.clear()
            if candidate.standing is _READY:
                candidate.lane.picker.freed(candidate)
            self._refresh(candidate, 0.0)

    def _another(self, lane: Lane, first: Candidate, key: str | None, now: float) -> Candidate:
        picker = lane.picker
        if picker.insists or lane.counts[_READY] == 1:
            return first
        picker.remove(first)
        other = picker.pick(key, now)
        picker.add(first)
        return other or first

    def _come_free(self, lease: Lease, candidate: Candidate, now: float) -> None:
        if candidate.probe is lease:
            candidate.probe = None
        member = candidate.member
        if len(member.candidates) == 1:
            self._refresh(member.candidates[0], now)
        else:
            self._refresh_all(member, now)
        # Uses of a removed resource count towards the cap of the one that took over its id.
        while (successor := member.successor) is not None:
            successor.in_flight -= 1
            self._refresh_all(successor, now)
            member = successor
