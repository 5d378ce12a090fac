"""Who of a pool can serve at the moment, and handing that on to those who wait."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from penstock.pools.candidate import Candidate, Member, Standing
from penstock.pools.cooldown import CooldownRules
from penstock.pools.lane import Lane
from penstock.pools.lease import Lease
from penstock.pools.news import Change
from penstock.pools.picking.base import Picker
from penstock.waitlist import Waiter

__all__ = ["Lanes", "News"]

News = Waiter | Lease | Change

READY, FULL, PROBING, COOLING, AWAY, DISABLED = Standing

# Models, regions, tenants: a pool that is told apart by more than this is told apart by something
# that never repeats, and must not grow for ever. Lanes in which nothing is going on are dropped.
_MOST_LANES = 1000


class Lanes:
    """Resources, their leases, and who waits for one. Pure: it neither waits nor knows the time.

    A resource can be ready for one dimension and rest for another: each dimension has a lane of its
    own, and most pools have one lane. A lane in which somebody is ready has nobody waiting.

    Attributes:
        members: The resources by id, in the order in which they were added.
        lanes: By dimension.
        main: The lane of calls without a dimension.
        serial: Number of the latest lease.
        is_shut: True while some lane can serve nobody before the end of a rest or of a probe, or
            before one that is away has come back.
        news: What has to be told, in order: a waiter that was served (``held`` is its lease) or
            taken out in vain, a lease whose attempt must be cancelled, a change of standing.
            Whoever calls takes it from here.
    """

    def __init__(self, owner: Any, make_picker: Callable[[], Picker], rules: CooldownRules) -> None:
        self._owner = owner
        self._make_picker = make_picker
        self._rules = rules
        self._asks = 0
        self._changes = 0
        self.members: dict[str, Member] = {}
        self.lanes: dict[Hashable, Lane] = {}
        self.serial = 0
        self.is_shut = False
        self.news: list[News] = []
        self.main = self.lane_for()

    @property
    def queued(self) -> int:
        """How many wait, at the gate and for a lease."""
        # A copy: another thread may ask while a lane is added.
        return sum(len(lane.waiting) + len(lane.at_gate) for lane in [*self.lanes.values()])

    def lane_for(self, dimension: Hashable = None, origin: str | None = None) -> Lane:
        """Return the lane of a dimension, made when it is first asked for.

        Args:
            dimension: What health is kept apart by; None for nothing.
            origin: Where the calls go, for resources that are not meant for everywhere; None where
                nobody says.
        """
        place = dimension if origin is None else (dimension, origin)
        lane = self.lanes.get(place)
        if lane is None:
            if len(self.lanes) >= _MOST_LANES:
                self._drop_idle_lanes()
            lane = self.lanes[place] = Lane(place, self._make_picker(), origin)
            for member in self.members.values():
                self._join(lane, member)
            self._look_for_shut()
        return lane

    def _lease(self, candidate: Candidate, now: float) -> Lease:
        self.serial = serial = self.serial + 1
        member = candidate.member
        lease = candidate.leases[serial] = Lease(self._owner, candidate, serial, now)
        candidate.last_used = serial
        candidate.total += 1
        candidate.in_flight += 1
        member.in_flight += 1
        if candidate.remaining:
            candidate.remaining = max(0.0, candidate.remaining - 1)
        if candidate.recovering:
            candidate.probe = lease
            self._refresh(candidate, now)
        if member.in_flight == member.cap:
            if candidate.standing is READY and len(member.candidates) == 1:
                self._fill(candidate)
                return lease
            self._refresh_all(member, now)
        if candidate.standing is READY:
            candidate.lane.picker.used(candidate)
        return lease

    def _fill(self, candidate: Candidate) -> None:
        # From ready to full, as every use of a worker for one call at a time goes: a full one shuts
        # no lane, and nobody is waiting whom it concerns.
        lane: Lane = candidate.lane
        lane.counts[READY] -= 1
        lane.counts[FULL] += 1
        candidate.standing = FULL
        lane.picker.remove(candidate)

    def _standing_of(self, candidate: Candidate) -> Standing:
        member = candidate.member
        if member.is_removed or member.disabled is not None:
            return DISABLED
        if member.away:
            return AWAY
        if candidate.cooling_until is not None:
            return COOLING
        if member.cap is not None and member.in_flight >= member.cap:
            return FULL
        return PROBING if candidate.recovering and candidate.probe is not None else READY

    def _refresh_all(self, member: Member, now: float) -> None:
        candidates = member.candidates
        if len(candidates) > 1:
            # What comes free goes to whoever has waited longest, in whichever lane.
            candidates = sorted(candidates, key=_turn)
        for candidate in candidates:
            self._refresh(candidate, now)

    def _refresh(self, candidate: Candidate, now: float) -> None:
        old, new = candidate.standing, self._standing_of(candidate)
        if old is new:
            return
        lane: Lane = candidate.lane
        lane.counts[old] -= 1
        lane.counts[new] += 1
        candidate.standing = new
        if old is READY:
            lane.picker.remove(candidate)
        elif new is READY or new is FULL:
            if new is READY:
                lane.picker.add(candidate)
            if lane.waiting or lane.at_gate:
                self._serve(lane, now)
            if lane.on_ready is not None and candidate.standing is READY:
                lane.on_ready()
            if old is FULL and new is READY:
                # Neither of the two shuts a lane.
                return
        if lane.is_shut != self.is_shut:
            self._look_for_shut()

    def _serve(self, lane: Lane, now: float) -> None:
        while (waiter := lane.at_gate.grant()) is not None:
            self.news.append(waiter)
        while (head := lane.waiting.head()) is not None:
            candidate = lane.picker.pick(head.cost.key, now)
            if candidate is None:
                return
            lane.waiting.grant()
            head.held = self._lease(candidate, now)
            self.news.append(head)

    def _give_up_hope(self, lane: Lane) -> None:
        # Whoever cannot be served before their time is up is told now, not then.
        if lane.is_shut:
            self.news.extend(lane.give_up(lane.hope()))

    def _look_for_shut(self) -> None:
        self.is_shut = any(lane.is_shut for lane in self.lanes.values())

    def _join(self, lane: Lane, member: Member, now: float = 0.0) -> None:
        if lane.origin is not None and not member.resource.is_for(lane.origin):
            return
        candidate = Candidate(member, member.order, lane)
        member.candidates.append(candidate)
        lane.candidates[member.id] = candidate
        lane.counts[candidate.standing] += 1
        self._refresh(candidate, now)

    def _drop_idle_lanes(self) -> None:
        for dimension, lane in [*self.lanes.items()]:
            if lane.is_idle and lane is not self.main:
                del self.lanes[dimension]
                for candidate in lane.candidates.values():
                    candidate.member.total += candidate.total
                    candidate.member.candidates.remove(candidate)

    def _announce(  # noqa: PLR0913 - the fields of a record
        self,
        member: Member,
        old: str,
        new: str,
        reason: str | None,
        *,
        seconds: float | None = None,
        lane: Lane | None = None,
    ) -> None:
        self._changes += 1
        change = Change(
            seq=self._changes,
            resource=member.id,
            old=old,
            new=new,
            reason=reason or "",
            seconds=seconds,
            dimension=None if lane is None else lane.dimension,
        )
        self.news.append(change)


def _turn(candidate: Candidate) -> tuple[int, int]:
    head = candidate.lane.waiting.head()
    return (0, 0) if head is None else (-head.priority, head.cost.serial)
