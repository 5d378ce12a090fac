"""How a pool decides: what the outcome of a use means for the resource."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.pools.candidate import Candidate, Standing
from penstock.pools.lease import Lease
from penstock.pools.picking.p2c_ewma import observed
from penstock.pools.roster import Roster

__all__ = ["PoolMachine"]

_ABLE = (Standing.READY, Standing.FULL, Standing.PROBING)


class PoolMachine(Roster):
    """A pool's resources, their health and their leases. Pure: ``now`` is an argument.

    It is built up in four steps, each a class of its own file: ``Lanes`` know who can serve,
    ``Leases`` hand resources out, the ``Roster`` says who is in the pool, and here the outcome of a
    use moves its resource.
    """

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
        mates = self._mates(candidate)
        if is_soft and not self._can_spare(mates):
            return
        for mate in mates:
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

    def _mates(self, candidate: Candidate) -> list[Candidate]:
        group = candidate.member.group
        if group is None:
            return [candidate]
        mates = [c for c in candidate.lane.candidates.values() if c.member.group == group]
        return mates if candidate in mates else [candidate, *mates]

    def _can_spare(self, mates: list[Candidate]) -> bool:
        counts: dict[Standing, int] = mates[0].lane.counts
        able = sum(counts[standing] for standing in _ABLE)
        serving = sum(mate.standing in _ABLE for mate in mates)
        return able - serving >= self._options.min_ready

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
        candidate.lane.rest(candidate, candidate.cooling_until)
        seconds = (candidate.cooling_until or now) - now
        old = "cooling" if was_cooling else "ready"
        self._announce(
            candidate.member, old, "cooling", reason, seconds=seconds, lane=candidate.lane
        )
        self._refresh(candidate, now)

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
