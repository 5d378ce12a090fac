"""The five keys: what the server grants each of them, and their values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

__all__ = ["AT_ONCE", "KEYS", "KeyTerms", "value_of"]

# Requests at once on one key, as the recipe has it. Few enough that no key can carry the demo alone
# in the same time.
AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What the server grants a key.

    Attributes:
        id: The key's name, which may be shown; its value may not.
        latency: Least and most seconds until a good answer.
        per_second: Most requests in any one second; None for no bound.
        is_revoked: Whether it is refused, always.
    """

    id: str
    latency: tuple[float, float]
    per_second: int | None = None
    is_revoked: bool = False

    @property
    def words(self) -> str:
        """The terms in a word or two."""
        if self.is_revoked:
            return "no entry"
        if self.per_second is not None:
            return f"{self.per_second}/s"
        return f"{self.mean:g} s"

    @property
    def mean(self) -> float:
        """Seconds that a good answer takes on average."""
        return round(sum(self.latency) / 2, 3)

    def alone(self, calls: int) -> float:
        """Return the least seconds that this key by itself needs for so many calls; may be inf."""
        if self.is_revoked:
            return math.inf
        busy = calls * self.mean / AT_ONCE
        # The first second's share needs no wait.
        limited = 0.0 if self.per_second is None else math.ceil(calls / self.per_second) - 1
        return max(busy, limited)


KEYS = (
    KeyTerms(id="tight", latency=(0.05, 0.15), per_second=10),
    KeyTerms(id="roomy", latency=(0.05, 0.15), per_second=20),
    KeyTerms(id="revoked", latency=(0.05, 0.05), is_revoked=True),
    KeyTerms(id="slow", latency=(0.4, 0.6)),
    KeyTerms(id="good", latency=(0.08, 0.16)),
)


def value_of(seed: int, id: str) -> str:  # noqa: A002 - the word of the field
    """Return a key's value; demo and server know the same ones without telling each other."""
    return f"sk-demo-{Random(f'{seed} {id}').getrandbits(128):032x}"
