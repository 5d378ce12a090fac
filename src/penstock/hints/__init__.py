"""What a server says in its headers: when to come back, whether to come back, what is left.

Everything here is pure and takes any junk: a header that makes no sense is a header that is not
there. Nothing is capped here; how long a policy follows a hint is its own decision.
"""

from __future__ import annotations

from penstock.hints.headers import causes, entry, find_headers, headers_of, peek
from penstock.hints.quota import Quota, quotas
from penstock.hints.values import local_now, number, seconds_until

__all__ = [
    "Quota",
    "causes",
    "entry",
    "find_headers",
    "headers_of",
    "peek",
    "quotas",
    "retry_after",
    "should_retry",
]

# The forms in milliseconds come first: a server that sends one rounds its ``Retry-After`` up.
_MILLISECONDS = (
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "x-amz-retry-after",
    "grpc-retry-pushback-ms",
)

_SHOULD_RETRY = ("x-should-retry", "stripe-should-retry")


def retry_after(headers: object, *, wall_now: float) -> float | None:
    """Return how long the server asks to be left alone.

    The most exact form wins: milliseconds, then ``Retry-After`` (RFC 9110, section 10.2.3), then
    the quota counters that are used up; of those the one that comes back last.

    Args:
        headers: A mapping or pairs, of any kind and in any case.
        wall_now: Seconds since the epoch; used for dates where the answer has no ``Date`` of its
            own, whose clock is the one that the dates were made with.

    Returns:
        Seconds from now, finite and at least 0; None where nothing readable is said.
    """
    known = headers_of(headers)
    for name in _MILLISECONDS:
        milliseconds = number(known.get(name, ""))
        if milliseconds is not None:
            return milliseconds / 1000
    now = local_now(known, wall_now)
    asked = seconds_until(known.get("retry-after", ""), now)
    return _until_quota_is_back(known, now) if asked is None else asked


def _until_quota_is_back(known: dict[str, str], now: float) -> float | None:
    waits = [q.resets_in for q in quotas(known, wall_now=now) if q.remaining == 0]
    return max((wait for wait in waits if wait is not None), default=None)


def should_retry(headers: object) -> bool | None:
    """Return what the server says about another attempt of this request; None if nothing.

    Read from ``x-should-retry`` and ``stripe-should-retry``; a negative ``grpc-retry-pushback-ms``
    is a no (gRFC A6).
    """
    known = headers_of(headers)
    for name in _SHOULD_RETRY:
        match known.get(name, "").lower():
            case "true":
                return True
            case "false":
                return False
            case _:
                continue
    pushback = known.get("grpc-retry-pushback-ms", "")
    return False if pushback.startswith("-") and number(pushback[1:]) is not None else None
