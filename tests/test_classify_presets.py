"""Presets against the real exceptions of the SDKs that are installed; the others are imitated."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import ConfigError, CooldownResource, Policy
from penstock.classify import chain, classify, judging_results, preset_named, presets_for
from penstock.classify.presets import PRESETS, PresetName, preset_of
from penstock.errors import RemoteError
from penstock.verdict import Verdict, VerdictKind
from penstock.workers.envelope import Envelope

AUTH = VerdictKind.AUTH
BUG = VerdictKind.CALLER_BUG
CANCELLED = VerdictKind.CANCELLED
LIMITED = VerdictKind.RATE_LIMITED
OVERLOADED = VerdictKind.OVERLOADED
QUOTA = VerdictKind.QUOTA_EXHAUSTED
TIMEOUT = VerdictKind.TIMEOUT
TRANSIENT = VerdictKind.TRANSIENT
UNKNOWN = VerdictKind.UNKNOWN

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()


def like(module: str, name: str, *bases: type) -> Any:
    """Return a class that looks like a library's, without the library."""
    return type(name, bases or (Exception,), {"__module__": module})


def answer(http: Any, status: int, body: Any = None, **headers: str) -> Any:
    """Return a response of httpx or httpx2, read to its end."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    kind = {"content-type": "application/json"} if not isinstance(body, bytes) else {}
    request = http.Request("POST", "http://localhost/v1")
    return http.Response(status, headers={**kind, **fields}, content=content, request=request)


# OpenAI

OPENAI: list[Any] = [
    (401, {"code": "invalid_api_key"}, {}, AUTH),
    (401, {"code": "account_deactivated"}, {}, AUTH),
    (403, {"code": "insufficient_permissions"}, {}, AUTH),
    (403, {"code": "model_not_found"}, {}, BUG),
    (403, {"code": "unsupported_country_region_territory"}, {}, BUG),
    (403, b"<html>Sorry, you have been blocked</html>", {"content_type": "text/html"}, BUG),
    (404, {"code": "model_not_found"}, {}, BUG),
    (407, None, {}, BUG),
    (408, None, {}, TRANSIENT),
    (409, None, {}, TRANSIENT),
    (409, None, {"x_should_retry": "false"}, BUG),
    (413, None, {}, BUG),
    (422, None, {}, BUG),
    (429, {"code": "rate_limit_exceeded"}, {}, LIMITED),
    (429, {"code": "insufficient_quota"}, {"x_should_retry": "false"}, QUOTA),
    (429, {"type": "insufficient_quota", "code": None}, {}, QUOTA),
    (429, {"code": "billing_hard_limit_reached"}, {}, QUOTA),
    (500, None, {}, TRANSIENT),
    (502, b"Bad Gateway", {}, TRANSIENT),
    (503, {"code": "slow_down"}, {}, OVERLOADED),
]


@pytest.mark.covers("openai", "classified")
@pytest.mark.parametrize(("status", "error", "headers", "kind"), OPENAI)
def test_the_errors_of_openai(status: int, error: Any, headers: dict[str, str], kind: VerdictKind):
    """Built by the SDK itself, from answers as the service sends them."""
    openai, httpx2 = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    body = {"error": error} if isinstance(error, dict) else error
    client = openai.AsyncOpenAI(api_key="sk-test")

    failure = client._make_status_error_from_response(answer(httpx2, status, body, **headers))

    assert classify(failure).kind is kind


@pytest.mark.covers("openai", "classified")
def test_the_errors_of_openai_without_an_answer():
    """Connection, time-out, an event in a stream, and answers that are no failures of anybody."""
    openai, httpx2 = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    request = httpx2.Request("POST", "http://localhost")
    refused = openai.APIConnectionError(request=request)
    refused.__cause__ = httpx2.ConnectError("x", request=request)
    event = openai.APIError("x", request, body={"type": "server_error", "code": "server_error"})
    spent = openai.APIError("x", request, body={"code": "insufficient_quota"})

    assert classify(refused) == Verdict(TRANSIENT, None, "APIConnectionError")
    assert classify(openai.APITimeoutError(request)).kind is TIMEOUT
    assert classify(event).kind is TRANSIENT
    assert classify(spent).kind is QUOTA
    assert classify(openai.ContentFilterFinishReasonError()).kind is BUG
    length = openai.LengthFinishReasonError(completion=SimpleNamespace(usage=None))
    assert classify(length).kind is BUG


@pytest.mark.covers("openai", "server hint")
@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry_after_ms": "250", "retry_after": "1"}, 0.25),
        ({"retry_after": "20"}, 20.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"}, 360.0),
        ({"retry_after": "inf"}, None),
    ],
)
def test_openai_says_when_to_come_back(headers: dict[str, str], delay: float | None):
    """In milliseconds, in seconds, or by the reset of what is used up; junk is not there."""
    openai, httpx2 = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    client = openai.AsyncOpenAI(api_key="sk-test")

    failure = client._make_status_error_from_response(answer(httpx2, 429, **headers))

    assert classify(failure) == Verdict(LIMITED, delay, "RateLimitError")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(409, None, TRANSIENT), (403, None, AUTH), (403, "model_not_found", BUG)],
)
def test_an_error_of_openai_that_cannot_travel_keeps_its_kind(
    status: int, code: str | None, kind: VerdictKind
):
    """What stands for it in another process is read by the preset of what it was."""
    openai, httpx2 = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    client = openai.AsyncOpenAI(api_key="sk-test")
    response = answer(httpx2, status, {"error": {"code": code}})

    travelled = Envelope(client._make_status_error_from_response(response)).opened()

    assert isinstance(travelled, RemoteError)
    assert classify(travelled).kind is kind


# Anthropic

ANTHROPIC: list[Any] = [
    (400, {"type": "invalid_request_error"}, BUG),
    (
        400,
        {"type": "invalid_request_error", "details": {"error_code": "organization_on_hold"}},
        AUTH,
    ),
    (401, {"type": "authentication_error"}, AUTH),
    (402, {"type": "billing_error"}, QUOTA),
    (
        402,
        {
            "type": "invalid_request_error",
            "details": {"error_code": "linked_organization_spend_limit_reached"},
        },
        BUG,
    ),
    (403, {"type": "permission_error"}, AUTH),
    (404, {"type": "not_found_error"}, BUG),
    (408, {"type": "timeout_error"}, TRANSIENT),
    (409, {"type": "conflict_error"}, TRANSIENT),
    (409, {"type": "memory_path_conflict_error"}, BUG),
    (413, {"type": "request_too_large"}, BUG),
    (429, {"type": "rate_limit_error"}, LIMITED),
    (
        429,
        {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}},
        QUOTA,
    ),
    (500, {"type": "api_error"}, TRANSIENT),
    (503, None, OVERLOADED),
    (504, {"type": "timeout_error"}, TRANSIENT),
    (529, {"type": "overloaded_error"}, OVERLOADED),
    # The error event of a stream that began with a 200.
    (200, {"type": "overloaded_error"}, OVERLOADED),
    (200, {"type": "rate_limit_error"}, LIMITED),
    (200, {"type": "authentication_error"}, AUTH),
    (200, {"type": "permission_error"}, AUTH),
    (200, {"type": "conflict_error"}, TRANSIENT),
    (200, {"type": "not_found_error"}, BUG),
    (200, {"type": "api_error"}, TRANSIENT),
    (200, {"type": "timeout_error"}, TIMEOUT),
]


@pytest.mark.covers("anthropic", "classified")
@pytest.mark.parametrize(("status", "error", "kind"), ANTHROPIC)
def test_the_errors_of_anthropic(status: int, error: Any, kind: VerdictKind):
    """Built by the SDK itself; what stands in the body comes before the status."""
    anthropic, httpx2 = pytest.importorskip("anthropic"), pytest.importorskip("httpx2")
    body = {"type": "error", "error": error} if error else None
    client = anthropic.AsyncAnthropic(api_key="sk-test")

    failure = client._make_status_error_from_response(answer(httpx2, status, body))

    assert classify(failure).kind is kind


@pytest.mark.covers("anthropic", "classified")
def test_the_errors_of_anthropic_without_an_answer():
    """A connection that broke in mid-stream is an error of the client below, and no SDK's."""
    anthropic, httpx2 = pytest.importorskip("anthropic"), pytest.importorskip("httpx2")
    request = httpx2.Request("POST", "http://localhost")
    hidden = RuntimeError()
    hidden.__cause__ = anthropic.RetryableError("from a middleware of the user's")

    assert classify(anthropic.APITimeoutError(request)).kind is TIMEOUT
    assert classify(anthropic.APIConnectionError(request=request)).kind is TRANSIENT
    assert classify(anthropic.RetryableError("x")).kind is TRANSIENT
    assert classify(httpx2.RemoteProtocolError("x")).kind is TRANSIENT
    assert classify(anthropic.CredentialsError("x")).kind is AUTH
    assert classify(hidden).kind is UNKNOWN


