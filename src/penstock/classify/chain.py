"""Put classifiers of the user's before the default."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import iscoroutinefunction
from typing import cast

from penstock.classify.default import classify
from penstock.classify.guarded import Guarded
from penstock.classify.named import asking
from penstock.classify.presets import PresetName, preset_named
from penstock.errors import ConfigError
from penstock.verdict import Verdict, VerdictKind

__all__ = ["Answer", "Classifier", "Classify", "chain", "classifiers_of"]

Answer = Verdict | VerdictKind | str | None
"""What a classifier may return; None leaves the failure to the next one."""

Classifier = Callable[[BaseException], Answer]

Classify = Classifier | PresetName | Sequence[Classifier | PresetName]
"""What a policy takes: a function, the name of a preset, or several of them, asked in order."""


def chain(
    *classifiers: Classifier | PresetName, default: Callable[[BaseException], Verdict] = classify
) -> Callable[[BaseException], Verdict]:
    """Return a classifier that asks each of these in turn, and the default last.

    A kind or its word becomes a verdict with the hint of the failure's headers. A classifier that
    raises, or returns something else than an ``Answer``, is passed over, so that the failure still
    reaches the caller; the first time it is reported to the ``penstock`` logger.

    Args:
        classifiers: Plain functions of the failure and names of presets, in the order in which they
            are asked.
        default: Answers for the failures that none of them answered for.

    Raises:
        ConfigError: A classifier cannot be called, is a coroutine function, or no preset has that
            name.
    """
    asked = [_asked(classifier) for classifier in classifiers]
    guarded = [Guarded(ask, "the next classifier is asked instead") for ask in asked]

    def judge(failure: BaseException) -> Verdict:
        for ask in guarded:
            verdict = ask(failure)
            if verdict is not None:
                return verdict
        return default(failure)

    return judge


def classifiers_of(given: object) -> tuple[Classifier | PresetName, ...]:
    """Return what a policy was given for ``classify`` as a tuple; None is none of them.

    Raises:
        ConfigError: It is an empty list.
    """
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        return (cast("Classifier", given),)
    several = cast("Iterable[Classifier | PresetName]", given)
    if not given:
        raise ConfigError("policy: 'classify' must name at least one classifier; got an empty list")
    return tuple(several)


def _asked(classifier: object) -> Callable[[BaseException], object]:
    if isinstance(classifier, str):
        return asking(preset_named(classifier))
    if iscoroutinefunction(classifier) or not callable(classifier):
        raise ConfigError(
            "classify: a classifier must be a plain function of the failure or the name of a "
            f"preset; got {classifier!r}"
        )
    return cast("Classifier", classifier)
