"""Put classifiers of the user's before the default."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from inspect import iscoroutinefunction

from penstock.classify.default import classify
from penstock.classify.own import sound_seconds
from penstock.classify.status import advised
from penstock.errors import ConfigError
from penstock.verdict import Verdict, VerdictKind

__all__ = ["Answer", "Classifier", "as_verdict", "chain"]

Answer = Verdict | VerdictKind | str | None
"""What a classifier may return; None leaves the failure to the next one."""

Classifier = Callable[[BaseException], Answer]

_logger = logging.getLogger("penstock")


def chain(
    *classifiers: Classifier, default: Callable[[BaseException], Verdict] = classify
) -> Callable[[BaseException], Verdict]:
    """Return a classifier that asks each of these in turn, and the default last.

    A kind or its word becomes a verdict with the hint of the failure's headers. A classifier that
    raises, or returns something else than an ``Answer``, is passed over, so that the failure still
    reaches the caller; the first time it is reported to the ``penstock`` logger.

    Args:
        classifiers: Plain functions of the failure, in the order in which they are asked.
        default: Answers for the failures that none of them answered for.

    Raises:
        ConfigError: A classifier cannot be called, or is a coroutine function.
    """
    guarded = [_Guarded(classifier) for classifier in classifiers]

    def judge(failure: BaseException) -> Verdict:
        for ask in guarded:
            verdict = ask(failure)
            if verdict is not None:
                return verdict
        return default(failure)

    return judge


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


class _Guarded:
    """A classifier of the user's that cannot hide the failure it is asked about."""

    __slots__ = ("_classifier", "_name", "_reported")

    def __init__(self, classifier: Classifier) -> None:
        if iscoroutinefunction(classifier) or not callable(classifier):
            raise ConfigError(
                f"classify: a classifier must be a plain function of the failure; "
                f"got {classifier!r}"
            )
        self._name = getattr(classifier, "__qualname__", type(classifier).__qualname__)
        self._classifier = classifier
        self._reported = False

    def __call__(self, failure: BaseException) -> Verdict | None:
        try:
            answer = self._classifier(failure)
        except Exception as mistake:  # noqa: BLE001 - it must not take the failure's place
            self._report(f"classifier '{self._name}' raised {type(mistake).__name__}")
            return None
        try:
            verdict = as_verdict(answer, self._name)
        except ConfigError as mistake:
            self._report(str(mistake))
            return None
        if verdict is None or verdict is answer:
            return verdict
        named = Verdict(verdict.kind, reason=type(failure).__name__)
        return advised(named, failure, time.time)

    def _report(self, what: str) -> None:
        # Without a traceback: it would show the failure's own text, which may hold keys.
        if not self._reported:
            self._reported = True
            _logger.warning("%s; the next classifier is asked instead", what)
