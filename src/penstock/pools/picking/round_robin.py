"""Round robin: in turns."""

from __future__ import annotations

from collections import OrderedDict

from penstock.pools.candidate import Candidate
from penstock.pools.picking.base import Picker

__all__ = ["RoundRobin"]


class RoundRobin(Picker):
    """Serves every ready candidate once before any twice; whoever becomes ready stands last."""

    __slots__ = ("_ring",)

    def __init__(self) -> None:
        # A plain dict would look for its first entry behind all that were moved away.
        self._ring: OrderedDict[Candidate, None] = OrderedDict()

    def add(self, candidate: Candidate) -> None:
        """Let it stand last."""
        candidate.key = True
        self._ring[candidate] = None

    def remove(self, candidate: Candidate) -> None:
        """Take it out of the ring."""
        candidate.key = None
        del self._ring[candidate]

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return who stands first."""
        del key, now
        return next(iter(self._ring), None)

    def used(self, candidate: Candidate) -> None:
        """Let it stand last."""
        self._ring.move_to_end(candidate)
