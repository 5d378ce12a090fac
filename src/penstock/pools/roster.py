"""The roster of a pool: who is in it, and what has become of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.pools.candidate import Candidate, Counts, Member, Standing
from penstock.pools.cooldown import CooldownRules
from penstock.pools.lease import Lease
from penstock.pools.leases import Leases
from penstock.pools.options import PoolOptions
from penstock.pools.picking.base import Picker
from penstock.pools.resource import Resource

__all__ = ["Roster", "standing_of", "unfinished_of", "uses_of"]


class Roster(Leases):
    """What an administrator of a pool may do.

    Args:
        owner: What leases are given as their pool.
        options: The pool's.
        make_picker: Makes a picker for each lane.
    """

    def __init__(self, owner: Any, options: PoolOptions, make_picker: Callable[[], Picker]) -> None:
        rules = CooldownRules(options.cooldown, probes=options.probe_on_recovery)
        super().__init__(owner, make_picker, rules)
        self._options = options
        self._orders = 0
        self._draining: list[Member] = []
        self._removed = Counts()
        self._removed_total = 0

    def add(self, resource: Resource[Any], now: float = 0.0, *, away: str | None = None) -> None:
        """Take a resource in, with a clean slate, last in order.

        Args:
            resource: With an id that nobody in the pool has.
            now: Monotonic seconds; while the pool is built nobody waits, and any time will do.
            away: Why it cannot serve yet; see ``withdraw``.
        """
        self._orders += 1
        group = resource.group
        if group is None and self._options.group is not None:
            group = self._options.group(resource)
        member = Member(resource, self._orders, group)
        if away is not None:
            member.away.add(away)
        for old in self._draining:
            if old.id == member.id and old.successor is None:
                old.successor = member
                member.in_flight = old.in_flight
        self.members[member.id] = member
        for lane in self.lanes.values():
            self._join(lane, member, now)

    def remove(self, member: Member, now: float) -> None:
        """Take a resource out for good; uses under way go on."""
        del self.members[member.id]
        member.is_removed = True
        for candidate in member.candidates:
            lane = candidate.lane
            self._refresh(candidate, now)
            lane.forget(candidate)
            self._give_up_hope(lane)
        self._draining.append(member)
        self._fold_drained()

    def enable(self, member: Member, now: float, reason: str | None) -> None:
        """Make a resource as new: neither disabled nor cooling, escalation at its start."""
        old = standing_of(member)
        member.disabled = None
        member.enabled_at = self.serial
        for candidate in member.candidates:
            self._rules.clear(candidate, self.serial)
        if old != "ready":
            self._announce(member, old, "ready", reason)
        self._refresh_all(member, now)

    def disable_member(self, member: Member, now: float, reason: str | None) -> None:
        """Take a resource out until it is enabled; uses under way go on."""
        self._disable(member, reason, now)

    def withdraw(self, member: Member, reason: str, now: float) -> None:
        """Keep a resource from serving until ``restore`` of the same reason; uses go on.

        Whoever waits for it waits on: it is expected back, unlike one that is disabled.
        """
        member.away.add(reason)
        for candidate in member.candidates:
            self._refresh(candidate, now)

    def restore(self, member: Member, reason: str, now: float) -> None:
        """End an absence; while there are others the resource stays away."""
        member.away.discard(reason)
        self._refresh_all(member, now)
        for candidate in member.candidates:
            if candidate.standing is Standing.COOLING:
                # Nobody waits for the end of a rest of one that is away, and it was let go of.
                candidate.lane.rest(candidate, candidate.cooling_until)

    def displace(self, member: Member, reason: str) -> None:
        """Cancel all uses of a resource that has gone; they are run again elsewhere."""
        for candidate in member.candidates:
            for lease in candidate.leases.values():
                if lease.displaced is None:
                    lease.displaced = reason
                    self.news.append(lease)

    def resize(self, member: Member, cap: int | None, now: float) -> None:
        """Change how many uses a resource takes at once."""
        member.cap = cap
        self._refresh_all(member, now)

    def forfeit(self) -> None:
        """Forget every lease and every waiter, those of removed resources too."""
        super().forfeit()
        for member in self._draining:
            self._forfeit(member)
        self._fold_drained()

    def totals(self) -> tuple[int, Counts]:
        """Return the uses and the counts of all resources, removed ones included."""
        self._fold_drained()
        total, counts = self._removed_total, Counts()
        counts.add(self._removed)
        for member in (*self.members.values(), *self._draining):
            total += uses_of(member)
            counts.add(member.counts)
        return total, counts

    def unfinished(self) -> int:
        """Return how many uses have not been counted yet, those of removed resources included."""
        return sum(map(unfinished_of, (*self.members.values(), *self._draining)))

    def _fold_drained(self) -> None:
        for member in [*self._draining]:
            if not member.in_flight:
                self._draining.remove(member)
                self._removed_total += uses_of(member)
                self._removed.add(member.counts)

    def _come_free(self, lease: Lease, candidate: Candidate, now: float) -> None:
        super()._come_free(lease, candidate, now)
        if candidate.member.is_removed:
            self._fold_drained()

    def _disable(self, member: Member, reason: str | None, now: float) -> None:
        if member.is_removed or member.disabled is not None:
            return
        old = standing_of(member)
        member.disabled = reason or "disabled"
        member.counts.disables += 1
        self._announce(member, old, "disabled", reason)
        for candidate in member.candidates:
            self._refresh(candidate, now)
            self._give_up_hope(candidate.lane)


def unfinished_of(member: Member) -> int:
    """Return how many uses of a resource have not been counted yet."""
    return sum(candidate.in_flight for candidate in member.candidates) - member.outlived


def uses_of(member: Member) -> int:
    """Return how often a resource has been leased."""
    return member.total + sum(candidate.total for candidate in member.candidates)


def standing_of(member: Member) -> str:
    """Return a resource's standing over all dimensions: resting in one of them is resting."""
    if member.disabled is not None:
        return "disabled"
    rests = any(candidate.cooling_until is not None for candidate in member.candidates)
    return "cooling" if rests else "ready"
