"""tenacity's wait, stop and retry objects, asked as their own loop would ask them.

Nothing of tenacity is imported unless such an object (or a ``before_sleep`` hook) was given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    import tenacity

__all__ = [
    "TenacityCallback",
    "TenacityState",
    "is_tenacity",
    "is_tenacity_retry",
    "looks_at_results",
]

# What all three kinds of object are: callables that take a RetryCallState.
TenacityCallback = Callable[[Any], Any]

_ONLY_EXCEPTIONS = frozenset(
    {
        "retry_if_exception",
        "retry_if_exception_type",
        "retry_if_not_exception_type",
        "retry_if_exception_cause_type",
        "retry_if_exception_message",
        "_retry_never",
    }
)


def is_tenacity(value: object, base: str = "") -> bool:
    """Return True for an instance of a class of tenacity's, or of one derived from it.

    Args:
        value: Anything.
        base: Name of the class in tenacity that it has to have; empty for any.
    """
    return any(
        cls.__module__.partition(".")[0] == "tenacity" and base in {"", cls.__name__}
        for cls in type(value).__mro__
    )


def is_tenacity_retry(value: object) -> TypeGuard[TenacityCallback]:
    """Return True for a tenacity retry object."""
    return is_tenacity(value, "retry_base")


def looks_at_results(retry: object) -> bool:
    """Return False if a tenacity retry object is certain to let every result pass."""
    if type(retry).__name__ in {"retry_any", "retry_all"} and _is_their_own(retry):
        return any(map(looks_at_results, getattr(retry, "retries", ())))
    return not (_is_their_own(retry) and type(retry).__name__ in _ONLY_EXCEPTIONS)


class TenacityState:
    """A ``RetryCallState`` of one call, made after its first failure.

    Args:
        fn: The operation.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        began: Monotonic second in which the call began.
    """

    __slots__ = ("state",)

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        began: float,
    ) -> None:
        import tenacity  # noqa: PLC0415 - only here is it known to be needed

        self.state = tenacity.RetryCallState(_loop(), fn, args, kwargs)
        self.state.start_time = began

    def record(self, attempt: int, now: float, failure: Exception | None, result: object) -> None:
        """Say how an attempt (from 1) ended: with a failure, or with a result where it is None."""
        state = self.state
        state.attempt_number = attempt
        state.next_action = None
        if failure is None:
            state.set_result(result)
        else:
            state.set_exception((type(failure), failure, None))
        # tenacity has read its own clock; ours may be a virtual one.
        state.outcome_timestamp = now

    def plan(self, seconds: float) -> None:
        """Say how long the coming pause would be; stop objects look at it."""
        self.state.upcoming_sleep = seconds

    def commit(self, seconds: float) -> None:
        """Say that a pause of ``seconds`` is going to happen; ``before_sleep`` hooks look at it."""
        import tenacity  # noqa: PLC0415 - loaded already

        self.plan(seconds)
        self.state.next_action = tenacity.RetryAction(seconds)
        self.state.idle_for += seconds


@cache
def _loop() -> tenacity.AsyncRetrying:
    """Return what stands in for ``retry_object``; hooks rarely look at it."""
    import tenacity  # noqa: PLC0415 - loaded already

    return tenacity.AsyncRetrying()


def _is_their_own(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "tenacity"
