"""Ask a classifier of the user's, which can spoil nothing by a mistake of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from penstock.classify.own import sound_seconds
from penstock.classify.status import advised
from penstock.errors import ConfigError
from penstock.verdict import Verdict, VerdictKind

__all__ = ["Guarded", "as_verdict"]

_logger = logging.getLogger("penstock")


def as_verdict(answer: object, who: str) -> Verdict | None:
    """Return a classifier's answer as a verdict; None stays None.

    Args:
        answer: What the classifier returned.
        who: The classifier's name, for the error.

    Raises:
        ConfigError: The answer is neither a verdict, a kind, a kind's word nor None.
    """
    if answer is None:
        return None
    if isinstance(answer, Verdict):
        _check(answer, who)
        return answer
    try:
        return Verdict(VerdictKind(answer))
    except ValueError:
        words = ", ".join(kind.value for kind in VerdictKind)
        raise ConfigError(
            f"classifier '{who}' must return a Verdict, a VerdictKind, None or one of {words}; "
            f"got {answer!r}"
        ) from None


def _check(verdict: Verdict, who: str) -> None:
    hint = verdict.retry_after
    if hint is not None and sound_seconds(hint) is None:
        raise ConfigError(
            f"classifier '{who}': 'retry_after' must be a finite number of seconds of at least 0, "
            f"or None; got {hint!r}"
        )
    as_verdict(verdict.kind, who)


class Guarded:
    """Asks a classifier, and takes its mistakes for no answer; the first one is reported.

    A kind, or its word, becomes a verdict with the hint of the outcome's headers.

    Args:
        ask: Takes a failure or a result.
        instead: What happens after a mistake, for the report.
    """

    __slots__ = ("_ask", "_instead", "_name", "_reported")

    def __init__(self, ask: Callable[[Any], object], instead: str) -> None:
        self._ask = ask
        self._instead = instead
        self._name = getattr(ask, "__qualname__", type(ask).__qualname__)
        self._reported = False

    def __call__(self, outcome: object) -> Verdict | None:
        """Return the verdict; None where the classifier has none, or makes a mistake."""
        try:
            answer = self._ask(outcome)
        except Exception as mistake:  # noqa: BLE001 - it must not take the outcome's place
            self._report(f"classifier '{self._name}' raised {type(mistake).__name__}")
            return None
        try:
            verdict = as_verdict(answer, self._name)
        except ConfigError as mistake:
            self._report(str(mistake))
            return None
        if verdict is None or verdict is answer:
            return verdict
        reason = type(outcome).__name__ if isinstance(outcome, BaseException) else None
        named = Verdict(verdict.kind, reason=reason)
        return named if named.kind is VerdictKind.OK else advised(named, outcome, time.time)

    def _report(self, what: str) -> None:
        # Without a traceback: it would show the error's own text, which may hold keys.
        if not self._reported:
            self._reported = True
            _logger.warning("%s; %s", what, self._instead)
