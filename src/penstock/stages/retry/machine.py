"""How retry decides: whether another attempt follows a failure, and after how long."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from penstock.verdict import RetryEffect, Verdict

__all__ = ["AT_ONCE", "Delay", "Reason", "RetryRun", "Stop", "is_retried"]

# A year is "never" to every caller, and still a number that every event loop's timer can hold.
# A wait function that returns infinity means the same.
LONGEST_WAIT = 31_536_000.0

Waits = Callable[[int], float]
Stops = Callable[[int, float, float], bool]


class Reason(enum.Enum):
    """Why no attempt follows; the values are the words in notes and events."""

    ATTEMPTS_SPENT = "attempts spent"
    NOT_RETRIED = "such a failure is not retried"
    COMMITTED = "it has gone too far to be made again"
    HINT_TOO_LONG = "the server asks for a longer wait than max_server_delay"
    TIME_SPENT = "the time for retries is spent"
    DEADLINE = "the next wait cannot end before the deadline"
    BUDGET_SPENT = "retry budget is spent"
    RULE_FAILED = "one of its own rules raised"
    NO_RESOURCE = "no resource of the pool will be ready again"
    RETURN_TOO_LATE = "no resource is back within max_server_delay"


@dataclass(frozen=True, slots=True)
class Delay:
    """Try again in ``seconds``, finite and at least 0."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not try again, for ``reason``."""

    reason: Reason


def is_retried(verdict: Verdict, *, rotates: bool) -> bool:
    """Read the verdict table: is such a failure tried again at all?

    Args:
        verdict: What the failure means.
        rotates: True when a pool of resources stands innermost; without one there is no
            "elsewhere", and the same bad credentials would only be refused again.
    """
    match verdict.effects.retry:
        case RetryEffect.AFTER_BACKOFF | RetryEffect.AT_HINT:
            return True
        case RetryEffect.ELSEWHERE:
            return rotates
        case RetryEffect.NEVER:
            return False


# Fail-over and zero waits are the common case where speed matters; a frozen record costs a while.
AT_ONCE = Delay(0.0)


class RetryRun:
    """The retries of one call, made after its first failure.

    Args:
        attempts: Calls in total, from 1; None for no bound.
        waits: Own back-off: failed attempt, from 1, to seconds.
        stops: Asked with failed attempt, seconds since the start and the coming delay.
        max_server_delay: Most seconds of a server's hint that are obeyed.
        began: Monotonic second in which the call began.
    """

    __slots__ = ("_attempts", "_max_server_delay", "_stops", "_waits", "attempt", "began")

    def __init__(
        self,
        attempts: int | None,
        waits: Waits,
        stops: Stops | None,
        max_server_delay: float,
        began: float,
    ) -> None:
        self._attempts = attempts
        self._waits = waits
        self._stops = stops
        self._max_server_delay = max_server_delay
        self.began = began
        self.attempt = 1

    def decide(
        self, verdict: Verdict, now: float, deadline: float | None, *, ready_in: float | None
    ) -> Delay | Stop:
        """Decide after attempt number ``attempt`` has failed with a failure that is retried.

        Args:
            verdict: What the failure means.
            now: Monotonic seconds.
            deadline: Monotonic second by which the call must have ended; None without one.
            ready_in: Seconds until a resource of the pool is ready, where one resource has failed
                and the next attempt goes to another, which neither this server's hint nor the
                back-off concerns; None where the failure is not a resource's.

        Raises:
            Exception: Whatever the user's own wait or stop function raises.
        """
        if self._attempts is not None and self.attempt >= self._attempts:
            return Stop(Reason.ATTEMPTS_SPENT)
        hint = verdict.retry_after or 0.0
        if ready_in is not None:
            hint = delay = ready_in
        # A hint may only lengthen: "Retry-After: 0" from a crowd of servers must not end back-off.
        else:
            delay = max(self._own_wait(), hint)
        if hint > self._max_server_delay:
            return Stop(Reason.HINT_TOO_LONG if ready_in is None else Reason.RETURN_TOO_LATE)
        if self._stops is not None and self._stops(self.attempt, now - self.began, delay):
            return Stop(Reason.TIME_SPENT)
        if deadline is not None and now + delay >= deadline:
            return Stop(Reason.DEADLINE)
        return Delay(delay) if delay else AT_ONCE

    def _own_wait(self) -> float:
        wait = self._waits(self.attempt)
        # ``max`` with 0.0 first also turns NaN into 0; a sound wait is spared both calls.
        return wait if 0.0 <= wait <= LONGEST_WAIT else min(max(0.0, wait), LONGEST_WAIT)
