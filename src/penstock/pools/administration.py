"""What an administrator may do with a pool while calls go on, and what it tells about itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from penstock import clock
from penstock.errors import ConfigError
from penstock.options import Whole
from penstock.pools.candidate import Candidate, Counts, Member, Standing
from penstock.pools.leasing import Leasing
from penstock.pools.machine import uses_of
from penstock.pools.options import PoolOptions
from penstock.pools.resource import Resource

__all__ = ["Administered", "PoolStats", "ResourceStats"]

R = TypeVar("R")

_CAP = Whole(1)

# Long enough for a loop that is busy; one that does not answer by then never will.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStats:
    """Gauges and counters of one resource; the counters never go back while it is in the pool.

    Attributes:
        id: The resource's id.
        standing: ``ready``, ``full``, ``cooling`` or ``disabled``.
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
        by_standing: Resources by ``ready``, ``full``, ``cooling`` and ``disabled``; all four.
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


class Administered(Leasing):
    """A pool whose resources come and go.

    Each method wakes whoever waits for what it brings, and whoever waits in vain from then on. They
    may be called from any thread: work is handed over to the loop that the pool lives in.
    """

    __slots__ = ()

    def add(self, resource: Any, id: str | None = None) -> Resource[Any]:  # noqa: A002 - its name
        """Take a resource in; it serves at once.

        Args:
            resource: A ``Resource``, or a value.
            id: Its id where a value is given; None names it by its place.

        Raises:
            ConfigError: The id is in the pool already, or is not allowed.
        """
        made: Resource[Any] = resource if _is_resource(resource) else Resource(resource, id)
        if made.id is None:
            made.name(self._free_id())
        return self._at_home(lambda: self._add(made))

    def remove(self, id: str) -> None:  # noqa: A002 - the word of the field
        """Take a resource out for good; uses under way go on to their end.

        Raises:
            KeyError: There is none of that id.
        """
        self._at_home(lambda: self.machine.remove(self._member(id), clock.now()))

    def enable(self, id: str, reason: str | None = "enabled") -> None:  # noqa: A002 - as above
        """Make a resource as new: neither disabled nor cooling, escalation at its start.

        Raises:
            KeyError: There is none of that id.
        """
        self._at_home(lambda: self.machine.enable(self._member(id), clock.now(), reason))

    def disable(self, id: str, reason: str | None = "disabled") -> None:  # noqa: A002 - as above
        """Take a resource out until it is enabled; uses under way go on to their end.

        Args:
            id: The resource's.
            reason: A short word for events and snapshots; never a secret.

        Raises:
            KeyError: There is none of that id.
        """
        self._at_home(lambda: self.machine.disable_member(self._member(id), clock.now(), reason))

    def resize(self, id: str, max_in_flight: int | None) -> None:  # noqa: A002 - as above
        """Change how many uses a resource takes at once; a lower cap cuts nobody off.

        Raises:
            KeyError: There is none of that id.
            ConfigError: The cap is neither None nor a whole number of at least 1.
        """
        if max_in_flight is not None:
            try:
                _CAP.read(max_in_flight)
            except ValueError:
                allowed = f"{_CAP.allowed}, or None"
                raise PoolOptions.refuse("max_in_flight", max_in_flight, allowed) from None
        self._at_home(lambda: self.machine.resize(self._member(id), max_in_flight, clock.now()))

    def fresh(self) -> Administered:
        """Return a pool of the same resources and options with new state."""
        return Administered([m.resource for m in self.machine.members.values()], self.options)

    def snapshot(self) -> dict[str, Any]:
        """Return the live state as a plain dict that JSON can hold; never a value.

        From any thread, at any time. A rest that is over counts as over, noticed or not.
        """
        now = clock.now()
        members = [*self.machine.members.values()]
        return {
            "pool": self.options.name,
            "waiting": self.machine.queued,
            "resources": {member.id: _shown(member, now) for member in members},
        }

    def stats(self) -> PoolStats:
        """Return gauges, and counters that never go back."""
        now = clock.now()
        resources = tuple(_stats_of(member, now) for member in [*self.machine.members.values()])
        uses, counts = self.machine.totals()
        by_standing = {standing.value: 0 for standing in Standing}
        for resource in resources:
            by_standing[resource.standing] += 1
        return PoolStats(
            total=len(resources),
            by_standing=by_standing,
            in_flight=sum(resource.in_flight for resource in resources),
            waiting=self.machine.queued,
            resources=resources,
            **_counters(uses, counts, self.machine.unfinished()),
        )

    def _add(self, resource: Resource[Any]) -> Resource[Any]:
        if resource.id in self.machine.members:
            raise ConfigError(f"pool: resource {resource.id!r} is in the pool already")
        self.machine.add(resource)
        return resource

    def _free_id(self) -> str:
        place = len(self.machine.members) + 1
        while str(place) in self.machine.members:
            place += 1
        return str(place)

    def _member(self, id: str) -> Member:  # noqa: A002 - as above
        member = self.machine.members.get(id)
        if member is None:
            raise KeyError(f"pool '{self.options.name}' has no resource {id!r}")
        return member

    def _at_home(self, change: Callable[[], R]) -> R:
        loop = self.home.loop
        if loop is None or not loop.is_running() or _runs_here(loop):
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


def _is_resource(given: object) -> bool:
    return isinstance(given, Resource)


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    return asyncio._get_running_loop() is loop  # noqa: SLF001 - documented for asyncio libraries


def _shown(member: Member, now: float) -> dict[str, Any]:
    shown = _state_of([*member.candidates], member, now)
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
    if any(c.cooling_until is not None and c.cooling_until > now for c in candidates):
        return "cooling"
    full = member.cap is not None and member.in_flight >= member.cap
    return "full" if full else "ready"


def _stats_of(member: Member, now: float) -> ResourceStats:
    candidates = [*member.candidates]
    in_flight = sum(candidate.in_flight for candidate in candidates)
    return ResourceStats(
        id=member.id,
        standing=_standing(candidates, member, now),
        in_flight=in_flight,
        **_counters(uses_of(member), member.counts, in_flight),
    )


def _counters(uses: int, counts: Counts, unfinished: int) -> dict[str, int]:
    told = {name: getattr(counts, name) for name in Counts.__slots__}
    # What has neither failed nor ended otherwise, and has ended, went well.
    ended_badly = counts.failures + counts.cancelled + counts.displaced
    return {"uses": uses, "successes": uses - unfinished - ended_badly, **told}