@pytest.mark.covers("anthropic", "server hint")
def test_anthropic_says_when_to_come_back():
    """By a date beside its own, so that our clock does not matter."""
    anthropic, httpx2 = pytest.importorskip("anthropic"), pytest.importorskip("httpx2")
    headers = {
        "date": "Sat, 21 Nov 2026 12:00:00 GMT",
        "anthropic_ratelimit_input_tokens_remaining": "0",
        "anthropic_ratelimit_input_tokens_reset": "2026-11-21T12:00:42Z",
    }
    client = anthropic.AsyncAnthropic(api_key="sk-test")

    failure = client._make_status_error_from_response(answer(httpx2, 429, **headers))

    assert classify(failure) == Verdict(LIMITED, 42.0, "RateLimitError")


# Google

PER_MINUTE = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}],
}
PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [
        {"quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests"},
        {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"},
    ],
}
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}


def reason(word: str) -> dict[str, str]:
    """Return Google's way to say why."""
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": word}


GOOGLE: list[Any] = [
    (400, "INVALID_ARGUMENT", [], Verdict(BUG, None, "400")),
    (400, "INVALID_ARGUMENT", [reason("API_KEY_INVALID")], Verdict(AUTH, None, "API_KEY_INVALID")),
    (400, "FAILED_PRECONDITION", [], Verdict(BUG, None, "400")),
    (401, "UNAUTHENTICATED", [], Verdict(AUTH, None, "401")),
    (403, "PERMISSION_DENIED", [], Verdict(AUTH, None, "403")),
    (
        403,
        "PERMISSION_DENIED",
        [reason("BILLING_DISABLED")],
        Verdict(QUOTA, None, "BILLING_DISABLED"),
    ),
    (404, "NOT_FOUND", [], Verdict(BUG, None, "404")),
    (409, "ABORTED", [], Verdict(TRANSIENT, None, "409")),
    (409, "ALREADY_EXISTS", [], Verdict(BUG, None, "ALREADY_EXISTS")),
    (429, "RESOURCE_EXHAUSTED", [], Verdict(LIMITED, None, "429")),
    (429, "RESOURCE_EXHAUSTED", [PER_MINUTE, RETRY_INFO], Verdict(LIMITED, 12.0, "429")),
    # It is noon in Greenwich, and 4 in the morning at the Pacific.
    (
        429,
        "RESOURCE_EXHAUSTED",
        [PER_DAY, RETRY_INFO],
        Verdict(QUOTA, 20 * 3600.0, "quota of a day"),
    ),
    (500, "INTERNAL", [], Verdict(TRANSIENT, None, "500")),
    (503, "UNAVAILABLE", [{**RETRY_INFO, "retryDelay": "1.5s"}], Verdict(OVERLOADED, 1.5, "503")),
    (504, "DEADLINE_EXCEEDED", [], Verdict(TIMEOUT, None, "DEADLINE_EXCEEDED")),
]


