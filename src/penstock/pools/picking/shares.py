"""Least total and weighted: each candidate gets its share of all calls."""

from __future__ import annotations

from penstock.pools.candidate import Candidate
from penstock.pools.picking.ranked import Ranked

__all__ = ["LeastTotal", "Weighted"]


class _Paced(Ranked):
    """Ranks grow with use; who joins starts where the others are, with no arrears to make good.

    Attributes:
        level: Rank of the last one that was picked, before its use; nobody ready is below it. It is
            not the lowest rank of those that are ready: a light one alone with its far due date
            would pull up everybody who comes back.
    """

    __slots__ = ("level",)

    def __init__(self) -> None:
        super().__init__()
        self.level = 0.0

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return the candidate of the lowest rank, and remember the rank."""
        candidate = super().pick(key, now)
        if candidate is not None:
            self.level = candidate.key
        return candidate


class LeastTotal(_Paced):
    """Serves who has had the fewest uses so far.

    A candidate's ``place`` is the head start it was given: the uses that the others had while it
    was not there count for it too, or it would get every call until it had caught up.
    """

    __slots__ = ()

    def rank(self, candidate: Candidate) -> float:
        """Return its uses, head start included."""
        head_start: float = candidate.place
        return candidate.total + head_start

    def add(self, candidate: Candidate) -> None:
        """Take it in, level with the one that was picked last."""
        candidate.place = max(candidate.place or 0, self.level - candidate.total)
        super().add(candidate)


class Weighted(_Paced):
    """Serves candidates in proportion to their weights, evenly spread.

    Stride scheduling (Waldspurger and Weihl, "Stride Scheduling: Deterministic Proportional-Share
    Resource Management", 1995): a use moves a candidate's next one ``1 / weight`` on, and who is
    due first is served. The first use is due in the middle of a stride, not at its end, so that
    heavy and light ones mix from the start; over each ``sum(weights)`` calls the shares are exact
    where weights are whole numbers and nobody comes or goes.

    Who comes back is due when it was before, or now where that has passed: at once, but not for
    what it missed. ``place`` is ``(due, total, stride)`` at the last change of the stride.
    """

    __slots__ = ()

    def rank(self, candidate: Candidate) -> float:
        """Return when its next use is due, in turns."""
        place: tuple[float, int, float] = candidate.place
        due, total, stride = place
        return due + (candidate.total - total) * stride

    def add(self, candidate: Candidate) -> None:
        """Take it in."""
        self._place(candidate)
        super().add(candidate)

    def rated(self, candidate: Candidate) -> None:
        """Let a new weight count from now on: the way to its next use becomes that much shorter."""
        if candidate.place[2] == 1 / candidate.weight:
            return
        self._place(candidate)
        self.lowered(candidate)

    def _place(self, candidate: Candidate) -> None:
        level, stride = self.level, 1 / candidate.weight
        if candidate.place is None:
            ahead = stride / 2
        else:
            ahead = max(0.0, self.rank(candidate) - level) * stride / candidate.place[2]
        candidate.place = (level + ahead, candidate.total, stride)
