"""How a fallback stage decides: from a failure and its verdict alone."""

from __future__ import annotations

from penstock.errors import DisplacedError
from penstock.matching import Matcher, Which
from penstock.verdict import Verdict, VerdictKind

__all__ = ["FallbackMachine"]

# A caller's bug answered with a substitute would stay hidden; a cancelled call asks for nothing.
_LEFT_ALONE = frozenset({VerdictKind.CALLER_BUG, VerdictKind.CANCELLED})


class FallbackMachine:
    """Answers which failures a substitute stands in for.

    Args:
        fallback_on: Which failures; None for all but the caller's own bugs.
    """

    __slots__ = ("_matcher",)

    def __init__(self, fallback_on: Which | None) -> None:
        self._matcher = None if fallback_on is None else Matcher.of(fallback_on)

    async def answers(self, failure: Exception, verdict: Verdict) -> bool:
        """Whether this failure is answered; it waits only for the user's own async predicates.

        An attempt that lost its resource has not failed: it is run again from further out.
        """
        if isinstance(failure, DisplacedError):
            return False
        if self._matcher is None:
            return verdict.kind not in _LEFT_ALONE
        return await self._matcher.ask(failure, verdict)