@pytest.mark.covers("google_genai", "classified")
@pytest.mark.covers("google_genai", "server hint")
@pytest.mark.parametrize(("status", "word", "details", "verdict"), GOOGLE)
def test_the_errors_of_google_genai(status: int, word: str, details: list[Any], verdict: Verdict):
    """The delay, the reason and the kind of quota stand in the body, and nowhere else."""
    errors, httpx2 = pytest.importorskip("google.genai.errors"), pytest.importorskip("httpx2")
    body = {"error": {"code": status, "status": word, "message": "x", "details": details}}

    with pytest.raises(errors.APIError) as caught:
        errors.APIError.raise_for_response(answer(httpx2, status, body))
    with pytest.raises(errors.APIError) as streamed:
        errors.APIError.raise_error(status, [body], None)

    assert classify(caught.value, wall_clock=lambda: NOON) == verdict
    assert classify(streamed.value, wall_clock=lambda: NOON) == verdict


@pytest.mark.covers("google_genai", "junk")
@pytest.mark.parametrize(
    "delay", ["soon", "-5s", "inf", "infs", "nans", "12", 12, None, {"seconds": 12}, "1e3s", "s"]
)
def test_a_delay_of_google_that_is_none_is_not_there(delay: Any):
    """The status still says what it is."""
    errors = pytest.importorskip("google.genai.errors")
    details = [None, "x", {**RETRY_INFO, "retryDelay": delay}]

    failure = errors.ClientError(429, {"error": {"details": details}}, None)

    assert classify(failure) == Verdict(LIMITED, None, "429")


@pytest.mark.parametrize(
    "body", [{}, [], "text", {"error": None}, {"error": "x"}, {"error": {"details": {}}}]
)
def test_a_body_of_google_that_is_no_such_body_is_left_alone(body: Any):
    """The SDK puts whatever it got into the same attribute."""
    errors = pytest.importorskip("google.genai.errors")
    failure = errors.ServerError(503, {}, None)
    failure.details = body

    assert classify(failure) == Verdict(OVERLOADED, None, "503")


def test_google_auth_that_could_not_reach_its_server_may_try_again():
    """A refused credential and a token server that is down are the same class."""
    exceptions = pytest.importorskip("google.auth.exceptions")

    refused = exceptions.RefreshError("x")
    down = exceptions.RefreshError("x", retryable=True)

    assert classify(refused).kind is AUTH
    assert classify(down) == Verdict(TRANSIENT, None, "RefreshError")


# botocore


def boto(code: str, status: int, **more: Any) -> Any:
    """Return the error that every client of botocore raises."""
    exceptions = pytest.importorskip("botocore.exceptions")
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": more.pop("headers", {})}
    response = {"Error": {"Code": code}, "ResponseMetadata": metadata, **more}
    return exceptions.ClientError(response, "PutItem")


@pytest.mark.covers("botocore", "classified")
@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        *(("ThrottlingException", 400, LIMITED), ("SlowDown", 503, LIMITED)),
        *(("ProvisionedThroughputExceededException", 400, LIMITED),),
        *(
            ("TransactionConflictException", 400, TRANSIENT),
            ("InternalServerError", 500, TRANSIENT),
        ),
        *(("ServiceUnavailable", 503, OVERLOADED), ("ModelNotReadyException", 429, TRANSIENT)),
        *(("ExpiredTokenException", 400, AUTH), ("AccessDeniedException", 403, BUG)),
        *(("ConditionalCheckFailedException", 400, BUG), ("ResourceNotFoundException", 400, BUG)),
    ],
)
def test_the_codes_of_aws(code: str, status: int, kind: VerdictKind):
    """The code comes before a status that is 400 for nearly everything."""
    assert classify(boto(code, status)).kind is kind


@pytest.mark.covers("botocore", "classified")
@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        (["None", "TransactionConflict"], TRANSIENT),
        (["ThrottlingError", "TransactionConflict"], TRANSIENT),
        (["TransactionConflict", "ConditionalCheckFailed"], BUG),
        (["None"], BUG),
        ([], BUG),
    ],
)
def test_a_cancelled_transaction_of_dynamodb(reasons: list[str], kind: VerdictKind):
    """A conflict passes; a condition that did not hold does not."""
    parts = [{"Code": word} for word in reasons]

    failure = boto("TransactionCanceledException", 400, CancellationReasons=parts)

    assert classify(failure).kind is kind


@pytest.mark.covers("botocore", "server hint")
def test_the_delay_of_aws():
    """In milliseconds, in botocore's own dict."""
    failure = boto("ThrottlingException", 400, headers={"x-amz-retry-after": "1500"})

    assert classify(failure) == Verdict(LIMITED, 1.5, "ThrottlingException")


@pytest.mark.covers("botocore", "classified")
@pytest.mark.parametrize(
    ("name", "facts", "kind", "sent"),
    [
        ("EndpointConnectionError", {"endpoint_url": "x"}, TRANSIENT, False),
        ("ConnectTimeoutError", {"endpoint_url": "x"}, TIMEOUT, False),
        ("ReadTimeoutError", {"endpoint_url": "x"}, TIMEOUT, True),
        ("ConnectionClosedError", {"endpoint_url": "x"}, TRANSIENT, True),
        ("ResponseStreamingError", {"error": "x"}, TRANSIENT, True),
        ("HTTPClientError", {"error": "x"}, TRANSIENT, True),
        ("NoCredentialsError", {}, AUTH, True),
        ("CredentialRetrievalError", {"provider": "x", "error_msg": "x"}, AUTH, True),
        ("NoRegionError", {}, BUG, True),
        ("ParamValidationError", {"report": "x"}, BUG, True),
    ],
)
def test_the_errors_of_botocore_without_an_answer(
    name: str, facts: dict[str, Any], kind: VerdictKind, sent: bool
):
    """Some of them have never left the machine."""
    exceptions = pytest.importorskip("botocore.exceptions")

    verdict = classify(getattr(exceptions, name)(**facts))

    assert (verdict.kind, verdict.sent) == (kind, sent)


