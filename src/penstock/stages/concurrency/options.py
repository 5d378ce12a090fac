"""What can be set on a concurrency stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penstock.options import Count, CountFromZero, Options, SecondsFromZero

__all__ = ["ConcurrencyOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyOptions(Options):
    """Options of the concurrency stage (in the field: a bulkhead).

    Attributes:
        limit: How many calls may be under way at once, from 1.
        max_queue: How many more may wait, from 0; None for no bound.
        max_wait: Seconds a call may wait, from 0; None waits as long as the deadline allows.
    """

    stage: ClassVar[str] = "concurrency"

    limit: Count
    max_queue: CountFromZero | None = None
    max_wait: SecondsFromZero | None = None
