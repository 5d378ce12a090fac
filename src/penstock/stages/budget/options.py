"""What can be set on a budget stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from penstock.options import Number, Options, Ratio, Seconds

__all__ = ["BudgetOptions"]

# A service that fails every call then gets 1.2 times its load instead of three or four times.
# Twenty per cent is also Finagle's default, proven for years across thousands of services.
DEFAULT_RATIO = 0.2

# A program that makes one call a minute would never earn a retry by its share alone. Ten a second
# is below what any service notices as load, and again what Finagle allows.
DEFAULT_MIN_PER_SECOND = 10.0

# Longer than most back-off, so that a call's retries are judged against the traffic it belongs to.
# Short enough that an outage ten seconds ago no longer forbids retries now.
DEFAULT_WINDOW = 10.0

FromZero = Annotated[float, Number()]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOptions(Options):
    """Options of the budget stage.

    Within a ``window``, added load (retries, hedges) is at most ``ratio`` times the calls made plus
    ``min_per_second`` times the window.

    Attributes:
        ratio: Attempts that may be added per call, from 0 to 1.
        min_per_second: Attempts that may be added per second however few the calls are, from 0.
        window: Seconds over which calls and added attempts are counted, above 0. It is made longer
            where ``min_per_second`` would not come to one attempt in it.
    """

    stage: ClassVar[str] = "budget"

    ratio: Ratio = DEFAULT_RATIO
    min_per_second: FromZero = DEFAULT_MIN_PER_SECOND
    window: Seconds = DEFAULT_WINDOW

    def __post_init__(self) -> None:
        """Check every field, and that the budget can ever hold anything."""
        Options.__post_init__(self)
        if not self.ratio and not self.min_per_second:
            raise self.refuse("ratio", self.ratio, "above 0 where 'min_per_second' is 0")
