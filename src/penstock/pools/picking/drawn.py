"""Random: every ready candidate with the same chance."""

from __future__ import annotations

from collections.abc import Callable

from penstock.pools.candidate import Candidate
from penstock.pools.picking.base import Picker

__all__ = ["Random"]


class Random(Picker):
    """Serves each ready candidate with the same chance.

    Args:
        chance: Returns the next random number, from 0 up to but not including 1.
    """

    __slots__ = ("_chance", "_ready")

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._ready: list[Candidate] = []

    def add(self, candidate: Candidate) -> None:
        """Put it behind the others."""
        candidate.key = len(self._ready)
        self._ready.append(candidate)

    def remove(self, candidate: Candidate) -> None:
        """Let the last one have its place."""
        last = self._ready.pop()
        if last is not candidate:
            self._ready[candidate.key] = last
            last.key = candidate.key
        candidate.key = None

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return one by lot."""
        del key, now
        ready = self._ready
        return ready[int(self._chance() * len(ready))] if ready else None
