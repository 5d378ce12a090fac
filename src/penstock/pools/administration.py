"""What an administrator may do with a pool while calls go on, and what it tells about itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any, TypeVar

from penstock import clock
from penstock.errors import ConfigError
from penstock.options import Whole
from penstock.pools.candidate import Member
from penstock.pools.leasing import Leasing
from penstock.pools.options import PoolOptions
from penstock.pools.resource import Resource
from penstock.pools.stats import PoolStats, snapshot_of, stats_of

__all__ = ["Administered"]

R = TypeVar("R")

_CAP = Whole(1)

# Long enough for a loop that is busy; one that does not answer by then never will.
_PATIENCE = 10.0


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
        return snapshot_of(self.machine, self.options.name, clock.now())

    def stats(self) -> PoolStats:
        """Return gauges, and counters that never go back."""
        return stats_of(self.machine, clock.now())

    def _add(self, resource: Resource[Any]) -> Resource[Any]:
        if resource.id in self.machine.members:
            raise ConfigError(f"pool: resource {resource.id!r} is in the pool already")
        self.machine.add(resource, clock.now())
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
