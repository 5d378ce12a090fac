"""Turn "these failures" (types, predicates, verdict kinds, or a mix of them) into one question."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from penstock.errors import PolicyError
from penstock.options import Rule
from penstock.verdict import Verdict, VerdictKind

__all__ = [
    "Matcher",
    "Matching",
    "Predicate",
    "Which",
    "answer_of",
    "is_async_callable",
    "parts_of",
]

Predicate = Callable[[Exception], bool | Awaitable[bool]]
# Any: a mix may be nested, and a recursive alias is more than type checkers follow.
Which = type[Exception] | Predicate | VerdictKind | str | Collection[Any]

# A result is not a failure, and a cancelled call has nobody left who could be served.
_NEVER_MATCHED = (VerdictKind.OK, VerdictKind.CANCELLED)
_WORDS = {kind.value: kind for kind in VerdictKind if kind not in _NEVER_MATCHED}


@dataclass(frozen=True, slots=True)
class Matcher:
    """Answers whether a failure is one of those that were meant; any part that fits is enough.

    Attributes:
        kinds: Verdict kinds.
        types: Exception types.
        predicates: Callables that take the failure.
        is_async: True when a predicate is known to need ``await``: only ``ask`` can answer then.
    """

    kinds: frozenset[VerdictKind] = frozenset()
    types: tuple[type[Exception], ...] = ()
    predicates: tuple[Predicate, ...] = ()
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look once at what the predicates are."""
        is_async = any(is_async_callable(predicate) for predicate in self.predicates)
        object.__setattr__(self, "is_async", is_async)

    @classmethod
    def of(cls, which: Which) -> Matcher:
        """Build the matcher for what a user wrote.

        Args:
            which: An exception type, a predicate, a ``VerdictKind`` or its word, or several of
                them in a tuple, list or set.

        Raises:
            ValueError: It is empty, or a part of it is none of these.
        """
        parts = [_part(raw) for raw in parts_of(which)]
        if not parts:
            raise ValueError
        return cls(
            frozenset(part for part in parts if isinstance(part, VerdictKind)),
            tuple(part for part in parts if isinstance(part, type)),
            tuple(p for p in parts if not isinstance(p, VerdictKind | type)),
        )

    def __call__(self, failure: Exception, verdict: Verdict) -> bool:
        """Answer without waiting.

        Raises:
            PolicyError: A predicate returned an awaitable.
            Exception: Whatever a predicate raises; the stage treats that as "no match".
        """
        if self._matches_plainly(failure, verdict):
            return True
        return any(_at_once(predicate(failure)) for predicate in self.predicates)

    async def ask(self, failure: Exception, verdict: Verdict) -> bool:
        """Answer, awaiting predicates that have to be.

        Raises:
            Exception: Whatever a predicate raises; the stage treats that as "no match".
        """
        if self._matches_plainly(failure, verdict):
            return True
        for predicate in self.predicates:
            if await answer_of(predicate(failure)):
                return True
        return False

    def _matches_plainly(self, failure: Exception, verdict: Verdict) -> bool:
        return verdict.kind in self.kinds or isinstance(failure, self.types)


class Matching(Rule):
    """The rule for an option that says which failures are meant; the value is stored as written.

    Args:
        waits: False where the stage cannot await, so that async predicates are refused.
    """

    def __init__(self, *, waits: bool = True) -> None:
        self.waits = waits
        predicate = "predicate" if waits else "predicate that is not async"
        kinds = ", ".join(_WORDS)
        self.allowed = (
            f"an Exception type, a {predicate}, a verdict kind ({kinds}), or several of them"
        )

    def read(self, value: Which) -> Which:
        """Return the value, once ``Matcher.of`` takes it."""
        if Matcher.of(value).is_async and not self.waits:
            raise ValueError
        return value


def is_async_callable(candidate: object) -> bool:
    """Return True for ``async def`` functions, partials of them, and objects that call one."""
    while isinstance(candidate, partial):
        candidate = candidate.func
    if inspect.iscoroutinefunction(candidate):
        return True
    return callable(candidate) and inspect.iscoroutinefunction(type(candidate).__call__)


async def answer_of(answer: object) -> object:
    """Return what a user's callable answered, awaited if it has to be."""
    return await answer if inspect.isawaitable(answer) else answer


def parts_of(which: object) -> Iterator[object]:
    """Yield the parts of a mix, nested ones too, or the one thing that it is."""
    if isinstance(which, tuple | list | set | frozenset):
        for part in cast("Collection[object]", which):
            yield from parts_of(part)
    else:
        yield which


def _at_once(answer: object) -> bool:
    if not inspect.isawaitable(answer):
        return bool(answer)
    if inspect.iscoroutine(answer):
        answer.close()
    msg = "a predicate returned an awaitable where nothing can be awaited; make it a plain function"
    raise PolicyError(msg)


def _part(raw: object) -> VerdictKind | type[Exception] | Predicate:
    if isinstance(raw, str) and raw in _WORDS:
        return _WORDS[raw]
    if isinstance(raw, VerdictKind) and raw not in _NEVER_MATCHED:
        return raw
    if not isinstance(raw, type):
        if callable(raw):
            return cast("Predicate", raw)
    # Cancellation and exits end a call; no option may turn them into a failure.
    elif issubclass(raw, Exception):
        return raw
    raise ValueError
