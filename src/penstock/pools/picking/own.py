"""A user's own picker, fitted in."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeGuard, overload

from penstock.pools.candidate import Candidate
from penstock.pools.picking.base import Picker

__all__ = ["Complaint", "Own", "Ready"]

_log = logging.getLogger("penstock")

_order = attrgetter("order")


class Ready(Sequence[Candidate]):
    """The ready candidates in the order in which they were added, to be read only."""

    __slots__ = ("_candidates",)

    def __init__(self, candidates: list[Candidate]) -> None:
        self._candidates = candidates

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...

    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        return self._candidates[index]

    def __len__(self) -> int:
        return len(self._candidates)


class Complaint:
    """Says once what is wrong with a user's picker, without the words of its errors.

    An exception's text may hold what it was raised about, and that may be a resource's value.

    Args:
        who: The picker's type.
    """

    __slots__ = ("_is_made", "_who")

    def __init__(self, who: str) -> None:
        self._who = who
        self._is_made = False

    def make(self, what: str) -> None:
        """Log it, the first time."""
        if not self._is_made:
            self._is_made = True
            _log.error("picker %s %s; the first ready resource serves instead", self._who, what)


class Own(Picker):
    """Asks a user's picker, and takes the first ready candidate where the answer is no use.

    Args:
        chooser: Has ``pick(ready, key)``, which returns one of the ready.
        complaint: Where to say that it does not.
    """

    __slots__ = ("_candidates", "_chooser", "_complaint", "_ready")

    def __init__(self, chooser: Any, complaint: Complaint) -> None:
        self._chooser = chooser
        self._complaint = complaint
        self._candidates: list[Candidate] = []
        self._ready = Ready(self._candidates)

    def add(self, candidate: Candidate) -> None:
        """Put it at its place in the order."""
        candidate.key = True
        self._candidates.insert(self._at(candidate), candidate)

    def remove(self, candidate: Candidate) -> None:
        """Take it out."""
        candidate.key = None
        del self._candidates[self._at(candidate)]

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return the user's choice."""
        del now
        if not self._candidates:
            return None
        try:
            answer: object = self._chooser.pick(self._ready, key)
            if self._has(answer):
                return answer
        except Exception as error:  # noqa: BLE001 - whatever it is, the call goes on
            self._complaint.make(f"raised {type(error).__name__}")
        else:
            self._complaint.make(f"answered with {_said(answer)}, which is not ready")
        return self._candidates[0]

    def _at(self, candidate: Candidate) -> int:
        return bisect_left(self._candidates, candidate.order, key=_order)

    def _has(self, answer: object) -> TypeGuard[Candidate]:
        if not isinstance(answer, Candidate):
            return False
        # Shared between lanes, it may have answered with a candidate of another one.
        at = self._at(answer)
        return at < len(self._candidates) and self._candidates[at] is answer


def _said(answer: object) -> str:
    return f"resource '{answer.id}'" if isinstance(answer, Candidate) else type(answer).__name__
