"""What an HTTP status means, and where exceptions and results keep theirs."""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock.hints import entry, find_headers, peek, retry_after, should_retry
from penstock.verdict import OK, RetryEffect, Verdict, VerdictKind

__all__ = [
    "STATUSES",
    "advised",
    "by_status",
    "classify_result",
    "is_failed",
    "result_status_of",
    "status_of",
    "verdict_of",
]

# One row per status that means something else than its class; RFC 9110 and 6585, 529 Anthropic's.
STATUSES: dict[int, VerdictKind] = {
    401: VerdictKind.AUTH,
    402: VerdictKind.QUOTA_EXHAUSTED,
    407: VerdictKind.AUTH,
    408: VerdictKind.TRANSIENT,
    425: VerdictKind.TRANSIENT,
    429: VerdictKind.RATE_LIMITED,
    503: VerdictKind.OVERLOADED,
    529: VerdictKind.OVERLOADED,
}

_FIRST, _FIRST_FAILURE, _FIRST_OF_SERVER, _LAST = 100, 400, 500, 599

# ``code`` comes last: it is a property that warns in aiohttp, and a method in gRPC.
_PATHS = (
    ("status_code",),
    ("status",),
    ("http_status",),
    ("response", "status_code"),
    ("response", "status"),
    ("code",),
)


def classify_result(
    result: object, *, wall_clock: Callable[[], float] = time.time
) -> Verdict | None:
    """Judge an HTTP response by its ``status_code`` (or ``status``) and its headers.

    Args:
        result: What the operation returned.
        wall_clock: Seconds since the epoch, for dates in headers of an answer without a ``Date``.

    Returns:
        OK below 400; None where the result has no such attribute: then it is just a result.
    """
    status = result_status_of(result)
    if status is None:
        return None
    if not is_failed(status):
        return OK
    return advised(verdict_of(status), result, wall_clock)


def is_failed(status: int) -> bool:
    """Return whether a status is one of a refusal or a failure."""
    return status >= _FIRST_FAILURE


def result_status_of(result: object) -> int | None:
    """Return the HTTP status of an answer; None where it is none."""
    status = _whole(peek(result, "status_code"))
    return _whole(peek(result, "status")) if status is None else status


def status_of(failure: object) -> int | None:
    """Return the HTTP status of a failure if it is one from 400 to 599, else None."""
    for path in _PATHS:
        holder: object = failure
        for name in path:
            holder = peek(holder, name)
        status = _whole(holder)
        if status is not None:
            return status if is_failed(status) else None
    metadata = entry(peek(failure, "response"), "ResponseMetadata")
    status = _whole(entry(metadata, "HTTPStatusCode"))
    return None if status is None or not is_failed(status) else status


def by_status(failure: BaseException) -> Verdict | None:
    """Return what the HTTP status of a failure means; None where it has none from 400 to 599."""
    status = status_of(failure)
    return None if status is None else verdict_of(status)


def advised(verdict: Verdict, outcome: object, wall_clock: Callable[[], float]) -> Verdict:
    """Return the verdict with what the server's headers add to it.

    ``x-should-retry`` is obeyed. ``true`` turns a kind that is not retried here into TRANSIENT;
    ``false`` turns one that is into CALLER_BUG, the only kind that is never retried and is nobody's
    fault; AUTH and QUOTA_EXHAUSTED stay, because another resource can still serve.
    """
    headers = find_headers(outcome)
    if not headers and verdict.retry_after is None:
        return verdict
    advice, hint = should_retry(headers), retry_after(headers, wall_now=wall_clock())
    kind = _OBEYED[advice].get(verdict.kind, verdict.kind)
    if verdict == _FORBIDDEN and advice is None and hint:
        # Who is refused for good is not told when to come back: GitHub limits with a 403.
        kind = VerdictKind.RATE_LIMITED
    if kind not in _RETRIED:
        return Verdict(kind, None, verdict.reason, verdict.sent)
    # The delay in a body counts where no header says one.
    hint = verdict.retry_after if hint is None else hint
    return Verdict(kind, hint, verdict.reason, verdict.sent)


_FORBIDDEN = Verdict(VerdictKind.CALLER_BUG, reason="403")

_RETRIED = frozenset(
    kind
    for kind in VerdictKind
    if Verdict(kind).effects.retry in (RetryEffect.AFTER_BACKOFF, RetryEffect.AT_HINT)
)


# What the server says about another attempt -> the kinds that it changes.
_OBEYED: dict[bool | None, dict[VerdictKind, VerdictKind]] = {
    None: {},
    True: dict.fromkeys(set(VerdictKind) - _RETRIED, VerdictKind.TRANSIENT),
    False: dict.fromkeys(_RETRIED - {VerdictKind.QUOTA_EXHAUSTED}, VerdictKind.CALLER_BUG),
}


def verdict_of(status: int) -> Verdict:
    """Return what an HTTP status from 400 to 599 means in general."""
    of_class = VerdictKind.CALLER_BUG if status < _FIRST_OF_SERVER else VerdictKind.TRANSIENT
    return Verdict(STATUSES.get(status, of_class), reason=str(status))


def _whole(value: object) -> int | None:
    if not isinstance(value, int):
        return None
    plain = int.__int__(value)  # an enum member becomes a number
    return plain if _FIRST <= plain <= _LAST else None
