"""What an administrator may do with a pool while calls go on, and what it tells about itself."""

from __future__ import annotations

from typing import Any

from penstock import clock
from penstock.errors import ConfigError
from penstock.options import Whole
from penstock.pools.candidate import Member
from penstock.pools.given import resource_of
from penstock.pools.leasing import Leasing
from penstock.pools.options import PoolOptions
from penstock.pools.resource import Resource
from penstock.pools.stats import PoolStats, snapshot_of, stats_of

__all__ = ["Administered"]

_CAP = Whole(1)

# Enough to see what ids look like here.
_MOST_NAMED = 5


class Administered(Leasing):
    """A pool whose resources come and go.

    Each method wakes whoever waits for what it brings, and whoever waits in vain from then on. They
    may be called from any thread: work is handed over to the loop that the pool lives in.
    """

    __slots__ = ()

    def add(
        self,
        resource: Any,
        id: str | None = None,  # noqa: A002 - its name
        *,
        away: str | None = None,
    ) -> Resource[Any]:
        """Take a resource in; it serves at once.

        Args:
            resource: A ``Resource``, or a value.
            id: Its id where a value is given; None names it by its place.
            away: Why it cannot serve yet, until ``restore`` of that reason; None where it can.

        Raises:
            ConfigError: The id is in the pool already or is not allowed, the resource has another
                one, or the value is None or an empty text.
        """
        made = resource_of(resource, "the resource to add")
        if id is not None:
            made.name(id)
        return self._at_home(lambda: self._add(made, away))

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

    def withdraw(self, id: str, reason: str) -> None:  # noqa: A002 - as above
        """Keep a resource from serving for the moment; whoever waits for it waits on.

        Several absences, each of a reason of its own, may overlap.

        Args:
            id: The resource's.
            reason: A short word, for ``restore``.

        Raises:
            KeyError: There is none of that id.
        """
        self._at_home(lambda: self.machine.withdraw(self._member(id), reason, clock.now()))

    def restore(self, id: str, reason: str) -> None:  # noqa: A002 - as above
        """End an absence of a resource.

        Raises:
            KeyError: There is none of that id.
        """
        self._at_home(lambda: self.machine.restore(self._member(id), reason, clock.now()))

    def displace(self, id: str, reason: str) -> None:  # noqa: A002 - as above
        """Cancel all uses of a resource that has gone; they are run again elsewhere.

        Args:
            id: The resource's.
            reason: A short word, for the error of those that cannot be run again.

        Raises:
            KeyError: There is none of that id.
        """
        self._at_home(lambda: self.machine.displace(self._member(id), reason))

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
        return snapshot_of(self.machine, self.options.name, clock.now())

    def stats(self) -> PoolStats:
        """Return gauges, and counters that never go back.

        From any thread; another one than the pool's waits for the next step of its loop.
        """
        return self._at_home(lambda: stats_of(self.machine, clock.now()))

    def _add(self, resource: Resource[Any], away: str | None) -> Resource[Any]:
        if resource.id is None:
            resource.name(self._free_id())
        if resource.id in self.machine.members:
            raise ConfigError(f"pool: resource {resource.id!r} is in the pool already")
        self.machine.add(resource, clock.now(), away=away)
        return resource

    def _free_id(self) -> str:
        place = len(self.machine.members) + 1
        while str(place) in self.machine.members:
            place += 1
        return str(place)

    def _member(self, id: str) -> Member:  # noqa: A002 - as above
        member = self.machine.members.get(id)
        if member is None:
            # Not what was asked for: a value in the place of its id would be a secret in an error.
            ids = [*self.machine.members]
            known = ", ".join(map(repr, ids[:_MOST_NAMED])) or "none"
            more = ", ..." if len(ids) > _MOST_NAMED else ""
            msg = f"pool '{self.options.name}' has no resource of that id; it has {known}{more}"
            raise KeyError(msg)
        return member
