"""What servers' own codes mean: error words, SQLSTATE, gRPC and AWS codes; data and its look-up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from penstock.classify.kinds import top_module
from penstock.hints import entry, peek
from penstock.verdict import Verdict, VerdictKind

__all__ = ["WORDS", "by_code", "by_event", "words_of"]

_QUOTA = VerdictKind.QUOTA_EXHAUSTED
_LIMITED = VerdictKind.RATE_LIMITED
_OVERLOADED = VerdictKind.OVERLOADED
_TRANSIENT = VerdictKind.TRANSIENT
_TIMEOUT = VerdictKind.TIMEOUT
_AUTH = VerdictKind.AUTH
_BUG = VerdictKind.CALLER_BUG

# ``type`` and ``code`` of OpenAI, Anthropic and those who imitate them. These say more than the
# status that they come with.
WORDS: dict[str, VerdictKind] = {
    "insufficient_quota": _QUOTA,
    "billing_error": _QUOTA,
    "billing_hard_limit_reached": _QUOTA,
    "billing_not_active": _QUOTA,
    "overloaded_error": _OVERLOADED,
}

# These say less than a status, but the error event of a stream that began well has none, or 200.
EVENT_WORDS: dict[str, VerdictKind] = {
    "rate_limit_error": _LIMITED,
    "rate_limit_exceeded": _LIMITED,
    "authentication_error": _AUTH,
    "invalid_api_key": _AUTH,
    "permission_error": _AUTH,
    "timeout_error": _TIMEOUT,
    "api_error": _TRANSIENT,
    "conflict_error": _TRANSIENT,
    "server_error": _TRANSIENT,
    "invalid_request_error": _BUG,
    "not_found_error": _BUG,
    "request_too_large": _BUG,
}

_SQLSTATE = re.compile("[0-9A-Z]{5}")

SQLSTATES: dict[str, VerdictKind] = {
    "25006": _TRANSIENT,  # read_only_sql_transaction: the server has become a standby
    "25P03": _TRANSIENT,  # idle_in_transaction_session_timeout
    "25P04": _TIMEOUT,  # transaction_timeout
    "40000": _TRANSIENT,  # transaction_rollback
    "40001": _TRANSIENT,  # serialization_failure
    "40002": _BUG,  # transaction_integrity_constraint_violation
    "40003": _TRANSIENT,  # statement_completion_unknown
    "40P01": _TRANSIENT,  # deadlock_detected
    "55006": _TRANSIENT,  # object_in_use
    "55P03": _TRANSIENT,  # lock_not_available
    "57014": _TIMEOUT,  # query_canceled: by statement_timeout, a user's cancel is ours
    "57P01": _TRANSIENT,  # admin_shutdown
    "57P02": _TRANSIENT,  # crash_shutdown
    "57P03": _TRANSIENT,  # cannot_connect_now
    "57P05": _TRANSIENT,  # idle_session_timeout
    "72000": _TRANSIENT,  # snapshot_too_old
    "XX001": _BUG,  # data_corrupted
    "XX002": _BUG,  # index_corrupted
}

SQLSTATE_CLASSES: dict[str, VerdictKind] = {
    "08": _TRANSIENT,  # connection exceptions
    "53": _OVERLOADED,  # insufficient resources: too_many_connections, out_of_memory, disk_full
    "28": _AUTH,  # invalid authorization
    "0A": _BUG,  # feature not supported
    "22": _BUG,  # data exceptions
    "23": _BUG,  # integrity constraints
    "25": _BUG,  # invalid transaction state: only a new transaction helps
    "3D": _BUG,  # no such database
    "3F": _BUG,  # no such schema
    "42": _BUG,  # syntax, names, privileges
}

GRPC_CODES: dict[str, VerdictKind] = {
    "UNAVAILABLE": _TRANSIENT,
    "ABORTED": _TRANSIENT,
    "INTERNAL": _TRANSIENT,
    "RESOURCE_EXHAUSTED": _LIMITED,
    "UNAUTHENTICATED": _AUTH,
    "PERMISSION_DENIED": _AUTH,
    "DEADLINE_EXCEEDED": _TIMEOUT,
    "CANCELLED": VerdictKind.CANCELLED,
    "INVALID_ARGUMENT": _BUG,
    "NOT_FOUND": _BUG,
    "ALREADY_EXISTS": _BUG,
    "FAILED_PRECONDITION": _BUG,
    "OUT_OF_RANGE": _BUG,
    "UNIMPLEMENTED": _BUG,
}

# botocore's own retry lists (botocore/retries/standard.py), then the codes for credentials. Codes
# that are not here are judged by their HTTP status.
AWS_CODES: dict[str, VerdictKind] = {
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded",
            "EC2ThrottledException",
            "LimitExceededException",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        ),
        _LIMITED,
    ),
    # botocore calls these two throttled; they are about one item or connection, not the account.
    "PriorRequestNotComplete": _TRANSIENT,
    "TransactionInProgressException": _TRANSIENT,
    # Of DynamoDB, about one item: somebody else was quicker.
    "ReplicatedWriteConflictException": _TRANSIENT,
    "TransactionConflictException": _TRANSIENT,
    # Of Bedrock: the model is being loaded.
    "ModelNotReadyException": _TRANSIENT,
    "RequestTimeout": _TRANSIENT,
    "RequestTimeoutException": _TRANSIENT,
    **dict.fromkeys(
        (
            "AuthFailure",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        _AUTH,
    ),
}


def by_code(failure: BaseException) -> Verdict | None:
    """Return what the server's own code says; None where there is none that is known."""
    return (
        _first(_own_words(failure), WORDS)
        or _first(_grpc_codes(failure), GRPC_CODES)
        or _first(_aws_codes(failure), AWS_CODES)
        or _by_sqlstate(failure)
    )


