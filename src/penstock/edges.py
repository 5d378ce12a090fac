"""The two ends of a pipeline: where the operation is started, and where a call leaves."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from penstock.call import Call, RefusedResult
from penstock.classify import (
    Classify,
    Guarded,
    chain,
    classifiers_of,
    classify_result,
    judging_results,
    preset_named,
)
from penstock.driving import HandingOperation
from penstock.errors import ConfigError, DisplacedError, NoResourceError
from penstock.hints import peek
from penstock.matching import is_async_callable
from penstock.stage import Handler
from penstock.verdict import Verdict, VerdictKind

__all__ = [
    "failure_classifier",
    "judging",
    "report_answer",
    "result_classifier",
    "running_again",
    "start",
    "starting_with",
    "unwrapping",
]


def start(call: Call) -> Coroutine[Any, Any, Any]:
    """Start the operation: the innermost handler of every pipeline."""
    return call.fn(*call.args, **call.kwargs)


def starting_with(inject: str | None) -> Handler:
    """Return an innermost handler that hands the attempt's resource to the operation.

    Args:
        inject: ``"first"`` for the resource as the first positional argument, the name of a keyword
            for its value, or None for nothing.
    """
    if inject is None:
        return start
    if inject == "first":
        return _start_with_resource

    def start_with_value(call: Call) -> Coroutine[Any, Any, Any]:
        return call.fn(*call.args, **{**call.kwargs, inject: call.resource.value})

    return start_with_value


def _start_with_resource(call: Call) -> Coroutine[Any, Any, Any]:
    return call.fn(call.resource, *call.args, **call.kwargs)


def judging(
    classify_result: Callable[[Any], Verdict | None],
    begin: Handler = start,
    on_good: Callable[[Call, Any], None] | None = None,
) -> Handler:
    """Return an innermost handler that also asks what the result means.

    A result that is a failure travels outward as ``RefusedResult``, so that every stage sees it.

    Args:
        classify_result: Takes a result; None takes it as good.
        begin: Starts the operation.
        on_good: Told of every good result while its resource is still held.
    """

    async def start_and_judge(call: Call) -> Any:
        result = await begin(call)
        # A stream's items went straight to the reader: there is no result to judge.
        if isinstance(call.fn, HandingOperation):
            return result
        verdict = classify_result(result)
        if verdict is None or verdict.kind is VerdictKind.OK:
            if on_good is not None:
                on_good(call, result)
            return result
        raise RefusedResult(result, verdict)

    return start_and_judge


def report_answer(call: Call, answer: Any) -> None:
    """Tell whom it concerns what a good answer of HTTP says is left of the quota."""
    if call.lease is not None or call.context.limits:
        call.report(peek(answer, "headers"))


def unwrapping(call_next: Handler) -> Handler:
    """Wrap a whole pipeline so that a refused result reaches the caller as the result it is."""

    async def unwrap(call: Call) -> Any:
        try:
            return await call_next(call)
        except RefusedResult as refused:
            return refused.result

    return unwrap


def running_again(call_next: Handler) -> Handler:
    """Wrap a pipeline without retry so that displaced attempts are run again.

    From here they pay the rate limit and ask for a permit like any other attempt.
    """

    async def run_again(call: Call) -> Any:
        lost: DisplacedError | None = None
        try:
            while True:
                try:
                    return await call_next(call)
                except DisplacedError as displaced:
                    if not displaced.concerns(call):
                        raise
                    lost = displaced
                except NoResourceError as exhausted:
                    exhausted.__cause__ = exhausted.__cause__ or lost
                    raise
                call.forget_verdict()
                call.attempt += 1
        finally:
            # Its frames hold this one: together they would be a cycle.
            del lost

    return run_again


def failure_classifier(first: Classify | None) -> Callable[[BaseException], Verdict]:
    """Return what a policy asks about a failure: the user's classifiers, then the table."""
    judge = chain(*classifiers_of(first))

    def classify(failure: BaseException) -> Verdict:
        return failure.verdict if isinstance(failure, RefusedResult) else judge(failure)

    return classify


def result_classifier(how: Any) -> Callable[[Any], Verdict | None]:
    """Return what a policy asks about a result: the name of a preset, or the user's own callable.

    A callable that raises, or answers what is no answer, leaves the result as good as it is; the
    first time it is reported to the ``penstock`` logger.

    Raises:
        ConfigError: It is neither, or a coroutine function.
    """
    if how == "http":
        return classify_result
    if isinstance(how, str):
        return judging_results(preset_named(how, "results"))
    if not callable(how) or is_async_callable(how):
        what = "the name of a preset, such as 'http', or a plain function(result)"
        msg = f"policy: 'classify_result' must be {what}; got {how!r}"
        raise ConfigError(msg)
    return Guarded(how, "the result is taken as good")
