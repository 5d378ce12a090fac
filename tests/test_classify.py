import asyncio
import concurrent.futures
import errno
import http.client
import json
import logging
import socket
import ssl
import urllib.error
from email.message import Message
from enum import Enum
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.classify import as_verdict, chain, classify, classify_result
from penstock.classify.client_types import CLIENT_TYPES
from penstock.classify.default import TELLING
from penstock.errors import (
    CallTimeoutError,
    CircuitOpenError,
    ConfigError,
    InvalidResultError,
    NoResourceError,
    PolicyError,
)
from penstock.verdict import (
    OK,
    CooldownResource,
    DisableResource,
    Signal,
    TryAgain,
    Verdict,
    VerdictKind,
)

AUTH = VerdictKind.AUTH
BUG = VerdictKind.CALLER_BUG
CANCELLED = VerdictKind.CANCELLED
LIMITED = VerdictKind.RATE_LIMITED
OVERLOADED = VerdictKind.OVERLOADED
QUOTA = VerdictKind.QUOTA_EXHAUSTED
TIMEOUT = VerdictKind.TIMEOUT
TRANSIENT = VerdictKind.TRANSIENT
UNKNOWN = VerdictKind.UNKNOWN

HINT = {"Retry-After": "7"}


def like(module, name, *bases):
    """Return a class that looks like a library's, without the library."""
    return type(name, bases or (Exception,), {"__module__": module})


class Failure(Exception):  # noqa: N818 - a failure of any kind
    """Carries whatever a test sets."""

    def __init__(self, **attributes):
        super().__init__("the text of a failure may hold a key")
        self.__dict__.update(attributes)


# penstock's own


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [
        (CooldownResource(30, "daily cap"), Verdict(LIMITED, 30, "daily cap")),
        (CooldownResource(), Verdict(LIMITED, None, "CooldownResource")),
        (DisableResource("revoked"), Verdict(AUTH, None, "revoked")),
        (TryAgain(after=2), Verdict(TRANSIENT, 2, "TryAgain")),
        (Signal(), Verdict(UNKNOWN, None, "Signal")),
        (CircuitOpenError(retry_after=5), Verdict(LIMITED, 5, "CircuitOpenError", sent=False)),
        (NoResourceError(), Verdict(LIMITED, None, "NoResourceError", sent=False)),
        (CallTimeoutError(seconds=5), Verdict(TIMEOUT, None, "CallTimeoutError")),
        (ConfigError(), Verdict(BUG, None, "ConfigError")),
        (InvalidResultError(), Verdict(BUG, None, "InvalidResultError")),
        (PolicyError(), Verdict(BUG, None, "PolicyError")),
    ],
)
def test_signals_and_errors_of_penstock_mean_what_they_ask_for(failure, verdict):
    """A signal is obeyed, a rejection carries when to come back, and nothing of it was sent."""
    assert classify(failure) == verdict


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1, "soon", True, None])
def test_a_delay_that_cannot_be_slept_is_dropped(junk):
    """A signal whose delay was overwritten still gives a verdict."""
    signal = CooldownResource(30)
    signal.seconds = junk

    assert classify(signal) == Verdict(LIMITED, None, "CooldownResource")


# Python's own


