"""What every picker is: told who is ready, asked who serves next."""

from __future__ import annotations

from typing import ClassVar

from penstock.pools.candidate import Candidate

__all__ = ["Picker"]


class Picker:
    """Chooses among the candidates that are ready. Pure: no clock, no randomness of its own.

    The pool tells it about every change: ``add`` and ``remove`` as candidates become ready or stop
    being it, ``used`` and ``freed`` as the uses of a ready one begin and end. ``pick`` only
    answers; the pool then counts the use and calls ``used``, or ``remove`` where it was the last
    that the candidate had room for. Each is O(1) or O(log n) amortised in the candidates.
    """

    __slots__ = ()

    # True where the order is the user's own, and a failed attempt is no reason to leave it.
    insists: ClassVar[bool] = False

    def add(self, candidate: Candidate) -> None:
        """Take a candidate that is ready from now on; it was not known, or had been removed."""
        raise NotImplementedError

    def remove(self, candidate: Candidate) -> None:
        """Forget a candidate that is not ready any more; it was known."""
        raise NotImplementedError

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return who serves next, None when nobody is ready.

        Args:
            key: What calls that belong together share; None where the caller set none.
            now: Monotonic seconds, never going backwards.
        """
        raise NotImplementedError

    def used(self, candidate: Candidate) -> None:
        """A use of a ready candidate has begun; its counts say so already."""

    def freed(self, candidate: Candidate) -> None:
        """A use of a ready candidate has ended; its counts say so already."""

    def rated(self, candidate: Candidate) -> None:
        """A ready candidate's latency, remaining quota or weight has changed."""
