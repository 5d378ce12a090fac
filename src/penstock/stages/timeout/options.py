"""What can be set on a timeout stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from penstock.options import Options, Seconds

__all__ = ["TimeoutOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutOptions(Options):
    """Options of the timeout stage.

    Attributes:
        seconds: The time limit, above 0. Outside retry it bounds the whole call, inside retry each
            attempt.
    """

    stage: ClassVar[str] = "timeout"

    seconds: Seconds
