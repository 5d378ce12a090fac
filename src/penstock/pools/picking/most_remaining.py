"""Most remaining: by what is left of the quotas."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from penstock.pools.candidate import Candidate
from penstock.pools.picking.base import Picker
from penstock.pools.picking.least_in_flight import LeastInFlight
from penstock.pools.picking.ranked import Ranked

__all__ = ["MostRemaining"]

# As in ``Ranked``: below this the share of dead entries does not matter.
_SWEEP_FROM = 64


class _Known(Ranked):
    """Serves the largest remaining quota."""

    __slots__ = ()

    def rank(self, candidate: Candidate) -> float:
        return -(candidate.remaining or 0.0)


class MostRemaining(Picker):
    """Serves who has most left of its quota.

    A quota that nobody has reported, or whose ``resets_at`` has come, is unknown. An unknown one
    is assumed to be as large as the largest that is known; between the two, fewest in flight and
    then oldest use decide. So an unknown one is soon tried and becomes known, and one whose service
    never says anything gets its turns and no more. A candidate's ``place`` says whether it stands
    with the known ones.
    """

    __slots__ = ("_awaited", "_known", "_ready", "_resets", "_unknown")

    def __init__(self) -> None:
        self._ready: dict[int, Candidate] = {}
        self._known = _Known()
        self._unknown = LeastInFlight()
        # As in ``Ranked``, an entry may say less than the candidate's ``resets_at``, never more:
        # a service that says "in 12 s" with every answer moves it on a little each time.
        self._resets: list[tuple[float, int]] = []
        self._awaited: dict[int, float] = {}

    def add(self, candidate: Candidate) -> None:
        """Take it in, with the known ones if it has a report."""
        self._ready[candidate.order] = candidate
        self._file(candidate)

    def remove(self, candidate: Candidate) -> None:
        """Forget it; what is awaited for it goes when its time comes."""
        del self._ready[candidate.order]
        (self._known if candidate.place else self._unknown).remove(candidate)

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return who has most left."""
        if self._resets and self._resets[0][0] <= now:
            self._expire(now)
        unknown, known = self._unknown.pick(key, now), self._known.pick(key, now)
        if known is None or unknown is None:
            return known or unknown
        is_spent = (known.remaining or 0.0) < 1
        return unknown if is_spent or unknown.key <= self._unknown.rank(known) else known

    def freed(self, candidate: Candidate) -> None:
        """Count it among the unknown ones."""
        if not candidate.place:
            self._unknown.freed(candidate)

    def rated(self, candidate: Candidate) -> None:
        """Take a report, or the loss of one, into account."""
        if candidate.place and candidate.remaining is not None:
            self._known.lowered(candidate)
            self._await(candidate)
        elif candidate.place or candidate.remaining is not None:
            (self._known if candidate.place else self._unknown).remove(candidate)
            self._file(candidate)

    def _file(self, candidate: Candidate) -> None:
        candidate.place = candidate.remaining is not None
        (self._known if candidate.place else self._unknown).add(candidate)
        if candidate.place:
            self._await(candidate)

    def _await(self, candidate: Candidate) -> None:
        at, awaited = candidate.resets_at, self._awaited.get(candidate.order)
        if at is None or (awaited is not None and awaited <= at):
            return
        self._awaited[candidate.order] = at
        heappush(self._resets, (at, candidate.order))
        if len(self._resets) > _SWEEP_FROM + 2 * len(self._ready):
            self._awaited = {o: at for o, at in self._awaited.items() if o in self._ready}
            self._resets = [(at, order) for order, at in self._awaited.items()]
            heapify(self._resets)

    def _expire(self, now: float) -> None:
        while self._resets and self._resets[0][0] <= now:
            at, order = heappop(self._resets)
            if self._awaited.get(order) != at:
                continue
            del self._awaited[order]
            candidate = self._ready.get(order)
            if candidate is None or not candidate.place:
                continue
            if candidate.resets_at is not None and candidate.resets_at <= now:
                self._known.remove(candidate)
                candidate.place = False
                self._unknown.add(candidate)
            else:
                self._await(candidate)