# gRPC


def rpc_error(code: str, *trailing: tuple[str, Any]) -> Any:
    """Return the error that a call of grpc.aio raises."""
    grpc = pytest.importorskip("grpc")
    aio = pytest.importorskip("grpc.aio")
    return aio.AioRpcError(grpc.StatusCode[code], aio.Metadata(), aio.Metadata(*trailing), "x")


@pytest.mark.covers("grpc", "classified")
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *(("UNAVAILABLE", TRANSIENT), ("ABORTED", TRANSIENT), ("INTERNAL", TRANSIENT)),
        *(("RESOURCE_EXHAUSTED", LIMITED), ("DEADLINE_EXCEEDED", TIMEOUT)),
        *(("UNAUTHENTICATED", AUTH), ("PERMISSION_DENIED", AUTH), ("CANCELLED", CANCELLED)),
        *(("INVALID_ARGUMENT", BUG), ("NOT_FOUND", BUG), ("ALREADY_EXISTS", BUG)),
        *(("FAILED_PRECONDITION", BUG), ("OUT_OF_RANGE", BUG), ("UNIMPLEMENTED", BUG)),
        *(("UNKNOWN", UNKNOWN), ("DATA_LOSS", UNKNOWN)),
    ],
)
def test_the_codes_of_grpc(code: str, kind: VerdictKind):
    """Every code that a call can end with."""
    assert classify(rpc_error(code)).kind is kind


@pytest.mark.covers("grpc", "server hint")
def test_the_delays_of_grpc():
    """The pushback in milliseconds, and the delay of the details; a negative pushback is a no."""
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    details = pytest.importorskip("google.rpc.error_details_pb2")
    duration = pytest.importorskip("google.protobuf.duration_pb2")
    status = status_pb2.Status(code=8, message="x")
    status.details.add().Pack(details.ErrorInfo(reason="x"))
    delay = duration.Duration(seconds=12, nanos=500_000_000)
    status.details.add().Pack(details.RetryInfo(retry_delay=delay))
    packed = ("grpc-status-details-bin", status.SerializeToString())

    assert classify(rpc_error("UNAVAILABLE", ("grpc-retry-pushback-ms", "250"))).retry_after == 0.25
    assert classify(rpc_error("UNAVAILABLE", ("grpc-retry-pushback-ms", "-1"))).kind is BUG
    assert classify(rpc_error("RESOURCE_EXHAUSTED", packed)).retry_after == 12.5
    assert classify(rpc_error("NOT_FOUND", packed)) == Verdict(BUG, None, "NOT_FOUND")


@pytest.mark.covers("grpc", "junk")
@pytest.mark.parametrize(
    ("seconds", "nanos", "delay"),
    [
        *((410_400, 0, 410_400.0), (0, 0, 0.0), (-5, 0, None), (0, 2_000_000_000, 1.0)),
        (315_576_000_001, 0, 315_576_000_001.0),
    ],
)
def test_a_delay_of_grpc_that_is_out_of_range(seconds: int, nanos: int, delay: float | None):
    """Ten thousand years are the policy's to cap; less than nothing is not there."""
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    details = pytest.importorskip("google.rpc.error_details_pb2")
    info = details.RetryInfo()
    info.retry_delay.seconds, info.retry_delay.nanos = seconds, nanos
    status = status_pb2.Status()
    status.details.add().Pack(info)

    verdict = classify(
        rpc_error("UNAVAILABLE", ("grpc-status-details-bin", status.SerializeToString()))
    )

    hint = delay if delay is None else pytest.approx(delay)
    assert verdict.retry_after == hint


@pytest.mark.covers("grpc", "junk")
@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 80), st.binary(max_size=3))
def test_details_of_grpc_that_are_none_are_not_there(junk: bytes, place: int, put: bytes):
    """Any bytes, and any damage to good ones: a number that can be waited, or none."""
    good = bytes.fromhex(
        "08081a310a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e66"
        "6f12050a03080c"
    )
    for value in (junk, good[:place] + put + good[place + 1 :]):
        verdict = classify(rpc_error("RESOURCE_EXHAUSTED", ("grpc-status-details-bin", value)))

        assert verdict.kind is LIMITED
        assert verdict.retry_after is None or 0 <= verdict.retry_after < 2**63


# Databases


@pytest.mark.covers("postgres", "classified")
@pytest.mark.parametrize(
    ("name", "kind", "sent"),
    [
        *(("SerializationError", TRANSIENT, True), ("DeadlockDetectedError", TRANSIENT, True)),
        *(("LockNotAvailableError", TRANSIENT, True), ("AdminShutdownError", TRANSIENT, True)),
        *(("CannotConnectNowError", TRANSIENT, True), ("IdleSessionTimeoutError", TRANSIENT, True)),
        *(("ConnectionDoesNotExistError", TRANSIENT, True), ("QueryCanceledError", TIMEOUT, True)),
        *(("ReadOnlySQLTransactionError", TRANSIENT, True), ("ObjectInUseError", TRANSIENT, True)),
        ("IdleInTransactionSessionTimeoutError", TRANSIENT, True),
        ("ClientCannotConnectError", TRANSIENT, False),
        *(("TooManyConnectionsError", OVERLOADED, True), ("DiskFullError", OVERLOADED, True)),
        *(("InvalidPasswordError", AUTH, True), ("UniqueViolationError", BUG, True)),
        *(("InFailedSQLTransactionError", BUG, True), ("UndefinedTableError", BUG, True)),
        *(("InsufficientPrivilegeError", BUG, True), ("DataCorruptedError", BUG, True)),
        *(("InvalidCachedStatementError", TRANSIENT, True), ("DataError", BUG, True)),
        *(("InterfaceError", TRANSIENT, True), ("InternalClientError", TRANSIENT, True)),
        *(("OutdatedSchemaCacheError", TRANSIENT, True), ("ClientConfigurationError", BUG, True)),
    ],
)
def test_the_errors_of_asyncpg(name: str, kind: VerdictKind, sent: bool):
    """What a whole transaction can be run again for, and what it cannot."""
    asyncpg = pytest.importorskip("asyncpg")
    failure = getattr(asyncpg.exceptions, name)("x")

    verdict = classify(failure)

    assert (verdict.kind, verdict.sent) == (kind, sent)


