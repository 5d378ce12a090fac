"""Which orders of stages are refused or warned about: the rules as data.

``check``, ``explain`` and the documentation read the same list.
"""

from __future__ import annotations

import enum
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from penstock.errors import ConfigError, PolicyOrderWarning

__all__ = [
    "RULES",
    "Finding",
    "Level",
    "OrderRule",
    "findings",
    "level_of_caller",
    "refuse_misordered",
    "warn_about_order",
]


class Level(enum.Enum):
    """How bad a finding is: refused, warned about, or worth a line in ``explain``."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says of one pipeline.

    Attributes:
        level: Refused, warned about, or noted.
        rule: The rule's name.
        message: What is wrong and what to do.
        place: Index of the stage to point at, from 0 (the outermost).
    """

    level: Level
    rule: str
    message: str
    place: int


Outer = Any
Inner = Any


@dataclass(frozen=True, slots=True)
class OrderRule:
    """A rule over two stages of a pipeline, ``outer`` standing somewhere outside ``inner``."""

    name: str
    level: Level
    broken_by: Callable[[Outer, Inner], str | None]


def _named(stage: Any) -> str:
    return getattr(stage, "name", "")


def _option(stage: Any, name: str) -> Any:
    # A custom stage may be called "timeout" too, and have no options.
    return getattr(getattr(stage, "options", None), name, None)


def _inside_rotation(outer: Outer, inner: Inner) -> str | None:
    # Not by its name, which a custom stage may have too.
    if hasattr(outer, "health_for"):
        return f"rotation must be innermost; move it below '{_named(inner) or 'the custom stage'}'"
    return None


def _same_instance(outer: Outer, inner: Inner) -> str | None:
    if outer is inner and hasattr(outer, "snapshot"):
        return f"the same '{_named(outer)}' stage stands twice in one pipeline; use two, or fresh()"
    return None


def _longer_attempt(outer: Outer, inner: Inner) -> str | None:
    if not _named(outer) == _named(inner) == "timeout":
        return None
    total, limit = _option(outer, "seconds"), _option(inner, "seconds")
    if total is None or limit is None or limit <= total:
        return None
    return (
        f"the inner timeout of {limit:g} s can never pass: the outer one ends the call after "
        f"{total:g} s"
    )


def _rate_outside_retry(outer: Outer, inner: Inner) -> str | None:
    if _named(outer) == "rate_limit" and _named(inner) == "retry":
        return "the rate limit stands outside retry: retries do not pay it; move it inside"
    return None


def _concurrency_outside_retry(outer: Outer, inner: Inner) -> str | None:
    if _named(outer) == "concurrency" and _named(inner) == "retry":
        return "the concurrency cap stands outside retry: a permit is held during back-off"
    return None


def _swallowing_fallback(outer: Outer, inner: Inner) -> str | None:
    if (
        _named(outer) == "retry"
        and _named(inner) == "fallback"
        and hasattr(inner, "options")
        and _option(inner, "fallback_on") is None
    ):
        return (
            "the fallback inside retry answers every failure: retry can never fire; move it outside"
        )
    return None


def _late_budget(outer: Outer, inner: Inner) -> str | None:
    if _named(outer) == "retry" and _named(inner) == "budget":
        return "the budget stands inside retry and is never asked; move it outside"
    return None


def _retry_over_retry(outer: Outer, inner: Inner) -> str | None:
    if _named(outer) == _named(inner) == "retry":
        calls = _attempts(outer) * _attempts(inner)
        worst = "without bound" if calls == float("inf") else f"{calls:g} times"
        return f"retry over retry multiplies: the operation can be called {worst}; keep one"
    return None


def _attempts(retry: Any) -> float:
    attempts = _option(retry, "attempts")
    return float("inf") if attempts is None else attempts


RULES: tuple[OrderRule, ...] = (
    OrderRule("rotation-innermost", Level.ERROR, _inside_rotation),
    OrderRule("stage-twice", Level.ERROR, _same_instance),
    OrderRule("attempt-longer-than-total", Level.ERROR, _longer_attempt),
    OrderRule("fallback-hides-retry", Level.ERROR, _swallowing_fallback),
    OrderRule("budget-inside-retry", Level.ERROR, _late_budget),
    OrderRule("rate-outside-retry", Level.WARNING, _rate_outside_retry),
    OrderRule("retry-over-retry", Level.WARNING, _retry_over_retry),
    OrderRule("concurrency-outside-retry", Level.NOTE, _concurrency_outside_retry),
)


def findings(stages: Sequence[Any]) -> Iterator[Finding]:
    """Yield what the rules say of a pipeline, outermost stage first."""
    for (_, outer), (place, inner) in combinations(enumerate(stages), 2):
        for rule in RULES:
            message = rule.broken_by(outer, inner)
            if message is not None:
                yield Finding(rule.level, rule.name, message, place)


def refuse_misordered(policy: str, stages: Sequence[Any]) -> None:
    """Raise for the first order that is refused.

    Raises:
        ConfigError: A rule of level ERROR is broken.
    """
    for finding in findings(stages):
        if finding.level is Level.ERROR:
            msg = f"policy '{policy}': {finding.message}"
            raise ConfigError(msg)


def warn_about_order(policy: str, stages: Sequence[Any]) -> None:
    """Issue a ``PolicyOrderWarning`` for every order that rarely does what was meant."""
    for finding in findings(stages):
        if finding.level is Level.WARNING:
            msg = f"policy '{policy}': {finding.message}"
            warnings.warn(msg, PolicyOrderWarning, stacklevel=level_of_caller())


def level_of_caller() -> int:
    """Return the ``stacklevel`` at which the user's code called into penstock."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "penstock":
        level, frame = level + 1, frame.f_back
    # One of them is this function's own.
    return level
