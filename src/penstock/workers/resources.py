"""The workers of a pool as resources: who serves next, and who has to wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.pools.administration import Administered
from penstock.pools.lease import Lease
from penstock.pools.options import PoolOptions

if TYPE_CHECKING:
    from penstock.call import Call

__all__ = ["Workers"]

T = TypeVar("T")


class Workers(Administered):
    """A pool of workers, each the ``Slot`` in a resource's value.

    Args:
        resources: The first workers.
        options: How they are picked, and rest.
        wanted: Told when a call has to wait because no worker is ready; None where nobody can help.
    """

    __slots__ = ("_wanted",)

    def __init__(
        self, resources: Any, options: PoolOptions, wanted: Callable[[], None] | None
    ) -> None:
        super().__init__(resources, options)
        self._wanted = wanted

    @property
    def waiting(self) -> int:
        """Calls under way that wait for a worker: those that are retried, above all."""
        return len(self.machine.main.waiting)

    async def wait_for_lease(self, call: Call, max_wait: float | None) -> Lease:
        """Lease a worker as soon as one is ready; see ``Leasing``."""
        if self._wanted is not None:
            # When it stands in line.
            asyncio.get_running_loop().call_soon(self._wanted)
        return await super().wait_for_lease(call, max_wait)

    def read(self, look: Callable[[], T]) -> T:
        """Return what ``look`` returns, called in the pool's loop."""
        return self._at_home(look)

    def withdraw(self, id: str, reason: str) -> None:  # noqa: A002 - as in the base class
        """Keep a worker from serving; nothing happens to one that was removed."""
        if id in self.machine.members:
            super().withdraw(id, reason)

    def restore(self, id: str, reason: str) -> None:  # noqa: A002 - as in the base class
        """End an absence of a worker; nothing happens to one that was removed."""
        if id in self.machine.members:
            super().restore(id, reason)

    def recall(self, id: str, reason: str) -> None:  # noqa: A002 - as in the base class
        """Take back leases on a worker that nobody has begun with; who comes for one waits on."""
        member = self.machine.members.get(id)
        for candidate in () if member is None else member.candidates:
            for lease in candidate.leases.values():
                if lease.call is None and lease.displaced is None:
                    lease.displaced = reason

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