@pytest.mark.covers("postgres", "classified")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("SerializationError", TRANSIENT), ("DeadlockDetectedError", TRANSIENT)),
        *(("UniqueViolationError", BUG), ("InvalidCachedStatementError", TRANSIENT)),
        *(("TooManyConnectionsError", OVERLOADED), ("InterfaceError", TRANSIENT)),
    ],
)
def test_the_errors_of_asyncpg_under_sqlalchemy(name: str, kind: VerdictKind):
    """Wrapped twice: by the dialect, and by the error of SQLAlchemy."""
    asyncpg, exc = pytest.importorskip("asyncpg"), pytest.importorskip("sqlalchemy.exc")
    dialect = pytest.importorskip("sqlalchemy.dialects.postgresql.asyncpg")
    dbapi = dialect.AsyncAdapt_asyncpg_dbapi
    own = getattr(asyncpg.exceptions, name)("x")
    error = dbapi.InterfaceError if name == "InterfaceError" else dbapi.Error
    wrapped = error("x", own)
    wrapped.__cause__ = own

    failure = exc.DBAPIError.instance("SELECT 1", {}, wrapped, dbapi.Error)

    assert classify(failure).kind is kind


@pytest.mark.covers("postgres", "classified")
def test_the_errors_of_sqlalchemy_itself():
    """A full pool, a row that somebody else has changed, a mistake, a connection given up."""
    exc, orm = pytest.importorskip("sqlalchemy.exc"), pytest.importorskip("sqlalchemy.orm.exc")
    killed = exc.DBAPIError("SELECT 1", {}, Exception("x"), connection_invalidated=True)

    assert classify(exc.TimeoutError("x")) == Verdict(TIMEOUT, None, "TimeoutError", sent=False)
    assert classify(orm.StaleDataError("x")).kind is TRANSIENT
    assert classify(exc.PendingRollbackError("x")).kind is BUG
    assert classify(exc.NoResultFound("x")).kind is BUG
    assert classify(exc.OperationalError("SELECT 1", {}, Exception("x"))).kind is TRANSIENT
    assert classify(killed) == Verdict(TRANSIENT, None, "connection_invalidated")


@pytest.mark.covers("redis", "classified")
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        *(("LOADING Redis is loading", OVERLOADED), ("OOM command not allowed", OVERLOADED)),
        *(("READONLY You can't write", TRANSIENT), ("TRYAGAIN Multiple keys", TRANSIENT)),
        *(("CLUSTERDOWN The cluster is down", TRANSIENT), ("MASTERDOWN Link", TRANSIENT)),
        *(("BUSY Redis is busy running a script", OVERLOADED), ("MISCONF Redis is", OVERLOADED)),
        *(("NOREPLICAS Not enough good replicas", TRANSIENT), ("MOVED 1 localhost:1", TRANSIENT)),
        *(("ERR max number of clients reached", TRANSIENT), ("NOAUTH Authentication", AUTH)),
        *(("WRONGPASS invalid username", AUTH), ("ERR invalid password", AUTH)),
        *(("NOPERM this user has no permissions", BUG), ("WRONGTYPE Operation", BUG)),
        *(("ERR unknown command 'x'", BUG), ("CROSSSLOT Keys in request", BUG), ("", BUG)),
    ],
)
def test_the_replies_of_redis(reply: str, kind: VerdictKind):
    """As redis-py reads them; what it has no class for is known by its first word."""
    base = pytest.importorskip("redis._parsers.base")

    failure = base.BaseParser.parse_error(reply)

    assert classify(failure).kind is kind
    assert "clients" not in (classify(failure).reason or "")


@pytest.mark.covers("redis", "classified")
@pytest.mark.parametrize(
    ("name", "kind", "sent"),
    [
        *(("ConnectionError", TRANSIENT, True), ("TimeoutError", TIMEOUT, True)),
        *(("AuthenticationError", AUTH, True), ("AuthorizationError", AUTH, True)),
        *(("MaxConnectionsError", OVERLOADED, False), ("WatchError", TRANSIENT, True)),
        *(("ClusterError", TRANSIENT, True), ("SlotNotCoveredError", TRANSIENT, True)),
        *(("DataError", BUG, True), ("NoScriptError", BUG, True), ("LockError", BUG, True)),
    ],
)
def test_the_errors_of_redis(name: str, kind: VerdictKind, sent: bool):
    """A wrong password derives from a lost connection and is none."""
    exceptions = pytest.importorskip("redis.exceptions")

    verdict = classify(getattr(exceptions, name)("x"))

    assert (verdict.kind, verdict.sent) == (kind, sent)


@pytest.mark.covers("redis", "classified")
def test_a_login_that_redis_refuses_while_it_connects():
    """The error for connections is raised from the one that says why."""
    exceptions = pytest.importorskip("redis.exceptions")
    failure = exceptions.ConnectionError("x")
    failure.__cause__ = exceptions.AuthenticationError("x")

    assert classify(failure) == Verdict(AUTH, None, "AuthenticationError")


