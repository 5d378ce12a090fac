"""What can be set on a rate limit stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

from penstock.options import Count, Options, SecondsFromZero, checked_cost
from penstock.stages.rate_limit.rate import Rate, RateRule

__all__ = ["RateLimitOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitOptions(Options):
    """Options of the rate limit stage.

    Attributes:
        rate: Units per span: a number per second, ``"600/min"``, ``"100/10s"``, several of them
            (all must admit, all or none is charged), or several by name
            (``{"requests": "500/min", "tokens": "30000/min"}``).
        burst: None: never more than the rate's units in *any* span of the rate's length, also after
            idling (an exact sliding window). A number from 1: that many at once, then evenly
            spaced (GCRA, a token bucket).
        cost: What a call costs: units, at least 0, units by name, or a callable(call). An estimate
            is fine: ``current_call().settle(...)`` corrects it.
        max_wait: Seconds a call may wait for its turn, from 0; None waits as long as the deadline
            allows.
    """

    stage: ClassVar[str] = "rate_limit"

    rate: Annotated[tuple[Rate, ...], RateRule()]
    burst: Count | None = None
    cost: float | Mapping[str, float] | Callable[[Any], Any] = 1
    max_wait: SecondsFromZero | None = None

    def __post_init__(self) -> None:
        """Check the cost against the rates' names."""
        Options.__post_init__(self)
        if not callable(self.cost):
            object.__setattr__(self, "cost", checked_cost("rate_limit: 'cost'", self.cost))
            costs_of(self.rate, self.cost)


def costs_of(rates: tuple[Rate, ...], cost: Any) -> tuple[float, ...]:
    """Return the cost for each rate, in their order.

    A number is charged to every rate without a name. Where rates have names it is charged to the
    first one alone. A mapping charges the rates it names, and 1 to the first if it does not name
    that: ``{"tokens": 1200}`` is one request and 1200 tokens.

    Raises:
        ConfigError: A name in the mapping belongs to no rate.
    """
    if not isinstance(cost, Mapping):
        if rates[0].name is None:
            return (cost,) * len(rates)
        return (cost, *(0,) * (len(rates) - 1))
    by_name = dict(cast("Mapping[str, float]", cost))
    names = [str(rate.name) for rate in rates]
    for name in by_name:
        if name not in names:
            known = "none has a name" if rates[0].name is None else ", ".join(names)
            allowed = f"a number, or units by the names of its rates ({known})"
            raise RateLimitOptions.refuse("cost", by_name, allowed)
    return tuple(by_name.get(name, 0 if place else 1) for place, name in enumerate(names))
