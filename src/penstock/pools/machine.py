"""How a pool decides: what an outcome means for a resource, and what an administrator may do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from penstock.pools.candidate import Candidate, Counts, Member, Standing
from penstock.pools.cooldown import CooldownRules
from penstock.pools.lanes import Lanes
from penstock.pools.lease import Lease
from penstock.pools.options import PoolOptions
from penstock.pools.picking.base import Picker
from penstock.pools.picking.p2c_ewma import observed
from penstock.pools.resource import Resource

__all__ = ["PoolMachine"]


class PoolMachine(Lanes):
    """A pool's resources, their health and their leases. Pure: ``now`` is an argument.

    Args:
        owner: What leases are given as their pool.
        options: The pool's.
        make_picker: Makes a picker for each lane.
    """

    def __init__(
        self,
        owner: Any,
        options: PoolOptions,
        make_picker: Callable[[], Picker],
    ) -> None:
        rules = CooldownRules(options.cooldown, probes=options.probe_on_recovery)
        super().__init__(owner, make_picker, rules)
        self._options = options
        self._orders = 0
        self._draining: list[Member] = []
        self._removed = Counts()
        self._removed_total = 0

    # --- what an attempt has shown ------------------------------------------------------------

    def heal(self, lease: Lease, now: float) -> None:
        """Take a success as a sign of health, if the use began after the last cooldown."""
        candidate = lease.candidate
        if self._rules.heal(candidate, lease.serial):
            self._refresh(candidate, now)

    def cool(
        self,
        lease: Lease,
        now: float,
        seconds: float | None,
        reason: str | None,
        *,
        is_soft: bool = False,
    ) -> None:
        """Let the resource of a failed use rest, with all of its group.

        Args:
            lease: The use that failed, or that says so itself.
            now: Monotonic seconds.
            seconds: How long, finite and at least 0; None takes the escalation table.
            reason: A short word for events.
            is_soft: True where the failure need not be the resource's: then ``min_ready`` resources
                are kept.
        """
        candidate = lease.candidate
        if is_soft and not self._can_spare(candidate):
            return
        for mate in self._mates(candidate):
            self._cool(mate, lease, now, seconds, reason)
        self._give_up_hope(candidate.lane)

    def disable(self, lease: Lease, now: float, reason: str | None, *, with_group: bool) -> None:
        """Take the resource of a refused use out, in all dimensions, and maybe its group."""
        candidate = lease.candidate
        for mate in self._mates(candidate) if with_group else [candidate]:
            member = mate.member
            if lease.serial > member.enabled_at:
                self._disable(member, reason, now)
                self._displace(member.candidates, lease, reason)

    def report(
        self, lease: Lease, now: float, remaining: float | None, resets_in: float | None
    ) -> None:
        """Note what is left of a quota; with less than one call left, rest until it is back."""
        candidate = lease.candidate
        candidate.remaining = remaining
        candidate.resets_at = None if resets_in is None else now + resets_in
        if candidate.standing is Standing.READY:
            candidate.lane.picker.rated(candidate)
        if remaining is not None and remaining < 1 and resets_in:
            for mate in self._mates(candidate):
                self._rest_until(mate, now + resets_in, now, "quota")
            self._give_up_hope(candidate.lane)

    def observe(self, lease: Lease, seconds: float, now: float) -> None:
        """Note how long a use took, or what its failure counts as."""
        candidate = lease.candidate
        observed(candidate, seconds, now)
        if candidate.standing is Standing.READY:
            candidate.lane.picker.rated(candidate)

    # --- administration -----------------------------------------------------------------------

    def add(self, resource: Resource[Any]) -> None:
        """Take a resource in, with a clean slate, last in order."""
        self._orders += 1
        group = resource.group
        if group is None and self._options.group is not None:
            group = self._options.group(resource)
        member = Member(resource, self._orders, group)
        for old in self._draining:
            if old.id == member.id and old.successor is None:
                old.successor = member
                member.in_flight = old.in_flight
        self.members[member.id] = member
        for lane in self.lanes.values():
            self._join(lane, member)

    def remove(self, member: Member, now: float) -> None:
        """Take a resource out for good; uses under way go on."""
        del self.members[member.id]
        member.is_removed = True
        for candidate in member.candidates:
            lane = candidate.lane
            self._refresh(candidate, now)
            lane.counts[candidate.standing] -= 1
            del lane.candidates[member.id]
            self._give_up_hope(lane)
        self._look_for_shut()
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

    def resize(self, member: Member, cap: int | None, now: float) -> None:
        """Change how many uses a resource takes at once."""
        member.cap = cap
        self._refresh_all(member, now)

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
        """Return how many uses are under way, those of removed resources included."""
        return sum(
            candidate.in_flight
            for member in (*self.members.values(), *self._draining)
            for candidate in member.candidates
        )

    def _fold_drained(self) -> None:
        for member in [*self._draining]:
            if not any(candidate.leases for candidate in member.candidates):
                self._draining.remove(member)
                self._removed_total += uses_of(member)
                self._removed.add(member.counts)

    # --- how it is done -----------------------------------------------------------------------

    def _mates(self, candidate: Candidate) -> Iterable[Candidate]:
        group = candidate.member.group
        if group is None:
            return [candidate]
        mates = [c for c in candidate.lane.candidates.values() if c.member.group == group]
        return mates if candidate in mates else [candidate, *mates]

    def _can_spare(self, candidate: Candidate) -> bool:
        counts: dict[Standing, int] = candidate.lane.counts
        able = counts[Standing.READY] + counts[Standing.FULL]
        serves = candidate.standing in (Standing.READY, Standing.FULL)
        return able - serves >= self._options.min_ready

    def _cool(
        self,
        candidate: Candidate,
        lease: Lease,
        now: float,
        seconds: float | None,
        reason: str | None,
    ) -> None:
        member = candidate.member
        if member.is_removed or member.disabled is not None:
            return
        is_news = lease.serial > candidate.cooled_at
        was_cooling = candidate.cooling_until is not None
        longer = self._rules.cool(candidate, now, lease.serial, self.serial, seconds)
        if longer:
            self._begin_rest(candidate, now, reason, was_cooling=was_cooling)
        if is_news:
            self._displace([candidate], lease, reason)

    def _rest_until(self, candidate: Candidate, until: float, now: float, reason: str) -> None:
        member = candidate.member
        was_cooling = candidate.cooling_until is not None
        if member.is_removed or member.disabled is not None:
            return
        if self._rules.rest(candidate, until):
            self._begin_rest(candidate, now, reason, was_cooling=was_cooling)

    def _begin_rest(
        self, candidate: Candidate, now: float, reason: str | None, *, was_cooling: bool
    ) -> None:
        candidate.member.counts.cooldowns += 1
        self._rest(candidate)
        seconds = (candidate.cooling_until or now) - now
        old = "cooling" if was_cooling else "ready"
        self._announce(
            candidate.member, old, "cooling", reason, seconds=seconds, lane=candidate.lane
        )
        self._refresh(candidate, now)

    def _disable(self, member: Member, reason: str | None, now: float) -> None:
        if member.disabled is not None:
            return
        old = standing_of(member)
        member.disabled = reason or "disabled"
        member.counts.disables += 1
        if not member.is_removed:
            self._announce(member, old, "disabled", reason)
        for candidate in member.candidates:
            self._refresh(candidate, now)
            self._give_up_hope(candidate.lane)

    def _displace(
        self, candidates: Iterable[Candidate], culprit: Lease, reason: str | None
    ) -> None:
        if not self._options.cancel_younger:
            return
        for candidate in candidates:
            for serial in reversed([*candidate.leases]):
                if serial <= culprit.serial:
                    break
                lease = candidate.leases[serial]
                if lease.displaced is None:
                    lease.displaced = reason or "cooldown"
                    self.news.append(lease)


def uses_of(member: Member) -> int:
    """Return how often a resource has been leased."""
    return member.total + sum(candidate.total for candidate in member.candidates)


def standing_of(member: Member) -> str:
    """Return a resource's standing over all dimensions: resting in one of them is resting."""
    if member.disabled is not None:
        return "disabled"
    rests = any(candidate.cooling_until is not None for candidate in member.candidates)
    return "cooling" if rests else "ready"