@pytest.mark.parametrize(
    ("failure", "kind", "sent"),
    [
        (ConnectionError(), TRANSIENT, True),
        (ConnectionResetError(), TRANSIENT, True),
        (BrokenPipeError(), TRANSIENT, True),
        (ConnectionRefusedError(), TRANSIENT, False),
        (socket.gaierror(), TRANSIENT, False),
        (EOFError(), TRANSIENT, True),
        (asyncio.IncompleteReadError(b"", 3), TRANSIENT, True),
        (http.client.IncompleteRead(b""), TRANSIENT, True),
        (http.client.RemoteDisconnected(), TRANSIENT, True),
        (urllib.error.URLError("x"), TRANSIENT, True),
        (ssl.SSLEOFError(), TRANSIENT, True),
        (OSError(errno.EHOSTUNREACH, "x"), TRANSIENT, False),
        (TimeoutError(), TIMEOUT, True),
        (ssl.SSLCertVerificationError(), BUG, True),
        (json.JSONDecodeError("x", "", 0), BUG, True),
        (FileNotFoundError(), BUG, True),
        (PermissionError(), BUG, True),
        (OSError(errno.ENOSPC, "x"), UNKNOWN, True),
        (OSError("x"), UNKNOWN, True),
        (ssl.SSLError(), UNKNOWN, True),
        (RuntimeError(), UNKNOWN, True),
        (Failure(), UNKNOWN, True),
        (asyncio.CancelledError(), CANCELLED, True),
        (concurrent.futures.CancelledError(), CANCELLED, True),
        (KeyboardInterrupt(), CANCELLED, True),
        (SystemExit(3), CANCELLED, True),
        (GeneratorExit(), CANCELLED, True),
        (BaseExceptionGroup("x", [KeyboardInterrupt()]), CANCELLED, True),
    ],
)
def test_python_s_own_exceptions_have_a_kind(failure, kind, sent):
    """The most particular class counts, and only a missing connection sends nothing."""
    verdict = classify(failure)

    assert (verdict.kind, verdict.sent) == (kind, sent)


@pytest.mark.parametrize(
    "mistake",
    [
        *(TypeError, ValueError, KeyError, IndexError, AttributeError, NameError, AssertionError),
        *(NotImplementedError, ZeroDivisionError, OverflowError, ImportError, SyntaxError),
        *(RecursionError, UnicodeError, IsADirectoryError, NotADirectoryError, FileExistsError),
    ],
)
def test_a_programming_error_is_nobody_else_s_fault(mistake):
    """Trying again cannot help, and no breaker should count it."""
    assert classify(mistake()) == Verdict(BUG, None, mistake.__name__)


def test_a_subclass_counts_as_what_it_derives_from():
    """An application's own error needs no entry anywhere."""
    verdict = classify(like("shop", "WarehouseGone", ConnectionRefusedError)())

    assert verdict == Verdict(TRANSIENT, None, "WarehouseGone", sent=False)


def test_a_class_made_without_a_module_is_looked_at():
    """Code that is run by ``exec`` says that it is from ``builtins``."""
    namespace = {}
    exec("class Busy(Exception):\n    status_code = 503", namespace)

    assert namespace["Busy"].__module__ == "builtins"
    assert classify(namespace["Busy"]()) == Verdict(OVERLOADED, None, "503")


def test_a_note_changes_nothing():
    """Retry adds a note to the failure that it gives up on."""
    failure = ConnectionResetError()
    failure.add_note("2 attempts in 3 s")

    assert classify(failure).kind is TRANSIENT


# HTTP status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((408, TRANSIENT), (425, TRANSIENT), (500, TRANSIENT), (502, TRANSIENT), (504, TRANSIENT)),
        *((507, TRANSIENT), (503, OVERLOADED), (529, OVERLOADED), (429, LIMITED), (402, QUOTA)),
        *((401, AUTH), (407, AUTH), (400, BUG), (403, BUG), (404, BUG), (409, BUG), (422, BUG)),
    ],
)
def test_the_status_decides_for_errors_and_results(status, kind):
    """One table serves exceptions and opted-in results."""
    assert classify(Failure(status_code=status)) == Verdict(kind, None, str(status))
    assert classify_result(SimpleNamespace(status=status)) == Verdict(kind, None, str(status))


@pytest.mark.parametrize(
    "attributes",
    [
        {"status_code": 503},
        {"status": 503},
        {"http_status": 503},
        {"code": 503},
        {"code": HTTPStatus.SERVICE_UNAVAILABLE},
        {"response": SimpleNamespace(status_code=503)},
        {"response": SimpleNamespace(status=503)},
        {"response": {"ResponseMetadata": {"HTTPStatusCode": 503}}},
        {"status": "UNAVAILABLE", "code": 503},
    ],
)
def test_the_status_is_found_where_libraries_keep_it(attributes):
    """The error itself, its response, and botocore's dict are looked at."""
    assert classify(Failure(**attributes)) == Verdict(OVERLOADED, None, "503")


