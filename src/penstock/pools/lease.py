"""Lease: one attempt's hold on a resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.pools.resource import Resource

if TYPE_CHECKING:
    import asyncio

    from penstock.call import Call
    from penstock.pools.candidate import Candidate

__all__ = ["Lease"]


class Lease:
    """One use of a resource, from its picking to the end of the attempt.

    ``current_lease()`` returns it inside an operation, which can tell the pool something without
    raising: that the resource must rest, is refused, or how much of its quota is left.

    Attributes:
        resource: The resource in use.
        serial: Number of this use in its pool, from 1, never used twice.
        candidate: The record of the resource in the pool.
        began: Monotonic second in which it was leased.
        displaced: Why the attempt has to end; None while it may go on.
        is_counted: True once its outcome is known, though a thread may still be at work.
        is_cancelled: True while the cancel of a displaced attempt is on its way.
        call: Whose attempt it is; None where a caller holds it without one.
        task: What runs the attempt.
        cancelling: That task's count of cancel requests when the attempt began.
    """

    __slots__ = (
        "began",
        "call",
        "cancelling",
        "candidate",
        "displaced",
        "is_cancelled",
        "is_counted",
        "pool",
        "serial",
        "task",
    )

    def __init__(self, pool: Any, candidate: Candidate, serial: int, began: float) -> None:
        self.pool = pool
        self.candidate = candidate
        self.serial = serial
        self.began = began
        self.displaced: str | None = None
        self.is_cancelled = False
        self.is_counted = False
        self.call: Call | None = None
        self.task: asyncio.Task[Any] | None = None
        self.cancelling = 0

    @property
    def resource(self) -> Resource[Any]:
        """The resource in use."""
        return self.candidate.resource

    def begin(self, call: Call, task: asyncio.Task[Any] | None) -> None:
        """Be the lease of a call's attempt, run by ``task``."""
        self.call = call
        call.lease, call.resource = self, self.candidate.resource
        if task is not None:
            self.task, self.cancelling = task, task.cancelling()

    def take_back_cancel(self) -> bool:
        """Withdraw the cancel of a displaced attempt; False where somebody else cancels it too."""
        task, self.is_cancelled = self.task, False
        # As asyncio.timeout does: it was ours alone if the count is back where it began.
        return task is not None and task.uncancel() <= self.cancelling

    @property
    def is_active(self) -> bool:
        """True until the attempt has ended and the resource was given back."""
        return self.serial in self.candidate.leases

    def cooldown(self, seconds: float | None = None, reason: str | None = None) -> None:
        """Rest the resource from now on; this use goes on, younger ones begin again elsewhere.

        Args:
            seconds: How long, finite and at least 0; None takes the pool's escalation table.
            reason: A short word for events and snapshots; never a secret.

        Raises:
            ConfigError: ``seconds`` is negative, NaN or infinite.
        """
        self.pool.cool_lease(self, seconds, reason)

    def disable(self, reason: str | None = None) -> None:
        """Take the resource out until somebody enables it; this use goes on.

        Args:
            reason: A short word for events and snapshots; never a secret.
        """
        self.pool.disable_lease(self, reason)

    def report(
        self,
        remaining: float | None = None,
        resets_in: float | None = None,
        *,
        headers: object = None,
    ) -> None:
        """Tell the pool what the service says is left of this resource's quota.

        With nothing left the resource rests until its quota is back. That is no failure: nothing
        escalates, and uses under way go on.

        Args:
            remaining: Calls (or what the service counts) that are left, at least 0.
            resets_in: Seconds until there is more, at least 0; None where the service does not say.
            headers: An answer's headers, of any kind, instead of the two numbers; the counter with
                the least left of its limit counts, and headers that say nothing change nothing.

        Raises:
            ConfigError: A number is negative, NaN or infinite.
        """
        self.pool.report_lease(self, remaining, resets_in, headers)

    def __repr__(self) -> str:
        state = "active" if self.is_active else "ended"
        return f"<Lease {self.serial} of {self.resource.id!r}, {state}>"
