"""Read one header value: numbers, durations and dates in the forms that servers send."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

__all__ = ["local_now", "number", "seconds_until"]

# A reset above these is a moment and not a duration: 1e9 s is 31 years, and 2001 as a date.
_EPOCH_SECONDS_FROM = 1e9
_EPOCH_MILLISECONDS_FROM = 1e11

# Not ``float()``, which also reads nan, inf, 1_000 and digits of other scripts.
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18}")

_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_GO_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ns|us|µs|ms|s|m|h|d)")
_GO_DURATION = re.compile(rf"(?:{_GO_PART.pattern}){{1,8}}")


def number(text: str) -> float | None:
    """Return a plain decimal number of at least 0; None for anything else."""
    return float(text) if _NUMBER.fullmatch(text) else None


def seconds_until(text: str, now: float) -> float | None:
    """Return the seconds from ``now`` that a delay, a duration or a moment stands for.

    Args:
        text: Seconds, epoch seconds (above 1e9), epoch milliseconds (above 1e11), a Go duration
            (``6m0s``, ``120ms``), an RFC 3339 date or an HTTP date.
        now: Seconds since the epoch.

    Returns:
        At least 0 (a moment that has passed is now); None where ``text`` is none of these.
    """
    plain = number(text)
    if plain is not None:
        return _from_number(plain, now)
    if _GO_DURATION.fullmatch(text):
        return sum(float(n) * _GO_UNITS[unit] for n, unit in _GO_PART.findall(text))
    moment = _rfc3339(text) if text[:1].isdigit() else _http_date(text)
    return None if moment is None else max(0.0, moment - now)


def local_now(known: Mapping[str, str], wall_now: float) -> float:
    """Return the server's own clock from its ``Date``, else ``wall_now``."""
    date = _http_date(known.get("date", ""))
    return wall_now if date is None else date


def _from_number(plain: float, now: float) -> float:
    if plain > _EPOCH_MILLISECONDS_FROM:
        return max(0.0, plain / 1000 - now)
    if plain > _EPOCH_SECONDS_FROM:
        return max(0.0, plain - now)
    return plain


def _rfc3339(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _timestamp(moment)


def _http_date(text: str) -> float | None:
    if not text:
        return None
    # Imported here because it pulls in the mail package, and most servers send seconds.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _timestamp(moment)


def _timestamp(moment: datetime) -> float:
    # Both kinds of date are UTC where they name no zone.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