@pytest.mark.parametrize(
    "junk", ["503", True, 503.0, 10**400, -503, 99, 600, None, [503], 200, 302]
)
def test_what_is_no_failed_status_is_not_read_as_one(junk):
    """Text, booleans, floats, numbers out of range and good statuses say nothing."""
    failure = Failure(status_code=junk, response={"ResponseMetadata": {"HTTPStatusCode": junk}})

    assert classify(failure).kind is UNKNOWN


def test_the_error_of_urllib_has_a_status():
    """It derives from the error for connections, which would be transient."""
    missing = urllib.error.HTTPError("http://x", 404, "x", Message(), None)
    with missing:
        assert classify(missing) == Verdict(BUG, None, "404")


@pytest.mark.parametrize("status", [429, 402, 503, 500])
def test_a_retried_status_carries_the_hint_of_its_headers(status):
    """When to come back is read once, with the verdict."""
    response = SimpleNamespace(status_code=status, headers=HINT)

    assert classify(Failure(response=response)).retry_after == 7.0
    assert classify_result(response).retry_after == 7.0


def test_a_hint_for_what_is_never_retried_is_left_out():
    """A 404 with Retry-After gives nothing to wait for."""
    assert classify(Failure(status_code=404, headers=HINT)).retry_after is None


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({"retry-after": "60"}, Verdict(LIMITED, 60.0, "403")),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}, Verdict(LIMITED, 60.0, "403")),
        ({"x-ratelimit-remaining": "9", "x-ratelimit-reset": "60"}, Verdict(BUG, None, "403")),
        ({"retry-after": "60", "x-should-retry": "false"}, Verdict(BUG, None, "403")),
        ({"retry-after": "0"}, Verdict(BUG, None, "403")),
        ({}, Verdict(BUG, None, "403")),
    ],
)
def test_a_refusal_that_says_when_to_come_back_is_a_rate_limit(headers, verdict):
    """GitHub's is a 403; one about an object says no such thing."""
    assert classify(Failure(status_code=403, headers=headers)) == verdict
    assert classify_result(SimpleNamespace(status=403, headers=headers)) == verdict


def test_a_hint_is_found_on_the_cause():
    """A plain error that was raised from an HTTP error keeps its kind and gains the hint."""
    failure = RuntimeError()
    failure.__cause__ = Failure(status_code=503, headers=HINT)

    assert classify(failure) == Verdict(UNKNOWN, 7.0, "RuntimeError")


def test_a_date_without_the_server_s_own_is_read_by_the_wall_clock():
    """The clock is an argument, so that nothing here depends on today."""
    failure = Failure(status_code=429, headers={"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"})

    assert classify(failure, wall_clock=lambda: 15.0).retry_after == 45.0


@pytest.mark.parametrize(
    ("status", "says", "kind"),
    [
        *((409, "true", TRANSIENT), (401, "true", TRANSIENT), (503, "true", OVERLOADED)),
        *((429, "true", LIMITED), (429, "false", BUG), (503, "false", BUG), (500, "false", BUG)),
        *((401, "false", AUTH), (402, "false", QUOTA), (404, "false", BUG), (500, "?", TRANSIENT)),
    ],
)
def test_x_should_retry_is_obeyed(status, says, kind):
    """Yes makes a refusal transient, no ends the call; another resource may still be tried."""
    headers = {"x-should-retry": says}

    assert classify(Failure(status_code=status, headers=headers)).kind is kind


def test_the_headers_of_a_cause_do_not_move_a_programming_error():
    """A ValueError made while an answer was read is not retried because the answer might be."""
    failure = ValueError()
    failure.__cause__ = Failure(headers={"x-should-retry": "true"})

    assert classify(failure) == Verdict(BUG, None, "ValueError")


@pytest.mark.parametrize("result", [None, "text", {"status": 500}, SimpleNamespace(status="done")])
def test_a_result_without_a_status_is_just_a_result(result):
    """Reading HTTP statuses leaves every other result alone."""
    assert classify_result(result) is None


@pytest.mark.parametrize("status", [200, 204, 304])
def test_a_status_below_400_is_ok(status):
    """Redirects and not-modified are answers."""
    assert classify_result(httpx.Response(status)) is OK


