"""The two ends of a pipeline: where the operation is started, and where a call leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from penstock.call import Call, RefusedResult
from penstock.classify import Classifier, advised, as_verdict, chain, classify_result
from penstock.errors import ConfigError
from penstock.matching import is_async_callable
from penstock.stage import Handler
from penstock.streaming import StreamOperation
from penstock.verdict import Verdict, VerdictKind

__all__ = ["failure_classifier", "judging", "result_classifier", "start", "unwrapping"]

_log = logging.getLogger("penstock")


def start(call: Call) -> Coroutine[Any, Any, Any]:
    """Start the operation: the innermost handler of every pipeline."""
    return call.fn(*call.args, **call.kwargs)


def judging(classify_result: Callable[[Any], Verdict | None]) -> Handler:
    """Return an innermost handler that also asks what the result means.

    A result that is a failure travels outward as ``RefusedResult``, so that every stage sees it.
    """

    async def start_and_judge(call: Call) -> Any:
        result = await call.fn(*call.args, **call.kwargs)
        # A stream's items went straight to the reader: there is no result to judge.
        if isinstance(call.fn, StreamOperation):
            return result
        verdict = classify_result(result)
        if verdict is None or verdict.kind is VerdictKind.OK:
            return result
        raise RefusedResult(result, verdict)

    return start_and_judge


def unwrapping(call_next: Handler) -> Handler:
    """Wrap a whole pipeline so that a refused result reaches the caller as the result it is."""

    async def unwrap(call: Call) -> Any:
        try:
            return await call_next(call)
        except RefusedResult as refused:
            return refused.result

    return unwrap


def failure_classifier(first: Classifier | None) -> Callable[[BaseException], Verdict]:
    """Return what a policy asks about a failure: the user's classifier, then the table."""
    judge = chain() if first is None else chain(first)

    def classify(failure: BaseException) -> Verdict:
        return failure.verdict if isinstance(failure, RefusedResult) else judge(failure)

    return classify


def result_classifier(how: Any) -> Callable[[Any], Verdict | None]:
    """Return what a policy asks about a result: ``"http"``, or the user's own callable.

    A callable that raises, or answers what is no answer, leaves the result as good as it is; the
    first time it is reported to the ``penstock`` logger.

    Raises:
        ConfigError: It is neither, or a coroutine function.
    """
    if how == "http":
        return classify_result
    if not callable(how) or is_async_callable(how):
        msg = f"policy: 'classify_result' must be 'http' or a plain function(result); got {how!r}"
        raise ConfigError(msg)
    return _OwnJudge(how)


class _OwnJudge:
    """The user's ``classify_result``, which cannot take a result away by a mistake of its own."""

    __slots__ = ("_judge", "_name", "_reported")

    def __init__(self, judge: Callable[[Any], object]) -> None:
        self._judge = judge
        self._name = getattr(judge, "__qualname__", type(judge).__qualname__)
        self._reported = False

    def __call__(self, result: Any) -> Verdict | None:
        try:
            answer = self._judge(result)
        except Exception as mistake:  # noqa: BLE001 - it must not take the result's place
            self._report(f"classifier '{self._name}' raised {type(mistake).__name__}")
            return None
        try:
            verdict = as_verdict(answer, self._name)
        except ConfigError as mistake:
            self._report(str(mistake))
            return None
        if verdict is None or verdict is answer or verdict.kind is VerdictKind.OK:
            return verdict
        return advised(verdict, result, time.time)

    def _report(self, what: str) -> None:
        # Without a traceback: it would show the error's own text, which may hold keys.
        if not self._reported:
            self._reported = True
            _log.warning("%s; the result is taken as good", what)
