"""Primary and backup: the first that is ready."""

from __future__ import annotations

from penstock.pools.candidate import Candidate
from penstock.pools.picking.ranked import Ranked

__all__ = ["PrimaryBackup"]


class PrimaryBackup(Ranked):
    """Serves the first ready candidate in the order in which they were added."""

    __slots__ = ()

    insists = True

    def rank(self, candidate: Candidate) -> int:
        """Return its place."""
        return candidate.order