# The servers' own codes


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"status_code": 429, "code": "insufficient_quota"}, QUOTA),
        ({"status_code": 429, "type": "insufficient_quota"}, QUOTA),
        ({"status_code": 429, "code": "429", "body": {"code": "insufficient_quota"}}, QUOTA),
        ({"status_code": 403, "body": {"error": {"type": "billing_error"}}}, QUOTA),
        ({"status_code": 200, "type": "overloaded_error"}, OVERLOADED),
        ({"status_code": 200, "type": "rate_limit_error"}, LIMITED),
        ({"code": "rate_limit_exceeded"}, LIMITED),
        ({"type": "invalid_request_error"}, BUG),
        ({"status_code": 413, "code": "rate_limit_exceeded"}, BUG),
        ({"status_code": 429, "type": "tokens", "body": "not json"}, LIMITED),
        ({"type": ["insufficient_quota"]}, UNKNOWN),
    ],
)
def test_the_word_of_an_llm_service_says_more_than_its_status(attributes, kind):
    """A spent account and an overloaded stream are known whatever the status was."""
    assert classify(Failure(**attributes)).kind is kind


@pytest.mark.parametrize(
    ("state", "kind", "sent"),
    [
        *(("40001", TRANSIENT, True), ("40P01", TRANSIENT, True), ("55P03", TRANSIENT, True)),
        *(("57P01", TRANSIENT, True), ("57P03", TRANSIENT, True), ("08006", TRANSIENT, True)),
        *(("08001", TRANSIENT, False), ("53300", OVERLOADED, True), ("57014", TIMEOUT, True)),
        *(("28P01", AUTH, True), ("23505", BUG, True), ("42P01", BUG, True), ("25P02", BUG, True)),
        *(
            ("XX000", UNKNOWN, True),
            ("0800", UNKNOWN, True),
            ("08 a\n", UNKNOWN, True),
            (40001, UNKNOWN, True),
        ),
    ],
)
def test_sqlstate_decides_for_databases(state, kind, sent):
    """asyncpg, psycopg and SQLAlchemy round either of them agree."""
    expected = (kind, sent)
    for failure in (
        Failure(sqlstate=state),
        Failure(pgcode=state),
        Failure(orig=Failure(sqlstate=state)),
        Failure(orig=Failure(pgcode=state)),
    ):
        verdict = classify(failure)

        assert (verdict.kind, verdict.sent) == expected


def test_a_connection_that_sqlalchemy_has_given_up_is_transient():
    """A killed backend has no SQLSTATE there."""
    failure = Failure(orig=Failure(sqlstate=None), connection_invalidated=True)

    assert classify(failure) == Verdict(TRANSIENT, None, "connection_invalidated")
    assert classify(Failure(connection_invalidated=False)).kind is UNKNOWN


class StatusCode(Enum):
    """Stands for gRPC's."""

    UNAVAILABLE = (14, "unavailable")
    ABORTED = (10, "aborted")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    UNAUTHENTICATED = (16, "unauthenticated")
    PERMISSION_DENIED = (7, "permission denied")
    DEADLINE_EXCEEDED = (4, "deadline exceeded")
    CANCELLED = (1, "cancelled")
    NOT_FOUND = (5, "not found")
    UNKNOWN = (2, "unknown")


class AioRpcError(like("grpc", "RpcError")):
    """Has methods where others have attributes."""

    def __init__(self, code, *metadata):
        super().__init__()
        self._code = code
        self._metadata = metadata

    def code(self):
        """Return the status, as an enum member."""
        return self._code

    def trailing_metadata(self):
        """Return pairs."""
        return self._metadata


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("UNAVAILABLE", TRANSIENT), ("ABORTED", TRANSIENT), ("RESOURCE_EXHAUSTED", LIMITED)),
        *(("UNAUTHENTICATED", AUTH), ("PERMISSION_DENIED", AUTH), ("DEADLINE_EXCEEDED", TIMEOUT)),
        *(("CANCELLED", CANCELLED), ("NOT_FOUND", BUG), ("UNKNOWN", UNKNOWN)),
    ],
)
def test_the_code_of_grpc_decides(name, kind):
    """It is a method there, and the enum's name counts."""
    assert classify(AioRpcError(StatusCode[name])).kind is kind


