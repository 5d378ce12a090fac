"""The default classifier: one failure in, one verdict out."""

from __future__ import annotations

import builtins
import errno
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import cast

from penstock.classify.codes import by_code, by_event
from penstock.classify.kinds import builtin_row, client_row
from penstock.classify.own import by_own_type
from penstock.classify.presets import preset_at, preset_of
from penstock.classify.status import advised, by_status, status_of
from penstock.errors import PolicyError, RemoteError
from penstock.hints import causes, peek
from penstock.verdict import Signal, Verdict, VerdictKind

__all__ = ["by_client_type", "classify"]

# Every attribute that is looked at. An exception that has none of them tells no more than its type
# does, and that is kept per type: 0.1 us instead of 15.
TELLING: frozenset[str] = frozenset(
    {
        "body",
        "code",
        "connection_invalidated",
        "grpc_status_code",
        "headers",
        "http_status",
        "litellm_response_headers",
        "orig",
        "pgcode",
        "response",
        "sqlstate",
        "status",
        "status_code",
        "trailing_metadata",
        "type",
    }
)

# A class that answers for attributes it does not have may have any of them.
_ANSWERING = {"__getattr__", "__getattribute__", "__dict__"}

_UNREACHABLE = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}

# Of several failures at once the one that is hardest to help decides.
_GRAVEST_FIRST = (
    VerdictKind.CALLER_BUG,
    VerdictKind.AUTH,
    VerdictKind.QUOTA_EXHAUSTED,
    VerdictKind.RATE_LIMITED,
    VerdictKind.OVERLOADED,
    VerdictKind.TIMEOUT,
    VerdictKind.TRANSIENT,
    VerdictKind.UNKNOWN,
    VerdictKind.CANCELLED,
    VerdictKind.OK,
)

# requests, urllib3's two and the one of Python are four.
_MOST_CARRIED = 6

# A group of more than this is judged by its first members.
_MAX_MEMBERS = 64


def classify(failure: BaseException, *, wall_clock: Callable[[], float] = time.time) -> Verdict:
    """Return what a failure means, by the most direct evidence there is.

    In this order: penstock's own signals and errors, codes of the server, well-known exceptions of
    client libraries, the HTTP status, Python's own exceptions; codes and statuses by the preset of
    the exception's module first. It never raises an ``Exception``,
    whatever the failure's attributes do; a ``KeyboardInterrupt`` that arrives meanwhile passes.

    Args:
        failure: What the operation raised.
        wall_clock: Seconds since the epoch, for dates in headers of an answer without a ``Date``.
    """
    try:
        by_type = _by_type_alone(type(failure))
        if (
            by_type is not None
            and failure.__cause__ is None
            and TELLING.isdisjoint(failure.__dict__)
        ):
            return by_type
        return _judge(failure, wall_clock)
    except Exception:  # noqa: BLE001 - the failure itself has to reach the caller, not this one
        return _by_builtin_type(type(failure))


def _judge(failure: BaseException, wall_clock: Callable[[], float]) -> Verdict:
    if not isinstance(failure, Exception):
        return _by_builtin_type(type(failure))
    if isinstance(failure, Signal | PolicyError):
        return by_own_type(failure)
    if isinstance(failure, ExceptionGroup):
        return _by_members(cast("ExceptionGroup[Exception]", failure), wall_clock)
    # A failure that could not leave its process is judged as what it was there.
    was = failure.type_name if isinstance(failure, RemoteError) else None
    preset = preset_of(type(failure)) if was is None else preset_at(was)
    told = (
        (preset and preset.by_code(failure, wall_clock()))
        or by_code(failure)
        or by_client_type(failure)
        or (preset and preset.by_status(failure, status_of(failure)))
        or by_status(failure)
        or by_event(failure)
    )
    if told is not None:
        return advised(told, failure, wall_clock)
    verdict = _by_builtin_type(type(failure))
    if verdict.kind is not VerdictKind.UNKNOWN:
        # A ValueError stays one, whatever the answer that it was raised from had for headers.
        return verdict
    return advised(_by_errno(failure) or verdict, failure, wall_clock)


def _by_members(group: ExceptionGroup[Exception], wall_clock: Callable[[], float]) -> Verdict:
    members = islice(group.exceptions, _MAX_MEMBERS)
    verdicts = [classify(member, wall_clock=wall_clock) for member in members]
    gravest = min(verdicts, key=lambda verdict: _GRAVEST_FIRST.index(verdict.kind))
    hints = [verdict.retry_after for verdict in verdicts if verdict.retry_after is not None]
    sent = any(verdict.sent for verdict in verdicts)
    return Verdict(gravest.kind, max(hints, default=None), gravest.reason, sent)


def by_client_type(failure: Exception) -> Verdict | None:
    """Return what a well-known exception of a client library means; None where it is none."""
    row = client_row(type(failure))
    if row is None:
        return None
    # A certificate that is refused comes as a connection error, and is still refused next time.
    if row.kind is VerdictKind.TRANSIENT and _is_refused_certificate(failure):
        return Verdict(VerdictKind.CALLER_BUG, reason="SSLCertVerificationError")
    return Verdict(row.kind, reason=type(failure).__name__, sent=row.sent)


def _is_refused_certificate(failure: Exception) -> bool:
    return any(
        base.__name__ == "SSLCertVerificationError"
        for link in causes(failure)
        for suspect in _carried(link)
        for base in type(suspect).__mro__
    )


def _carried(link: object) -> Iterator[object]:
    # httpcore raises its own error with the real one as argument instead of as cause; requests has
    # one of urllib3's there, with the real one as argument of its reason.
    for _ in range(_MOST_CARRIED):
        if not isinstance(link, BaseException):
            return
        yield link
        reason = peek(link, "reason")
        link = reason if isinstance(reason, BaseException) else next(iter(link.args), None)


def _by_errno(failure: Exception) -> Verdict | None:
    if isinstance(failure, OSError) and failure.errno in _UNREACHABLE:
        return Verdict(VerdictKind.TRANSIENT, reason=errno.errorcode[failure.errno], sent=False)
    return None


def _by_builtin_type(failure_type: type[BaseException]) -> Verdict:
    name = failure_type.__name__
    if not issubclass(failure_type, Exception):
        return Verdict(VerdictKind.CANCELLED, reason=name)
    row = builtin_row(failure_type)
    if row is None:
        return Verdict(VerdictKind.UNKNOWN, reason=name)
    return Verdict(row.kind, reason=name, sent=row.sent)


def _type_verdict(failure_type: type[BaseException]) -> Verdict | None:
    if issubclass(failure_type, Signal | PolicyError | ExceptionGroup):
        return None
    for base in failure_type.__mro__:
        # Python's own types have none of the attributes, but their base has a ``__dict__``.
        names = () if vars(builtins).get(base.__name__) is base else vars(base).keys()
        if not (TELLING | _ANSWERING).isdisjoint(names):
            return None
    preset = preset_of(failure_type)
    if preset is not None and preset.read is not None:
        return None
    row = client_row(failure_type)
    if row is not None:
        return Verdict(row.kind, reason=failure_type.__name__, sent=row.sent)
    verdict = _by_builtin_type(failure_type)
    errno_may_say_more = issubclass(failure_type, OSError) and verdict.kind is VerdictKind.UNKNOWN
    return None if errno_may_say_more else verdict


# Bounded, because a program may make exception types as it runs.
_by_type_alone = cast(
    "Callable[[type[BaseException]], Verdict | None]", lru_cache(512)(_type_verdict)
)
