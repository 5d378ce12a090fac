"""What presets read where no table can say it: delays in bodies, reasons, words in a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import cast

from penstock.classify.codes import by_code
from penstock.classify.kinds import top_module
from penstock.classify.presets_protobuf import retry_delay_of
from penstock.classify.status import status_of, verdict_of
from penstock.hints import entry, peek
from penstock.hints.values import seconds_until
from penstock.verdict import Verdict, VerdictKind

__all__ = ["Reader", "read_aws", "read_google", "read_grpc", "read_postgres", "read_redis"]

Reader = Callable[[object, object, float], Verdict | None]
"""Takes a failure or a result, its body where it is there, and seconds since the epoch."""

_FAILED, _LAST = 400, 599

# Most parts of a body that are looked at: servers send three or four.
_MOST_PARTS = 32

_AUTH = VerdictKind.AUTH
_TRANSIENT = VerdictKind.TRANSIENT

# google.rpc.ErrorInfo's ``reason``, which says more than a 400 or a 403.
GOOGLE_REASONS: dict[str, VerdictKind] = {
    "ACCESS_TOKEN_EXPIRED": _AUTH,
    "API_KEY_INVALID": _AUTH,
    "API_KEY_SERVICE_BLOCKED": _AUTH,
    "BILLING_DISABLED": VerdictKind.QUOTA_EXHAUSTED,
    "CONSUMER_INVALID": _AUTH,
    "CONSUMER_SUSPENDED": _AUTH,
    "SERVICE_DISABLED": _AUTH,
}

GOOGLE_STATUSES: dict[str, VerdictKind] = {
    # A 409 that is no lock.
    "ALREADY_EXISTS": VerdictKind.CALLER_BUG,
    "DEADLINE_EXCEEDED": VerdictKind.TIMEOUT,
}

# Google's quotas of a day come back at midnight Pacific time, in summer an hour earlier than this.
_PACIFIC = -8 * 3600
_DAY = 86_400


def read_google(outcome: object, body: object, wall_now: float) -> Verdict | None:
    """Read ``google.rpc``: why a key is refused, whether a quota is a day's, and the delay.

    A day's quota waits for its own midnight: the delay that comes with it is one for the minute.
    """
    if isinstance(outcome, BaseException) and peek(outcome, "retryable") is True:
        # google.auth could not refresh its token because a server was down.
        known = any(top_module(base) == "google" for base in type(outcome).__mro__)
        return Verdict(_TRANSIENT, reason=type(outcome).__name__) if known else None
    error = _google_error(body)
    parts = [*_parts(entry(error, "details"))]
    for part in parts:
        reason = entry(part, "reason")
        if isinstance(reason, str) and reason in GOOGLE_REASONS:
            return Verdict(GOOGLE_REASONS[reason], reason=reason)
    if any(map(_is_of_a_day, parts)):
        until_midnight = _DAY - (wall_now + _PACIFIC) % _DAY
        return Verdict(VerdictKind.QUOTA_EXHAUSTED, until_midnight, "quota of a day")
    word = entry(error, "status")
    if isinstance(word, str) and word in GOOGLE_STATUSES:
        return Verdict(GOOGLE_STATUSES[word], reason=word)
    delays = [delay for delay in map(_google_delay, parts) if delay is not None]
    status = status_of(outcome)
    if status is None:
        return _of_google_event(outcome, error)
    return replace(verdict_of(status), retry_after=max(delays)) if delays else None


def _of_google_event(outcome: object, error: object) -> Verdict | None:
    # The error of a stream that began well has the response of its beginning, a 200.
    code = entry(error, "code") if isinstance(outcome, BaseException) else None
    return verdict_of(code) if isinstance(code, int) and _FAILED <= code <= _LAST else None


def _google_error(body: object) -> object:
    # A request for a stream is answered by a list of one.
    first = next(_parts(body), body)
    error = entry(first, "error")
    return first if error is None else error


def _is_of_a_day(part: object) -> bool:
    for violation in _parts(entry(part, "violations")):
        for name in ("quotaId", "quotaMetric", "quota_id", "quota_metric"):
            quota = entry(violation, name)
            if isinstance(quota, str) and "perday" in quota.replace("_", "").lower():
                return True
    return False


def _google_delay(part: object) -> float | None:
    delay = entry(part, "retryDelay")
    # The JSON form of google.protobuf.Duration: seconds, and always an "s".
    if not isinstance(delay, str) or not delay.endswith("s"):
        return None
    return seconds_until(delay, 0.0)


# Reasons for which DynamoDB cancels a transaction that begins well the next time.
_CANCELLED_BY_OTHERS = {
    "None",
    "ProvisionedThroughputExceeded",
    "ThrottlingError",
    "TransactionConflict",
}


def read_aws(outcome: object, body: object, wall_now: float) -> Verdict | None:
    """Read why DynamoDB has cancelled a transaction: a conflict passes, a condition does not."""
    del body, wall_now
    response = peek(outcome, "response")
    if entry(entry(response, "Error"), "Code") != "TransactionCanceledException":
        return None
    reasons = {entry(part, "Code") for part in _parts(entry(response, "CancellationReasons"))}
    if reasons - {"None", None} and reasons <= _CANCELLED_BY_OTHERS:
        return Verdict(_TRANSIENT, reason="TransactionCanceledException")
    return None


def read_grpc(outcome: object, body: object, wall_now: float) -> Verdict | None:
    """Read the delay of ``google.rpc.RetryInfo`` from the trailing metadata."""
    del body, wall_now
    if not isinstance(outcome, BaseException) or top_module(type(outcome)) != "grpc":
        return None
    delay = retry_delay_of(peek(outcome, "trailing_metadata"))
    verdict = None if delay is None else by_code(outcome)
    return None if verdict is None else replace(verdict, retry_after=delay)


def read_postgres(outcome: object, body: object, wall_now: float) -> Verdict | None:
    """Read that a prepared statement is out of date, which begins well in a new transaction.

    Its SQLSTATE is that of a feature that does not exist.
    """
    del body, wall_now
    driver = peek(outcome, "orig")
    for link in (outcome, driver, peek(driver, "__cause__")):
        if type(link).__name__ == "InvalidCachedStatementError":
            return Verdict(_TRANSIENT, reason="InvalidCachedStatementError")
    return None


# First words of replies that redis-py has no class for.
REDIS_WORDS: dict[str, VerdictKind] = {
    "BUSY": VerdictKind.OVERLOADED,
    "MISCONF": VerdictKind.OVERLOADED,
    "NOGOODSLAVE": _TRANSIENT,
    "NOREPLICAS": _TRANSIENT,
    "UNKILLABLE": VerdictKind.OVERLOADED,
}


_REDIS = {"redis", "valkey"}


def read_redis(outcome: object, body: object, wall_now: float) -> Verdict | None:
    """Read the first word of a plain ``ResponseError``, and a refused login behind another error.

    While it connects, redis-py raises its ``ConnectionError`` from the ``AuthenticationError``.
    """
    del body, wall_now
    cause = peek(outcome, "__cause__")
    if type(cause).__name__ == "AuthenticationError" and top_module(type(cause)) in _REDIS:
        return Verdict(_AUTH, reason="AuthenticationError")
    if not isinstance(outcome, BaseException) or type(outcome).__name__ != "ResponseError":
        return None
    text = outcome.args[0] if outcome.args else None
    word = text[:32].partition(" ")[0] if isinstance(text, str) else ""
    return Verdict(REDIS_WORDS[word], reason=word) if word in REDIS_WORDS else None


def _parts(found: object) -> Iterator[object]:
    return islice(cast("list[object]", found), _MOST_PARTS) if isinstance(found, list) else iter(())