def test_the_pushback_of_grpc_is_heard():
    """A number is a delay, a negative one forbids another attempt."""
    later = AioRpcError(StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "250"))
    never = AioRpcError(StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "-1"))

    assert classify(later) == Verdict(TRANSIENT, 0.25, "UNAVAILABLE")
    assert classify(never).kind is BUG


def test_an_aborted_transaction_of_google_is_no_conflict_of_the_caller():
    """google-api-core turns ABORTED into a 409."""
    assert classify(Failure(code=409, grpc_status_code=StatusCode.ABORTED)).kind is TRANSIENT


def test_a_method_called_code_is_not_called_elsewhere():
    """What it does is known for gRPC alone."""
    calls = []

    verdict = classify(Failure(code=lambda: calls.append("called")))

    assert verdict.kind is UNKNOWN
    assert calls == []


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        *(("ThrottlingException", 400, LIMITED), ("SlowDown", 503, LIMITED)),
        *(("RequestTimeout", 400, TRANSIENT), ("ExpiredToken", 400, AUTH)),
        *(("InternalError", 500, TRANSIENT), ("NoSuchKey", 404, BUG)),
    ],
)
def test_the_code_of_aws_comes_before_its_status(code, status, kind):
    """Throttling is a 400 there."""
    response = {
        "Error": {"Code": code},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"x-amz-retry-after": "500"}},
    }

    verdict = classify(Failure(response=response))

    assert verdict.kind is kind
    assert verdict.retry_after == (None if kind in {AUTH, BUG} else 0.5)


# Exceptions of client libraries


CLIENT_ROWS = [
    (module, name, row) for module, names in CLIENT_TYPES.items() for name, row in names.items()
]


@pytest.mark.parametrize(("module", "name", "row"), CLIENT_ROWS)
def test_every_row_is_found_by_name_and_by_subclass(module, name, row):
    """The first part of the module's name and the class's name are enough."""
    listed = like(f"{module}._exceptions", name)
    derived = like("shop", "Derived", listed)

    assert classify(listed()) == Verdict(row.kind, None, name, row.sent)
    assert classify(derived()) == Verdict(row.kind, None, "Derived", row.sent)
    assert classify(like("shop", name)()).kind is UNKNOWN


def test_a_wrong_password_of_redis_is_no_lost_connection():
    """It derives from the error for connections, and retrying it took 4.8 s once."""
    lost = like("redis.exceptions", "ConnectionError")

    assert classify(lost()).kind is TRANSIENT
    assert classify(like("redis.exceptions", "AuthenticationError", lost)()).kind is AUTH


def test_a_time_out_of_a_client_is_one_whatever_status_it_was_given():
    """The SDK that wraps openai puts a 408 on it."""
    timeout = like("openai", "APITimeoutError", like("openai", "APIConnectionError"))
    failure = like("litellm.exceptions", "Timeout", timeout)()
    failure.status_code = 408

    assert classify(failure) == Verdict(TIMEOUT, None, "Timeout")


def test_a_rate_limit_with_a_spent_account_is_a_spent_account():
    """The word on the error comes before its type."""
    failure = like("openai", "RateLimitError")()
    failure.code = "insufficient_quota"
    failure.response = SimpleNamespace(status_code=429, headers={"x-should-retry": "false"})

    assert classify(failure) == Verdict(QUOTA, None, "insufficient_quota")


def test_a_declined_card_is_no_unpaid_account():
    """Stripe answers both with 402."""
    failure = like("stripe._error", "CardError")()
    failure.http_status = 402

    assert classify(failure).kind is BUG


def test_a_certificate_that_is_refused_is_not_tried_again():
    """In httpx it is the argument of the cause of a connection error."""
    failure = httpx.ConnectError("x")
    failure.__cause__ = like("httpcore", "ConnectError")(ssl.SSLCertVerificationError())

    assert classify(failure) == Verdict(BUG, None, "SSLCertVerificationError")


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [
        (httpx.ConnectError("x"), Verdict(TRANSIENT, None, "ConnectError", sent=False)),
        (httpx.PoolTimeout("x"), Verdict(TIMEOUT, None, "PoolTimeout", sent=False)),
        (httpx.ReadTimeout("x"), Verdict(TIMEOUT, None, "ReadTimeout")),
        (httpx.RemoteProtocolError("x"), Verdict(TRANSIENT, None, "RemoteProtocolError")),
        (httpx.UnsupportedProtocol("x"), Verdict(BUG, None, "UnsupportedProtocol")),
        (httpx.StreamConsumed(), Verdict(BUG, None, "StreamConsumed")),
    ],
)
def test_the_real_httpx_is_known(failure, verdict):
    """The look-alikes above look alike."""
    assert classify(failure) == verdict


