"""What a breaker machine answers: let in or not, and what that did to the circuit."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Admitted", "Change", "Rejected", "State"]


class State(enum.Enum):
    """Where a circuit stands; the values are the words used in events and snapshots."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True)
class Change:
    """The circuit went from ``old`` to ``new``; ``reason`` says why, for people."""

    old: State
    new: State
    reason: str


@dataclass(slots=True)
class Admitted:
    """The call may go on; hand this to ``record`` exactly once.

    Attributes:
        generation: The state it was admitted to.
        began: Monotonic seconds; 0 where calls are not timed.
        change: What admitting it did to the circuit.
    """

    generation: int
    began: float = 0.0
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The call may not go on.

    Attributes:
        retry_after: Seconds until trying again can help; None where nobody knows.
    """

    retry_after: float | None
