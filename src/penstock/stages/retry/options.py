"""What can be set on a retry stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from penstock.matching import Matcher, Matching, Which, is_async_callable, parts_of
from penstock.options import Count, Number, Options, Rule, SecondsFromZero
from penstock.stages.retry.adapter import TenacityCallback, is_tenacity, is_tenacity_retry
from penstock.stages.retry.backoff import Backoff, Exponential

__all__ = [
    "DEFAULT_ATTEMPTS",
    "DEFAULT_MAX_SERVER_DELAY",
    "Accept",
    "RetryOptions",
    "split_retry_on",
]

# Three calls outlive a restarting process and a lost packet; what fails three times in a row is
# nearly always down, and a fourth call would only add load. It is also what the clients of AWS,
# OpenAI and Anthropic do, so replacing theirs by ours changes nothing.
DEFAULT_ATTEMPTS = 3

# A server that asks for more than two minutes means "not now", and a caller held that long believes
# the program has hung. OpenAI's client draws the line at the same 120 s.
DEFAULT_MAX_SERVER_DELAY = 120.0

# Exponential with full jitter: the shape with the fewest calls to a struggling service in the
# comparison of the AWS article. Its numbers are reasoned for beside their names in backoff.py.
DEFAULT_WAIT = Exponential()

Wait = float | Backoff | TenacityCallback | Callable[[int], float]
Stop = float | TenacityCallback | Callable[[int, float], bool]
Accept = Callable[[Any], bool | Awaitable[bool]]
OnRetry = Callable[[int, Exception], object]


class _WaitRule(Rule):
    allowed = (
        "seconds of at least 0, a back-off shape such as Exponential(), a tenacity wait object, "
        "or a plain function of the attempt (from 1) that returns seconds"
    )

    def read(self, value: Any) -> Any:
        if isinstance(value, Backoff) or is_tenacity(value, "wait_base"):
            return value
        return value if _is_plain_callable(value) else Number(unit="s").read(value)


class _StopRule(Rule):
    allowed = (
        "seconds above 0, a tenacity stop object, or a plain function of the attempt (from 1) and "
        "the seconds since the start that returns True to stop"
    )

    def read(self, value: Any) -> Any:
        if is_tenacity(value, "stop_base") or _is_plain_callable(value):
            return value
        return Number(unit="s", exclusive=True).read(value)


class _RetryOnRule(Rule):
    allowed = Matching().allowed + ", or a tenacity retry object"

    def read(self, value: Any) -> Any:
        split_retry_on(value)
        return value


class _AcceptRule(Rule):
    allowed = "a predicate of the result (sync or async), or several of them"

    def read(self, value: Any) -> Any:
        predicates = tuple(parts_of(value))
        if not predicates or not all(map(callable, predicates)):
            raise ValueError
        return predicates


class _HookRule(Rule):
    allowed = "a function, sync or async"

    def read(self, value: Any) -> Any:
        if not _is_function(value):
            raise ValueError
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions(Options):
    """Options of the retry stage.

    Attributes:
        attempts: Calls in total, the first included, from 1. None means 3, or no bound on their
            number where ``stop`` is given.
        wait: Seconds before the next attempt: a number, a ``Backoff`` shape, a tenacity wait
            object, or a function of the failed attempt (from 1).
        retry_on: Which failures are tried again: exception types, predicates (sync or async),
            verdict kinds, tenacity retry objects, or several of them. None leaves it to the
            verdict table.
        accept: Predicates (sync or async) that all have to be true of a result; one that raises
            counts as "not accepted".
        stop: No further attempt begins after so many seconds in total; or a tenacity stop object,
            or a function of the failed attempt (from 1) and the seconds since the start.
        on_retry: Called (awaited if it is async) before each pause with the number of the failed
            attempt, from 1, and its exception; what it raises is logged and changes nothing.
        before_sleep: As tenacity's: called before each pause with a ``RetryCallState``.
        max_server_delay: Most seconds that a server's ``Retry-After`` is obeyed, from 0; retry
            gives up at once where it asks for more.
    """

    stage: ClassVar[str] = "retry"

    attempts: Count | None = None
    wait: Annotated[Wait, _WaitRule()] = DEFAULT_WAIT
    retry_on: Annotated[Which | TenacityCallback, _RetryOnRule()] | None = None
    accept: Annotated[Accept | tuple[Accept, ...], _AcceptRule()] | None = None
    stop: Annotated[Stop, _StopRule()] | None = None
    on_retry: Annotated[OnRetry, _HookRule()] | None = None
    before_sleep: Annotated[Callable[[Any], object], _HookRule()] | None = None
    max_server_delay: SecondsFromZero = DEFAULT_MAX_SERVER_DELAY

    def __post_init__(self) -> None:
        """Check every field; fill in ``attempts``."""
        Options.__post_init__(self)
        if self.attempts is None and self.stop is None:
            object.__setattr__(self, "attempts", DEFAULT_ATTEMPTS)


def split_retry_on(which: object) -> tuple[Matcher | None, tuple[TenacityCallback, ...]]:
    """Return our part of a ``retry_on`` value, and the tenacity retry objects in it.

    Raises:
        ValueError: A part of it is not allowed.
    """
    theirs: list[TenacityCallback] = []
    ours: list[Any] = []
    for part in parts_of(which):
        if is_tenacity_retry(part):
            theirs.append(part)
        elif is_tenacity(part):
            raise ValueError
        else:
            ours.append(part)
    return (Matcher.of(ours) if ours or not theirs else None), tuple(theirs)


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type)


def _is_plain_callable(value: object) -> bool:
    # Async ones are refused: a wait has to be known at once, so that it can be priced.
    return _is_function(value) and not is_tenacity(value) and not is_async_callable(value)
