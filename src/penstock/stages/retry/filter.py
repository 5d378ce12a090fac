"""Which outcomes a retry stage tries again: failures by table or filter, results by predicate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from penstock.matching import answer_of
from penstock.stages.retry.adapter import (
    TenacityCallback,
    TenacityState,
    is_tenacity,
    looks_at_results,
)
from penstock.stages.retry.options import Accept, RetryOptions, split_retry_on
from penstock.verdict import TryAgain, Verdict, VerdictKind

__all__ = ["OutcomeFilter"]


class OutcomeFilter:
    """What ``retry_on`` and ``accept`` say, read once.

    Attributes:
        reads_table: True when ``retry_on`` is not set, so that nobody has to be asked.
        trusts_results: True when every result is good, so that none has to be looked at.
        asks_tenacity: True when tenacity's retry objects have to be asked.
    """

    __slots__ = (
        "_accept",
        "_matcher",
        "_refuses",
        "_theirs",
        "asks_tenacity",
        "reads_table",
        "trusts_results",
    )

    def __init__(self, options: RetryOptions) -> None:
        which = options.retry_on
        self._matcher, self._theirs = (None, ()) if which is None else split_retry_on(which)
        self._refuses = tuple(filter(looks_at_results, self._theirs))
        self._accept = cast("tuple[Accept, ...]", options.accept or ())
        self.reads_table = which is None
        self.asks_tenacity = bool(self._theirs)
        self.trusts_results = not (self._accept or self._refuses)

    async def retries(
        self, failure: Exception, verdict: Verdict, theirs: TenacityState | None
    ) -> bool:
        """Answer whether ``retry_on`` has a failure tried again.

        Raises:
            Exception: Whatever the user's predicate raises.
        """
        if verdict.kind is VerdictKind.CANCELLED:
            return False
        # The operation asked for it by name; no filter knows better.
        if isinstance(failure, TryAgain) or is_tenacity(failure, "TryAgain"):
            return True
        if self._matcher is not None and await self._matcher.ask(failure, verdict):
            return True
        return await _any_says_yes(self._theirs, theirs)

    async def accepts(self, result: object, theirs: TenacityState | None) -> bool:
        """Answer whether a result is good.

        Raises:
            Exception: Whatever the user's predicate raises; the result is not good then.
        """
        for predicate in self._accept:
            if not await answer_of(predicate(result)):
                return False
        return not await _any_says_yes(self._refuses, theirs)


async def _any_says_yes(
    callbacks: Sequence[TenacityCallback], theirs: TenacityState | None
) -> bool:
    for callback in callbacks:
        if theirs is not None and await answer_of(callback(theirs.state)):
            return True
    return False
