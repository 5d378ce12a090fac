"""What a pool's machine has decided and somebody has to be told."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Change"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A resource changed its standing; what the pool's state-change hook takes.

    Attributes:
        seq: Counts the changes of the pool from 1, without gaps.
        resource: The resource's id.
        old: Its standing before: ``ready``, ``cooling`` or ``disabled``.
        new: Its standing from now on; the same as ``old`` where a rest was made longer.
        reason: A short word; never exception text.
        seconds: How long it will rest; None where it does not.
        dimension: What the change is limited to (a model, say); None for the whole resource.
    """

    seq: int
    resource: str
    old: str
    new: str
    reason: str
    seconds: float | None = None
    dimension: Hashable = None