# HTTP clients

HTTPX_TYPES = [
    *(("ConnectError", TRANSIENT, False), ("ConnectTimeout", TIMEOUT, False)),
    *(("ReadTimeout", TIMEOUT, True), ("WriteTimeout", TIMEOUT, True)),
    *(("PoolTimeout", TIMEOUT, False), ("ReadError", TRANSIENT, True)),
    *(("RemoteProtocolError", TRANSIENT, True), ("ProxyError", TRANSIENT, True)),
    *(("LocalProtocolError", BUG, True), ("UnsupportedProtocol", BUG, True)),
    *(("TooManyRedirects", BUG, True), ("InvalidURL", BUG, True), ("CookieConflict", BUG, True)),
]


@pytest.mark.parametrize(
    "package",
    [
        pytest.param("httpx", marks=pytest.mark.covers("httpx", "classified")),
        pytest.param("httpx2", marks=pytest.mark.covers("httpx2", "classified")),
    ],
)
@pytest.mark.parametrize(("name", "kind", "sent"), HTTPX_TYPES)
def test_the_errors_of_httpx(package: str, name: str, kind: VerdictKind, sent: bool):
    """The fork has the same classes under another name."""
    http = pytest.importorskip(package)

    verdict = classify(getattr(http, name)("x"))

    assert (verdict.kind, verdict.sent) == (kind, sent)


@pytest.mark.parametrize(
    "package",
    [
        pytest.param("httpx", marks=pytest.mark.covers("httpx", "server hint")),
        pytest.param("httpx2", marks=pytest.mark.covers("httpx2", "server hint")),
    ],
)
def test_the_statuses_of_httpx(package: str):
    """As an error that was raised for one, and as an answer."""
    http = pytest.importorskip(package)
    response = answer(http, 503, retry_after="7")
    with pytest.raises(http.HTTPStatusError) as caught:
        response.raise_for_status()

    assert classify(caught.value) == Verdict(OVERLOADED, 7.0, "503")
    assert classify(http.HTTPStatusError("x", request=response.request, response=response))


def aiohttp_error(name: str) -> Any:
    """Return an error of aiohttp, built as aiohttp does."""
    aiohttp = pytest.importorskip("aiohttp")
    reqrep = pytest.importorskip("aiohttp.client_reqrep")
    key = reqrep.ConnectionKey("localhost", 1, False, True, None, None, None, None)
    refused = ConnectionRefusedError(111, "x")
    match name:
        case "ClientConnectorError" | "ClientProxyConnectionError":
            return getattr(aiohttp, name)(key, refused)
        case "ClientConnectorDNSError":
            return aiohttp.ClientConnectorDNSError(key, socket.gaierror(-2, "x"))
        case "ClientConnectorCertificateError":
            return aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError("x"))
        case "ServerFingerprintMismatch":
            return aiohttp.ServerFingerprintMismatch(b"a", b"b", "localhost", 1)
        case _:
            return getattr(aiohttp, name)("x")


@pytest.mark.covers("aiohttp", "classified")
@pytest.mark.parametrize(
    ("name", "kind", "sent"),
    [
        *(
            ("ClientConnectorError", TRANSIENT, False),
            ("ClientConnectorDNSError", TRANSIENT, False),
        ),
        *(
            ("ClientProxyConnectionError", TRANSIENT, False),
            ("ClientPayloadError", TRANSIENT, True),
        ),
        *(("ServerDisconnectedError", TRANSIENT, True), ("ClientOSError", TRANSIENT, True)),
        *(("ServerTimeoutError", TIMEOUT, True), ("SocketTimeoutError", TIMEOUT, True)),
        *(("ConnectionTimeoutError", TIMEOUT, False), ("ServerFingerprintMismatch", BUG, True)),
        *(("ClientConnectorCertificateError", BUG, True), ("InvalidURL", BUG, True)),
    ],
)
def test_the_errors_of_aiohttp(name: str, kind: VerdictKind, sent: bool):
    """What never had a connection is known not to have been sent."""
    verdict = classify(aiohttp_error(name))

    assert (verdict.kind, verdict.sent) == (kind, sent)


@pytest.mark.covers("aiohttp", "server hint")
@pytest.mark.parametrize(("status", "kind"), [(429, LIMITED), (503, OVERLOADED), (404, BUG)])
def test_the_statuses_of_aiohttp(status: int, kind: VerdictKind):
    """The error has the headers itself, and its property ``code`` is not touched."""
    aiohttp, multidict = pytest.importorskip("aiohttp"), pytest.importorskip("multidict")
    headers = multidict.CIMultiDictProxy(multidict.CIMultiDict({"Retry-After": "7"}))

    failure = aiohttp.ClientResponseError(None, (), status=status, headers=headers)

    hint = None if kind is BUG else 7.0
    assert classify(failure) == Verdict(kind, hint, str(status))


@pytest.mark.covers("requests", "classified")
@pytest.mark.parametrize("package", ["requests", "niquests"])
@pytest.mark.parametrize(
    ("name", "kind", "sent"),
    [
        *(("ConnectionError", TRANSIENT, True), ("ProxyError", TRANSIENT, True)),
        *(("ConnectTimeout", TIMEOUT, False), ("ReadTimeout", TIMEOUT, True)),
        *(("ChunkedEncodingError", TRANSIENT, True), ("RetryError", TRANSIENT, True)),
        *(("MissingSchema", BUG, True), ("InvalidURL", BUG, True), ("TooManyRedirects", BUG, True)),
    ],
)
def test_the_errors_of_requests(package: str, name: str, kind: VerdictKind, sent: bool):
    """They are OSErrors too, which says less."""
    exceptions = pytest.importorskip(f"{package}.exceptions")

    verdict = classify(getattr(exceptions, name)("x"))

    assert (verdict.kind, verdict.sent) == (kind, sent)