def test_a_real_response_of_httpx_is_judged_with_its_headers():
    """As exception and as result."""
    request = httpx.Request("GET", "http://localhost")
    response = httpx.Response(429, headers=HINT, request=request)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()

    assert classify(caught.value) == Verdict(LIMITED, 7.0, "429")
    assert classify_result(response) == Verdict(LIMITED, 7.0, "429")


# Several at once


@pytest.mark.parametrize(
    ("members", "verdict"),
    [
        ([ConnectionResetError()], Verdict(TRANSIENT, None, "ConnectionResetError")),
        ([TimeoutError(), TypeError()], Verdict(BUG, None, "TypeError")),
        (
            [TryAgain(after=3), CooldownResource(9), ConnectionRefusedError()],
            Verdict(LIMITED, 9, "CooldownResource"),
        ),
        (
            [ConnectionRefusedError(), ExceptionGroup("x", [socket.gaierror()])],
            Verdict(TRANSIENT, None, "ConnectionRefusedError", sent=False),
        ),
    ],
)
def test_a_group_means_what_its_gravest_member_means(members, verdict):
    """Its delay is the longest asked for, and it was sent if any member was."""
    assert classify(ExceptionGroup("x", members)) == verdict


# Never raises


class Hostile(Exception):  # noqa: N818 - as above
    """Raises from everything that is looked at."""

    def __getattribute__(self, name):
        raise RuntimeError(name)


class HostileProperties(Exception):  # noqa: N818 - as above
    """Raises from the attributes that matter."""

    @property
    def status_code(self):
        """Fail."""
        raise RuntimeError

    response = headers = code = sqlstate = orig = __cause__ = status_code


@pytest.mark.parametrize("make", [Hostile, HostileProperties])
def test_a_failure_that_cannot_be_looked_at_still_gets_a_verdict(make):
    """The operation's failure has to reach the caller, not one of ours."""
    assert classify(make()).kind is UNKNOWN
    assert classify_result(make()) is None


def test_a_cancellation_stays_one_whatever_it_carries():
    """Neither a cause nor attributes that raise may turn it into something that is retried."""
    caused = asyncio.CancelledError()
    caused.__cause__ = Failure(status_code=503)
    hostile = type(
        "Stop", (asyncio.CancelledError,), {"__getattribute__": Hostile.__getattribute__}
    )

    assert classify(caused) == Verdict(CANCELLED, None, "CancelledError")
    assert classify(hostile()) == Verdict(CANCELLED, None, "Stop")


def test_a_failure_that_answers_for_every_attribute_is_unknown():
    """A proxy that returns itself for anything has no status and no headers."""
    mirror = type("Mirror", (Exception,), {"__getattr__": lambda self, _name: self})

    assert classify(mirror()).kind is UNKNOWN


def test_a_cycle_of_causes_ends():
    """Two errors that name each other as cause are classified like any."""
    one, other = Failure(status_code=503), Failure()
    one.__cause__, other.__cause__ = other, one

    assert classify(one).kind is OVERLOADED
    assert classify(other).kind is UNKNOWN


def test_a_group_of_groups_without_end_is_unknown():
    """Nesting deeper than Python's stack is no way to make the classifier raise."""
    group = ExceptionGroup("x", [OSError()])
    for _ in range(5000):
        group = ExceptionGroup("x", [group])

    assert classify(group).kind is UNKNOWN


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(TELLING)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["Error", "error", "Code", "type", "code"]), inner
                )
                | st.builds(SimpleNamespace, status_code=inner, headers=inner)
            ),
            max_leaves=4,
        ),
        max_size=4,
    )
)
def test_no_junk_in_attributes_raises(attributes):
    """Whatever stands where a status, a code or headers are expected, there is a verdict."""
    verdict = classify(Failure(**attributes))

    assert verdict.kind in VerdictKind
    assert verdict.retry_after is None or verdict.retry_after >= 0
    assert "key" not in str(verdict.reason)


