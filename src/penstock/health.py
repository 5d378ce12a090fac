"""What a pool of resources tells the stages further out, so that none works in vain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from penstock.call import Call

__all__ = ["Gate", "Health"]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a pool can serve, and if not, when.

    Attributes:
        ready: Resources that could serve a call now.
        total: Resources in the pool.
        earliest_ready_in: Seconds until one can serve: 0.0 where one is ready, or full and may come
            free any moment; None where nobody knows a time (all are disabled, or there is none).
        reason: Why none is ready, in words; ``"ready"`` where one is.
    """

    ready: int
    total: int
    earliest_ready_in: float | None
    reason: str


class Gate(Protocol):
    """What stands innermost where a policy rotates, as the other stages see it."""

    @property
    def state(self) -> Any:
        """What says, in its attribute ``is_shut``, that some calls cannot be served now.

        It may be True too often (a rest that has ended unnoticed) and is never False too often.
        """
        ...

    def is_shut_for(self, call: Call) -> bool:
        """Return True when nobody can serve this call before the end of a rest or a probe."""
        ...

    def health_for(self, call: Call) -> Health:
        """Return whether and when this call can be served."""
        ...

    async def wait_until_open(self, call: Call, max_wait: float | None = None) -> None:
        """Wait until this call can be served, holding nothing; at most ``max_wait`` seconds.

        Raises:
            NoResourceError: It cannot be before the call's time is up.
        """
        ...