@pytest.mark.covers("requests", "classified")
def test_a_certificate_refused_under_requests_is_not_tried_again():
    """It is the reason of the argument of the error, three errors down."""
    requests, urllib3 = pytest.importorskip("requests"), pytest.importorskip("urllib3")
    refused = urllib3.exceptions.SSLError(ssl.SSLCertVerificationError("x"))
    reset = urllib3.exceptions.SSLError(ssl.SSLEOFError("x"))
    pool: Any = None

    def raised(inner: Exception) -> Verdict:
        return classify(
            requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(pool, "/", inner))
        )

    assert raised(refused) == Verdict(BUG, None, "SSLCertVerificationError")
    assert raised(reset) == Verdict(TRANSIENT, None, "SSLError")


@pytest.mark.covers("requests", "server hint")
def test_the_statuses_of_requests():
    """As an error that was raised for one."""
    requests = pytest.importorskip("requests")
    response = requests.Response()
    response.status_code = 429
    response.headers["Retry-After"] = "7"
    with pytest.raises(requests.HTTPError) as caught:
        response.raise_for_status()

    assert classify(caught.value) == Verdict(LIMITED, 7.0, "429")


# Queues of tasks


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("celery.exceptions", "Retry", BUG),
        ("celery.exceptions", "Ignore", BUG),
        ("celery.exceptions", "Reject", BUG),
        ("celery.exceptions", "TimeoutError", TIMEOUT),
        ("celery.exceptions", "SoftTimeLimitExceeded", BUG),
        ("kombu.exceptions", "OperationalError", TRANSIENT),
        ("kombu.exceptions", "EncodeError", BUG),
        ("arq.worker", "Retry", BUG),
        ("taskiq.exceptions", "TaskRejectedError", BUG),
    ],
)
def test_what_a_task_says_to_its_worker_is_not_tried_again_here(
    module: str, name: str, kind: VerdictKind
):
    """``raise self.retry()`` is a wish to the queue; a policy round it must let it pass."""
    failure_type = getattr(pytest.importorskip(module), name)

    assert classify(failure_type()).kind is kind


@pytest.mark.covers("celery", "classified")
@pytest.mark.parametrize("name", ["Retry", "Ignore", "Reject"])
async def test_a_wish_to_celery_passes_through_retry(name: str):
    """One attempt, and the queue gets what it was sent."""
    exceptions = pytest.importorskip("celery.exceptions")
    attempts: list[str] = []

    async def task() -> None:
        attempts.append(name)
        raise getattr(exceptions, name)

    with pytest.raises(getattr(exceptions, name)):
        await Policy("tasks").with_retry(attempts=3, wait=0).call(task)

    assert attempts == [name]


# Libraries that are imitated


@pytest.mark.finding(15)
def test_litellm_keeps_its_headers_apart():
    """Its errors derive from OpenAI's, and their response is an empty stand-in."""
    openai, httpx2 = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    limit = like("litellm.exceptions", "RateLimitError", openai.RateLimitError)
    failure = limit("x", response=answer(httpx2, 429), body=None)
    failure.response = httpx2.Response(429, request=failure.request)
    failure.litellm_response_headers = httpx2.Headers({"retry-after": "7"})

    assert not failure.response.headers
    assert classify(failure) == Verdict(LIMITED, 7.0, "RateLimitError")


def test_litellm_s_own_status_errors_mean_what_openai_s_do():
    """A conflict there is a lock too."""
    openai, httpx2 = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    conflict = like("litellm.exceptions", "APIError", openai.APIError)
    failure = conflict("x", httpx2.Request("GET", "http://localhost"), body=None)
    failure.status_code = 409

    assert classify(failure).kind is TRANSIENT


@pytest.mark.parametrize(
    ("name", "facts", "kind"),
    [
        ("IdempotencyError", {"http_status": 409}, TRANSIENT),
        ("RateLimitError", {"http_status": 429}, LIMITED),
        ("RateLimitError", {"http_status": 429, "code": "lock_timeout"}, TRANSIENT),
        ("CardError", {"http_status": 402, "code": "card_declined"}, BUG),
        ("PermissionError", {"http_status": 403}, BUG),
        ("AuthenticationError", {"http_status": 401}, AUTH),
        ("APIError", {"http_status": 500, "headers": {"stripe-should-retry": "false"}}, BUG),
    ],
)
def test_the_errors_of_stripe(name: str, facts: dict[str, Any], kind: VerdictKind):
    """A 409 is a lock there as well; a declined card is no unpaid account."""
    failure = like("stripe._error", name)()
    vars(failure).update(facts)

    assert classify(failure).kind is kind


# Presets by name


class Refused(Exception):  # noqa: N818 - a failure of any kind
    """Carries whatever a test sets."""

    def __init__(self, **attributes: Any):
        super().__init__()
        self.__dict__.update(attributes)


def test_the_type_and_the_table_name_the_same_presets():
    """A word that a type checker takes is one that a policy takes."""
    assert presets_for("failures") == tuple(PRESETS)
    assert set(PRESETS) - set(presets_for("results")) == {"grpc", "postgres", "redis"}