def by_event(failure: BaseException) -> Verdict | None:
    """Return what the error event of a stream says; None where there is none that is known."""
    return _first(_own_words(failure), EVENT_WORDS)


def _first(codes: Iterator[object], table: Mapping[str, VerdictKind]) -> Verdict | None:
    known = (code for code in codes if isinstance(code, str) and code in table)
    code = next(known, None)
    return None if code is None else Verdict(table[code], reason=code)


def words_of(outcome: object, body: object) -> Iterator[object]:
    """Yield what stands for a code or a type, on the outcome itself and in its body."""
    # From the instance's own dict only: aiohttp's ``code`` is a property that warns when read.
    for place in (peek(outcome, "__dict__"), body, entry(body, "error")):
        yield entry(place, "code")
        yield entry(place, "type")


def _own_words(failure: BaseException) -> Iterator[object]:
    return words_of(failure, entry(peek(failure, "__dict__"), "body"))


def _grpc_codes(failure: BaseException) -> Iterator[object]:
    # ``code`` is called only on gRPC's own errors; on others calling it may do anything.
    if any(top_module(base) == "grpc" for base in type(failure).__mro__):
        code = peek(failure, "code")
        yield peek(code() if callable(code) else code, "name")
    # google-api-core turns ABORTED into a 409, which would read as the caller's mistake.
    yield peek(peek(failure, "grpc_status_code"), "name")


def _aws_codes(failure: BaseException) -> Iterator[object]:
    yield entry(entry(peek(failure, "response"), "Error"), "Code")


def _by_sqlstate(failure: BaseException) -> Verdict | None:
    # SQLAlchemy keeps the driver's error in ``orig``; psycopg2 says ``pgcode``.
    for holder in (failure, peek(failure, "orig")):
        for name in ("sqlstate", "pgcode"):
            state = peek(holder, name)
            if isinstance(state, str) and _SQLSTATE.fullmatch(state):
                kind = SQLSTATES.get(state) or SQLSTATE_CLASSES.get(state[:2])
                if kind is not None:
                    return Verdict(kind, reason=str(state), sent=state != "08001")
    # A killed backend has no SQLSTATE under SQLAlchemy and asyncpg.
    if peek(failure, "connection_invalidated") is True:
        return Verdict(VerdictKind.TRANSIENT, reason="connection_invalidated")
    return None
