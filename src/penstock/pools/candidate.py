"""What a pool knows of its resources: the records that its machine moves and pickers read."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from penstock.pools.resource import Resource

if TYPE_CHECKING:
    from penstock.pools.lane import Lane
    from penstock.pools.lease import Lease

__all__ = ["Candidate", "Member", "Standing"]


class Standing(enum.Enum):
    """Whether a resource can serve, and if not, why; the values are the words in snapshots."""

    # Members are singletons. Enum's own hash is a Python function.
    __hash__ = object.__hash__

    READY = "ready"
    FULL = "full"
    PROBING = "probing"
    COOLING = "cooling"
    AWAY = "away"
    DISABLED = "disabled"


class Member:
    """One resource in its pool, whatever it is asked for.

    Attributes:
        resource: The resource.
        id: Its id.
        cap: Most uses at once; None for no bound.
        in_flight: Uses under way, those of a removed resource of the same id included.
        outlived: How many of them are counted already: their caller has left, their thread has not.
        group: Members of one group cool down together; None for none.
        disabled: Why it is out until somebody enables it; None while it is not.
        away: Why it cannot serve for the moment (a worker that starts, say); empty while it can.
        enabled_at: Serial number of the latest use when it was last enabled.
        candidates: What it is to each lane of the pool.
        successor: Who took over its id after it was removed.
        is_removed: True once it has been taken out; uses under way go on.
        counts: What has happened to it.
        total: Uses so far.
    """

    __slots__ = (
        "away",
        "candidates",
        "cap",
        "counts",
        "disabled",
        "enabled_at",
        "group",
        "id",
        "in_flight",
        "is_removed",
        "order",
        "outlived",
        "resource",
        "successor",
        "total",
    )

    def __init__(self, resource: Resource[Any], order: int, group: str | None) -> None:
        self.resource = resource
        self.id: str = resource.id or ""
        self.order = order
        self.group = group
        self.cap = resource.max_in_flight
        self.in_flight = 0
        self.outlived = 0
        self.disabled: str | None = None
        self.away: set[str] = set()
        self.enabled_at = 0
        self.candidates: list[Candidate] = []
        self.successor: Member | None = None
        self.is_removed = False
        self.counts = Counts()
        self.total = 0


class Counts:
    """What has happened to a resource so far; none of it ever goes back.

    Successes are what is left of the uses: counting them would cost every call.

    Attributes:
        failures: Uses that ended with a failure, the resource's fault or not.
        cancelled: Uses whose caller was cancelled, or whose event loop has gone.
        displaced: Uses that were cancelled because an older one lost the resource.
        cooldowns: Times it was sent to rest, an extended rest included.
        disables: Times it was taken out.
    """

    __slots__ = ("cancelled", "cooldowns", "disables", "displaced", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self.cancelled = 0
        self.displaced = 0
        self.cooldowns = 0
        self.disables = 0

    def add(self, other: Counts) -> None:
        """Add what another one has counted."""
        for name in Counts.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Candidate:
    """One resource as one lane of its pool (one model, say) sees it.

    Pickers read the public attributes and keep what they need in ``key`` and ``place``.

    Attributes:
        member: The resource in its pool.
        order: Its place in the order in which the resources were added, from 0.
        in_flight: Uses under way.
        total: Uses so far.
        last_used: Serial number of its latest use; 0 before the first.
        latency: Seconds, as a decaying peak of what was seen; 0 before the first answer.
        latency_at: Monotonic second of the last change of ``latency``.
        remaining: What is left of its quota, as last reported, less the uses since; None where
            nobody said.
        resets_at: Monotonic second at which ``remaining`` is out of date; None where nobody said.
        key: For the picker's use; None while the picker does not have it.
        place: For the picker's use.
        standing: Whether it can serve.
        level: Cooldowns in a row, the step of the escalation table.
        cooling_until: Monotonic second at which its rest ends; None while it does not rest.
        cooled_at: Serial number of the latest use when it was last cooled: a use with that number
            or a lower one tells nothing new.
        recovering: True from the end of a rest to the first success: one use at a time.
        probe: The one use of a recovering candidate; None while there is none.
        leases: Its uses under way by serial number, the oldest first.
    """

    __slots__ = (
        "cooled_at",
        "cooling_until",
        "in_flight",
        "key",
        "lane",
        "last_used",
        "latency",
        "latency_at",
        "leases",
        "level",
        "member",
        "order",
        "place",
        "probe",
        "recovering",
        "remaining",
        "resets_at",
        "resource",
        "standing",
        "total",
    )

    def __init__(self, member: Member, order: int, lane: Lane | None = None) -> None:
        self.member = member
        self.resource = member.resource
        self.order = order
        self.lane: Any = lane
        self.in_flight = 0
        self.total = 0
        self.last_used = 0
        self.latency = 0.0
        self.latency_at = 0.0
        self.remaining: float | None = None
        self.resets_at: float | None = None
        self.key: Any = None
        self.place: Any = None
        self.standing = Standing.DISABLED
        self.level = 0
        self.cooling_until: float | None = None
        self.cooled_at = 0
        self.recovering = False
        self.probe: Lease | None = None
        self.leases: dict[int, Lease] = {}

    @property
    def id(self) -> str:
        """The resource's id."""
        return self.member.id

    @property
    def weight(self) -> float:
        """The resource's weight."""
        return self.resource.weight