@pytest.mark.parametrize("name", presets_for("failures"))
def test_every_preset_may_be_named(name: PresetName):
    """Those that add nothing to the table are names for it."""
    assert chain(name)(ConnectionError()) == classify(ConnectionError())
    assert chain(name)(asyncio.CancelledError()).kind is CANCELLED
    assert chain(name)(CooldownResource(3)).retry_after == 3


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        *(("openai", 409, TRANSIENT), ("openai", 403, AUTH), ("openai", 407, BUG)),
        *(("anthropic", 409, TRANSIENT), ("google_genai", 403, AUTH), ("stripe", 409, TRANSIENT)),
        *(("stripe", 403, BUG), ("http", 409, BUG), ("httpx", 403, BUG), ("aws", 409, BUG)),
    ],
)
def test_a_named_preset_reads_the_statuses_of_any_error(
    name: PresetName, status: int, kind: VerdictKind
):
    """A call by hand with httpx to the same service means the same."""
    httpx = pytest.importorskip("httpx")
    response = answer(httpx, status)
    failure = httpx.HTTPStatusError("x", request=response.request, response=response)

    assert chain(name)(failure) == Verdict(kind, None, str(status))
    assert judging_results(preset_named(name))(response) == Verdict(kind, None, str(status))


def test_a_named_preset_reads_the_body_that_was_loaded():
    """OpenAI's word and Google's delay are there for whoever calls them by hand."""
    httpx = pytest.importorskip("httpx")
    spent = answer(httpx, 429, {"error": {"code": "insufficient_quota"}})
    busy = answer(httpx, 429, {"error": {"details": [RETRY_INFO]}})

    assert judging_results(preset_named("google_genai"))(busy) == Verdict(LIMITED, 12.0, "429")
    assert judging_results(preset_named("openai"))(busy) == Verdict(LIMITED, None, "429")
    assert judging_results(preset_named("openai"))(spent).kind is QUOTA
    error = httpx.HTTPStatusError("x", request=spent.request, response=spent)
    assert chain("openai")(error).kind is QUOTA
    assert classify(error).kind is LIMITED


LONG_BODY = json.dumps({"code": "insufficient_quota", "text": "x" * 70_000}).encode()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 5000, b'"x"', b"[]", LONG_BODY, b'{"error": 5}', None]
)
def test_a_body_that_says_nothing_leaves_the_status(body: Any):
    """Not loaded, too long, or no JSON: nothing is read and nothing is parsed."""
    httpx = pytest.importorskip("httpx")
    response = httpx.Response(429, content=body)
    if body is None:
        response = httpx.Response(429, stream=httpx.ByteStream(b'{"code": "insufficient_quota"}'))

    assert judging_results(preset_named("openai"))(response) == Verdict(LIMITED, None, "429")


def test_a_well_known_type_comes_before_a_status_that_a_preset_reads():
    """A time-out with a 409 on it is a time-out."""
    failure = like("openai", "APITimeoutError")()
    failure.status_code = 409

    assert chain("openai")(failure).kind is TIMEOUT
    assert chain("anthropic")(failure).kind is TIMEOUT


def test_classifiers_and_presets_are_asked_in_order():
    """A function before a preset may take from it what it would have answered."""
    conflict = Refused(status_code=409)

    assert chain("openai", lambda _failure: "auth")(conflict).kind is TRANSIENT
    assert chain(lambda _failure: "auth", "openai")(conflict).kind is AUTH
    assert chain("openai", lambda _failure: "auth")(Refused(status_code=404)).kind is AUTH


def test_good_answers_and_no_answers_are_left_alone():
    """Below 400 is good, and what has no status is just a result."""
    judge = judging_results(preset_named("openai"))

    assert judge(SimpleNamespace(status_code=200)).kind is VerdictKind.OK
    assert judge("text") is None


async def test_a_policy_takes_a_preset_for_failures_and_results():
    """Both are judged by it, and the hint of the headers is added."""
    answers = [SimpleNamespace(status_code=409, headers={"retry-after-ms": "20"}), "done"]
    failures: list[Exception] = [Refused(status_code=409)]

    async def operation() -> Any:
        if failures:
            raise failures.pop()
        return answers.pop(0)

    policy = Policy("llm", classify=["openai"], classify_result="openai")

    assert await policy.with_retry(attempts=3, wait=0).call(operation) == "done"


@pytest.mark.parametrize("wrong", ["opnai", "OpenAI", "", ["openai", "opnai"], [], 5, [5]])
def test_a_preset_that_there_is_not_is_refused(wrong: Any):
    """The message has the nearest name, and all of them."""
    with pytest.raises(ConfigError, match="classif"):
        Policy("x", classify=wrong)


def test_the_message_of_a_refusal_names_the_presets():
    """The nearest first; a database is none for results."""
    with pytest.raises(ConfigError, match=r"did you mean 'openai'\? presets are aiohttp, .*stripe"):
        chain("opnai")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"'classify_result'.*got 'redis'") as caught:
        Policy("x", classify_result="redis")

    assert "postgres" not in str(caught.value)


def test_the_nearest_class_with_a_preset_decides():
    """A subclass of the user's is what it derives from; a mixture is what comes first."""
    ours = like("shop", "Ours", like("openai", "APIError"))
    mixed = like("shop", "Mixed", like("grpc", "RpcError"), like("openai._exceptions", "APIError"))

    assert preset_of(ours) is PRESETS["openai"]
    assert preset_of(mixed) is PRESETS["grpc"]
    assert preset_of(like("google.genai.errors", "APIError")) is PRESETS["google_genai"]
    assert preset_of(like("google.api_core.exceptions", "Conflict")) is None
    assert preset_of(like("openai_like", "APIError")) is None
    assert preset_of(like("httpx", "HTTPError")) is None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "details", "violations", "retryDelay", "status", "reason", "code"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(JUNK, JUNK, st.sampled_from(sorted(PRESETS)))
def test_no_junk_in_a_body_raises(body: Any, response: Any, name: PresetName):
    """Whatever a service sends, there is a verdict, and a delay that can be waited."""
    failure = Refused(body=body, details=body, response=response, status_code=429, orig=response)

    verdict = chain(name)(failure)

    assert verdict.kind in VerdictKind
    assert verdict.retry_after is None or 0 <= verdict.retry_after < 1e19
