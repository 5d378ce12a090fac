"""Ranked: the heap under every picker that serves the lowest rank first."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

from penstock.pools.candidate import Candidate
from penstock.pools.picking.base import Picker

__all__ = ["Ranked"]

# Below this many entries a heap is small whatever share of it is dead; clearing out once the dead
# outnumber the living costs O(1) per entry.
_SWEEP_FROM = 64


class Ranked(Picker):
    """Serves the candidate of the lowest rank; equal ranks go by ``order``.

    A rank that grows costs nothing until its entry reaches the top: an entry may say less than the
    candidate's rank, never more, and ``pick`` puts right what it finds at the top. A rank that
    shrinks gets a second entry; the first is dead. ``candidate.key`` is what its one valid entry
    says. Entries hold numbers only, so that a dead one keeps no resource alive.
    """

    __slots__ = ("_heap", "_ready")

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int]] = []
        self._ready: dict[int, Candidate] = {}

    def rank(self, candidate: Candidate) -> Any:
        """Return what the candidate is ordered by now; between changes told here it only grows."""
        raise NotImplementedError

    def add(self, candidate: Candidate) -> None:
        """Take a candidate that is ready from now on."""
        self._ready[candidate.order] = candidate
        candidate.key = rank = self.rank(candidate)
        self._enter(rank, candidate.order)

    def remove(self, candidate: Candidate) -> None:
        """Forget a candidate; its entry is dead and goes when it comes up."""
        del self._ready[candidate.order]
        candidate.key = None

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return the candidate of the lowest rank."""
        del key, now
        heap, ready = self._heap, self._ready
        while heap:
            said, order = heap[0]
            candidate = ready.get(order)
            if candidate is None or candidate.key != said:
                heappop(heap)
                continue
            rank = self.rank(candidate)
            if rank == said:
                return candidate
            candidate.key = rank
            heapreplace(heap, (rank, order))
        return None

    def lowered(self, candidate: Candidate) -> None:
        """Look at a rank that may have become lower."""
        rank = self.rank(candidate)
        if rank < candidate.key:
            candidate.key = rank
            self._enter(rank, candidate.order)

    def _enter(self, rank: Any, order: int) -> None:
        heap, ready = self._heap, self._ready
        heappush(heap, (rank, order))
        if len(heap) > _SWEEP_FROM + 2 * len(ready):
            heap[:] = [(candidate.key, at) for at, candidate in ready.items()]
            heapify(heap)
