"""The errors a policy raises, from the general to the particular."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "BudgetExhaustedError",
    "CallTimeoutError",
    "CircuitOpenError",
    "ConcurrencyLimitedError",
    "ConfigError",
    "DisplacedError",
    "InvalidResultError",
    "NoResourceError",
    "PolicyError",
    "PolicyOrderWarning",
    "PoolStoppedError",
    "RateLimitedError",
    "RejectedError",
    "RemoteError",
    "WorkerDiedError",
]


class PolicyError(Exception):
    """Base of what penstock itself raises; the operation's own errors pass unchanged."""


class PolicyOrderWarning(UserWarning):
    """A pipeline whose stages stand in an order that rarely does what was meant."""


class ConfigError(PolicyError, ValueError):
    """A policy was built from a value that is not allowed.

    The message names the field, the value and what is allowed.
    """


class RejectedError(PolicyError):
    """A stage refused the call before the operation was started.

    Args:
        message: What refused and why.
        retry_after: Seconds from now until trying again can help; None where nobody knows.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CircuitOpenError(RejectedError):
    """The circuit breaker is open, or half-open with all its probes under way."""


class RateLimitedError(RejectedError):
    """The rate limit could not admit the call within its ``max_wait`` or its deadline."""


class ConcurrencyLimitedError(RejectedError):
    """The concurrency cap and its queue are full, or ``max_wait`` passed in the queue."""


class NoResourceError(RejectedError):
    """The pool is exhausted: no resource can serve the call.

    Args:
        message: Which of the cases it is, with the numbers.
        retry_after: Seconds until the first resource is back; None where nobody knows.
        case: ``"empty"``, ``"all_disabled"``, ``"all_cooling"``, ``"all_full"``, ``"queue_full"``,
            ``"deadline"`` (one is back too late), ``"attempts_spent"`` or ``"displaced"``.
    """

    def __init__(
        self, message: str = "", *, retry_after: float | None = None, case: str = ""
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.case = case


class DisplacedError(NoResourceError):
    """An attempt was cancelled because an older use of its resource was rate limited or refused.

    The attempt is run again elsewhere and does not count; it reaches a caller only where no time is
    left for that.
    """

    def __init__(self, message: str = "", *, call: object = None) -> None:
        super().__init__(message, case="displaced")
        # Not the call itself: its frames hold this error.
        self._call = id(call)

    def concerns(self, call: object) -> bool:
        """Return True for the call whose attempt it was, and not for one further out."""
        return self._call == id(call)


class BudgetExhaustedError(RejectedError):
    """The budget for added load (retries, hedges) is spent."""


class CallTimeoutError(PolicyError, TimeoutError):
    """A timeout stage ended the call, or the attempt, at its time limit.

    Args:
        message: Which limit passed.
        seconds: The limit in seconds.
    """

    def __init__(self, message: str = "", *, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class PoolStoppedError(PolicyError):
    """The worker pool has been stopped, or was not started: it takes no job and drops those it has.

    Its cause, where there is one, is what the pool was stopped for.
    """


class WorkerDiedError(PolicyError):
    """A worker ended while it served the call: killed, crashed, or out of memory.

    Nobody knows how far the call had come. It is transient: retry makes it again, on another worker
    where one is ready.
    """


class RemoteError(Exception):
    """Stands for a failure in another process that cannot travel as it is.

    Args:
        message: The failure's text.
        type_name: Its class, with the module.
        status_code: Its HTTP status, where it had one.
        headers: Its response's headers, where it had any.
        traceback_text: Where it was raised, as Python prints it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        type_name: str = "",
        status_code: int | None = None,
        headers: Mapping[str, str] | None = None,
        traceback_text: str = "",
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.status_code = status_code
        self.headers = dict(headers or {})
        self.traceback_text = traceback_text


class InvalidResultError(PolicyError):
    """Every attempt was spent and the last result was still not acceptable.

    Args:
        message: How many attempts were made.
        results: The refused results in the order of their attempts.
        failures: What validators and attempts raised, in order.
    """

    def __init__(
        self,
        message: str = "",
        *,
        results: tuple[object, ...] = (),
        failures: tuple[BaseException, ...] = (),
    ) -> None:
        super().__init__(message)
        self.results = results
        self.failures = failures
