"""How a rate is written: ``10``, ``"600/min"``, ``"100/10s"``, ``"10 per minute"``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from penstock.options import Rule, is_mapping

__all__ = ["Rate", "RateRule", "read_rates"]

_UNITS = {
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_TEXT = re.compile(
    r"\s*(?P<amount>\d+(?:\.\d+)?)\s*(?:/|\bper\b)\s*(?P<span>\d+(?:\.\d+)?)?\s*(?P<unit>[a-z]+)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many units in any span of so many seconds.

    Attributes:
        amount: Units, above 0.
        per: Seconds, above 0.
        name: What is counted, for example ``"tokens"``; None where there is only one thing.
    """

    amount: float
    per: float = 1.0
    name: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a positive finite number."""
        numbers: tuple[Any, ...] = (self.amount, self.per)
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ValueError
            if not (math.isfinite(number) and number > 0):
                raise ValueError

    @classmethod
    def of(cls, value: Any, name: str | None = None) -> Rate:
        """Read a number (per second), a text or a Rate.

        Raises:
            ValueError: It is none of them, or not above 0.
        """
        if isinstance(value, Rate):
            return cls(value.amount, value.per, value.name or name)
        if isinstance(value, str):
            return cls._parsed(value, name)
        return cls(value, 1.0, name)

    @classmethod
    def _parsed(cls, text: str, name: str | None) -> Rate:
        found = _TEXT.fullmatch(text)
        if found is None or found["unit"].lower() not in _UNITS:
            raise ValueError
        amount = float(found["amount"])
        span = float(found["span"] or 1) * _UNITS[found["unit"].lower()]
        return cls(int(amount) if amount.is_integer() else amount, span, name)

    def whole(self) -> tuple[float, float]:
        """Return (units, seconds) with at least one whole unit in the span.

        ``0.05`` per second is 1 in 20 s, ``2.5`` per second is 2 in 0.8 s: the long-run rate is
        the same, and no span of that length ever holds more.
        """
        units = max(1, math.floor(self.amount))
        return units, self.per * units / self.amount

    def __str__(self) -> str:
        return f"{self.amount:g}/{self.per:g}s"


class RateRule(Rule):
    """The rule for ``rate=``: one rate, several, or several by name."""

    allowed = (
        "a number per second above 0, a text such as '600/min' or '100/10s', "
        "a list of them, or a mapping of them by name"
    )

    def read(self, value: Any) -> tuple[Rate, ...]:
        """Return the rates as a tuple that is not empty."""
        return read_rates(value)


def read_rates(value: Any) -> tuple[Rate, ...]:
    """Return every rate that was written.

    Raises:
        ValueError: There is none, a name stands twice, or one is not allowed.
    """
    if is_mapping(value):
        rates = tuple(Rate.of(rate, str(name)) for name, rate in value.items())
    elif isinstance(value, list | tuple):
        rates = tuple(Rate.of(rate) for rate in cast("Sequence[Any]", value))
    else:
        rates = (Rate.of(value),)
    names = [rate.name for rate in rates if rate.name is not None]
    if not rates or len(set(names)) != len(names) or 0 < len(names) < len(rates):
        raise ValueError
    return rates
