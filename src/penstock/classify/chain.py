"""Put classifiers of the user's before the default."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction

from penstock.classify.default import classify
from penstock.classify.guarded import Guarded
from penstock.errors import ConfigError
from penstock.verdict import Verdict, VerdictKind

__all__ = ["Answer", "Classifier", "chain"]

Answer = Verdict | VerdictKind | str | None
"""What a classifier may return; None leaves the failure to the next one."""

Classifier = Callable[[BaseException], Answer]


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
    for classifier in classifiers:
        _check(classifier)
    guarded = [Guarded(ask, "the next classifier is asked instead") for ask in classifiers]

    def judge(failure: BaseException) -> Verdict:
        for ask in guarded:
            verdict = ask(failure)
            if verdict is not None:
                return verdict
        return default(failure)

    return judge


def _check(classifier: object) -> None:
    if iscoroutinefunction(classifier) or not callable(classifier):
        raise ConfigError(
            f"classify: a classifier must be a plain function of the failure; got {classifier!r}"
        )