def test_every_attribute_that_is_looked_at_is_known_to_tell_something():
    """Types without any of them are judged once, so the list has to be complete."""
    seen = set()

    def watch(_self, name):
        seen.add(name)
        raise AttributeError(name)

    classify(type("Watched", (Exception,), {"__getattr__": watch})())

    assert seen - TELLING == set()
    assert TELLING - seen == {"type", "body"}  # read from the instance's own dict


# Classifiers of the user's


def answering(answer):
    """Return a classifier that always says the same."""
    return lambda _failure: answer


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (None, Verdict(TRANSIENT, None, "ConnectionError")),
        (Verdict(AUTH, reason="mine"), Verdict(AUTH, reason="mine")),
        (AUTH, Verdict(AUTH, None, "ConnectionError")),
        ("auth", Verdict(AUTH, None, "ConnectionError")),
        ("ok", Verdict(VerdictKind.OK, None, "ConnectionError")),
    ],
)
def test_a_classifier_may_answer_in_any_of_four_ways(answer, verdict):
    """A verdict, a kind, its word, or None for the default."""
    assert chain(answering(answer))(ConnectionError()) == verdict


def test_classifiers_are_asked_in_order():
    """The first one that answers decides, and the default comes last."""
    judge = chain(answering(None), answering("auth"), answering("timeout"))

    assert judge(ConnectionError()).kind is AUTH
    assert chain(default=answering(OK))(ConnectionError()) is OK


def test_the_word_of_a_classifier_gains_the_hint_of_the_headers():
    """Who says ``rate_limited`` does not have to parse Retry-After."""
    judge = chain(answering("rate_limited"))

    assert judge(Failure(headers=HINT)) == Verdict(LIMITED, 7.0, "Failure")


@pytest.mark.parametrize(
    "wrong",
    [
        "rate limited",
        5,
        True,
        ["auth"],
        Verdict(LIMITED, retry_after=float("nan")),
        Verdict(LIMITED, retry_after=-1),
        Verdict(LIMITED, retry_after="7"),
        Verdict("auth?"),
    ],
)
def test_a_wrong_answer_is_named_and_the_failure_is_still_judged(wrong, caplog):
    """The mistake is in the log with the classifier's name, and hides nothing."""

    def mistaken(_failure):
        return wrong

    with caplog.at_level(logging.WARNING, "penstock"):
        verdict = chain(mistaken)(ConnectionError())

    assert verdict.kind is TRANSIENT
    assert "mistaken" in caplog.text
    with pytest.raises(ConfigError, match=r"mistaken.*got "):
        as_verdict(wrong, "mistaken")


def test_a_classifier_that_raises_is_reported_once_and_hides_nothing(caplog):
    """The default answers, and the log shows neither a flood nor the failure's text."""

    def broken(failure):
        raise KeyError(str(failure))

    judge = chain(broken)
    with caplog.at_level(logging.WARNING, "penstock"):
        kinds = [judge(Failure(status_code=503)).kind for _ in range(3)]

    assert kinds == [OVERLOADED] * 3
    assert len(caplog.records) == 1
    assert "broken' raised KeyError" in caplog.text
    assert "key" not in caplog.text.replace("KeyError", "")


def test_a_cancellation_inside_a_classifier_passes():
    """Only an ``Exception`` is a classifier's mistake."""

    def cancelled(_failure):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        chain(cancelled)(ConnectionError())


async def ask_somebody(failure):
    """Stand for a classifier that would have to wait."""


@pytest.mark.parametrize("wrong", [None, "auth", 5, ask_somebody])
def test_what_cannot_be_a_classifier_is_refused_when_it_is_built(wrong):
    """Classification cannot wait, and has to be callable."""
    with pytest.raises(ConfigError, match="plain function"):
        chain(wrong)


def test_a_partial_may_be_a_classifier():
    """It has no name of its own; its type's stands in the messages."""
    with pytest.raises(ConfigError, match="partial"):
        as_verdict(5, "partial")

    assert chain(partial(lambda word, _failure: word, "auth"))(ConnectionError()).kind is AUTH
