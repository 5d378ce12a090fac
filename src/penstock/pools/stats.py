"""What a pool tells about itself: plain data, never a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock.pools.candidate import Candidate, Counts, Member, Standing
from penstock.pools.machine import PoolMachine
from penstock.pools.roster import unfinished_of, uses_of

__all__ = ["PoolStats", "ResourceStats", "snapshot_of", "stats_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStats:
    """Gauges and counters of one resource; the counters never go back while it is in the pool.

    Attributes:
        id: The resource's id.
        standing: ``ready``, ``full``, ``probing``, ``cooling``, ``away`` or ``disabled``.
        in_flight: Uses under way.
        uses: Leases handed out.
        successes: Uses that ended well.
        failures: Uses that ended with a failure, the resource's fault or not.
        cancelled: Uses whose caller was cancelled, or whose event loop has gone.
        displaced: Uses that were cancelled because an older one lost the resource.
        cooldowns: Times it was sent to rest, an extended rest included.
        disables: Times it was taken out.
    """

    id: str
    standing: str
    in_flight: int
    uses: int
    successes: int
    failures: int
    cancelled: int
    displaced: int
    cooldowns: int
    disables: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Gauges and counters of a pool; the counters go on when a resource is removed.

    Attributes:
        total: Resources in the pool.
        by_standing: Resources by ``ready``, ``full``, ``probing``, ``cooling``, ``away`` and
            ``disabled``.
        in_flight: Uses under way, those of removed resources not included.
        waiting: Calls that wait for a resource.
        uses: Leases handed out.
        successes: Uses that ended well.
        failures: Uses that ended with a failure.
        cancelled: Uses whose caller was cancelled.
        displaced: Uses that were cancelled because an older one lost the resource.
        cooldowns: Rests begun or made longer.
        disables: Resources taken out.
        resources: The same for each resource.
    """

    total: int
    by_standing: dict[str, int]
    in_flight: int
    waiting: int
    uses: int
    successes: int
    failures: int
    cancelled: int
    displaced: int
    cooldowns: int
    disables: int
    resources: tuple[ResourceStats, ...]


def snapshot_of(machine: PoolMachine, name: str, now: float) -> dict[str, Any]:
    """Return a pool's live state as a plain dict that JSON can hold."""
    members = [*machine.members.values()]
    return {
        "pool": name,
        "waiting": machine.queued,
        "resources": {member.id: _shown(member, now) for member in members},
    }


def stats_of(machine: PoolMachine, now: float) -> PoolStats:
    """Return a pool's gauges and counters."""
    resources = tuple(_stats_of(member, now) for member in [*machine.members.values()])
    uses, counts = machine.totals()
    by_standing = {standing.value: 0 for standing in Standing}
    for resource in resources:
        by_standing[resource.standing] += 1
    return PoolStats(
        total=len(resources),
        by_standing=by_standing,
        in_flight=sum(resource.in_flight for resource in resources),
        waiting=machine.queued,
        resources=resources,
        **_counters(uses, counts, machine.unfinished()),
    )


def _shown(member: Member, now: float) -> dict[str, Any]:
    shown = _state_of([*member.candidates], member, now)
    # Those of lanes that were dropped included.
    shown["uses"] = uses_of(member)
    dimensions = {
        str(candidate.lane.dimension): _state_of([candidate], member, now)
        for candidate in [*member.candidates]
        if candidate.lane.dimension is not None
    }
    if dimensions:
        shown["dimensions"] = dimensions
    return shown


def _state_of(candidates: list[Candidate], member: Member, now: float) -> dict[str, Any]:
    rests = [c.cooling_until - now for c in candidates if c.cooling_until is not None]
    cooling_for = max(0.0, *rests) if rests else 0.0
    return {
        "standing": _standing(candidates, member, now),
        "in_flight": sum(c.in_flight for c in candidates),
        "uses": sum(c.total for c in candidates),
        "level": max((c.level for c in candidates), default=0),
        "cooling_for": cooling_for,
        "recovering": any(c.recovering for c in candidates),
        "remaining": next((c.remaining for c in candidates if c.remaining is not None), None),
        "max_in_flight": member.cap,
        "disabled": member.disabled,
    }


def _standing(candidates: list[Candidate], member: Member, now: float) -> str:
    if member.disabled is not None:
        return "disabled"
    if member.away:
        return "away"
    if any(c.cooling_until is not None and c.cooling_until > now for c in candidates):
        return "cooling"
    if member.cap is not None and member.in_flight >= member.cap:
        return "full"
    return "probing" if any(c.probe is not None for c in candidates) else "ready"


def _stats_of(member: Member, now: float) -> ResourceStats:
    candidates = [*member.candidates]
    in_flight = sum(candidate.in_flight for candidate in candidates)
    return ResourceStats(
        id=member.id,
        standing=_standing(candidates, member, now),
        in_flight=in_flight,
        **_counters(uses_of(member), member.counts, unfinished_of(member)),
    )


def _counters(uses: int, counts: Counts, unfinished: int) -> dict[str, int]:
    told = {name: getattr(counts, name) for name in Counts.__slots__}
    # What has neither failed nor ended otherwise, and has ended, went well.
    ended_badly = counts.failures + counts.cancelled + counts.displaced
    return {"uses": uses, "successes": uses - unfinished - ended_badly, **told}
