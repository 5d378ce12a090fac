"""Least in flight: the default picker."""

from __future__ import annotations

from heapq import heappop, heapreplace

from penstock.pools.candidate import Candidate
from penstock.pools.picking.ranked import Ranked

__all__ = ["LeastInFlight"]


class LeastInFlight(Ranked):
    """Serves who has the fewest uses under way, then whose latest use is oldest.

    The rank is one whole number, ``in_flight`` above 48 bits of ``last_used``: numbers compare
    faster than tuples, and no process lives to see its 2 ** 48th use.
    """

    __slots__ = ()

    def rank(self, candidate: Candidate) -> int:
        """Return fewest in flight, then oldest use, as one number."""
        return (candidate.in_flight << 48) + candidate.last_used

    def add(self, candidate: Candidate) -> None:
        """Take a candidate that is ready from now on."""
        # As in the base class: so it is for every use of a worker for one call at a time.
        order = candidate.order
        self._ready[order] = candidate
        candidate.key = rank = (candidate.in_flight << 48) + candidate.last_used
        self._enter(rank, order)

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return who is least in flight."""
        # As in the base class, the rank spelled out: this runs in every call of most pools.
        del key, now
        heap, ready = self._heap, self._ready
        while heap:
            said, order = heap[0]
            candidate = ready.get(order)
            if candidate is None or candidate.key != said:
                heappop(heap)
                continue
            rank = (candidate.in_flight << 48) + candidate.last_used
            if rank == said:
                return candidate
            candidate.key = rank
            heapreplace(heap, (rank, order))
        return None

    def freed(self, candidate: Candidate) -> None:
        """Rank it lower, if its entry had seen the use that has ended."""
        rank = (candidate.in_flight << 48) + candidate.last_used
        if rank < candidate.key:
            candidate.key = rank
            self._enter(rank, candidate.order)
