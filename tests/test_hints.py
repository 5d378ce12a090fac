import math
import time
from datetime import UTC, datetime
from email.message import Message
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.hints import Quota, find_headers, headers_of, quotas, retry_after, should_retry

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()
DATE = "Sat, 21 Nov 2026 12:00:00 GMT"

EXHAUSTED = {"x-ratelimit-remaining-requests": "0"}


def after(headers, wall_now=NOW):
    """Return the delay that the headers ask for."""
    return retry_after(headers, wall_now=wall_now)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": " 7 "}, 7.0),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Saturday, 21-Nov-26 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sat Nov 21 12:00:30 2026"}, 30.0),
        ({"Retry-After": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": "2026-11-21T12:00:30Z"}, 30.0),
        ({"Retry-After": str(int(NOW) + 30)}, 30.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"grpc-retry-pushback-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
    ],
)
def test_a_stated_delay_is_read_in_every_form(headers, seconds):
    """Milliseconds, seconds, the three HTTP dates, RFC 3339 and epoch seconds all arrive."""
    assert after(headers) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "junk",
    [
        *("", "soon", "-5", "inf", "nan", "Infinity", "1e3", "1_000", "٣", "0x10", "5, 5", "7 s"),
        *("Sat, 99 Nov 2026 12:00:30 GMT", "2026-13-01T00:00:00Z", "9" * 400, "1" * 40 + "s"),
    ],
)
def test_what_makes_no_sense_is_not_there(junk):
    """Negative, infinite and unreadable values are ignored instead of guessed at."""
    assert after({"retry-after": junk}) is None
    assert after({"retry-after-ms": junk}) is None
    assert after({**EXHAUSTED, "x-ratelimit-reset-requests": junk}) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        # Nothing is capped here: how long a hint is obeyed is the policy's own decision.
        ({"Retry-After": "410400"}, 410_400.0),
        ({"retry-after-ms": "410400000"}, 410_400.0),
        ({"Retry-After": "Thu, 26 Nov 2026 06:00:00 GMT"}, 410_400.0),
        ({**EXHAUSTED, "x-ratelimit-reset-requests": "114h0m0s"}, 410_400.0),
        ({"Retry-After": str(int(NOW + 30) * 1000)}, 30.0),
        ({"Retry-After": "999999999999999999"}, 999_999_999_999_999.0 - NOW),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 253_402_300_799 - NOW),
        ({"Retry-After": "7" + " " * 10_000}, 7.0),
        ({"x-amz-retry-after": "-1", "Retry-After": "3"}, 3.0),
        ({"grpc-retry-pushback-ms": "-1"}, None),
        ({"grpc-retry-pushback-ms": "-1", "Retry-After": "3"}, 3.0),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": str(int(NOW) + 9)}, 9.0),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "-9"}, None),
        ({"x-ratelimit-remaining": "-3", "x-ratelimit-reset": "9"}, None),
        ({"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": "9"}, 9.0),
    ],
)
def test_the_extremes_have_an_outcome(headers, seconds):
    """114 hours, the end of time, the beginning of time, and less than nothing."""
    delay = after(headers)

    assert delay == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    "field",
    [
        *("", '"', '"a', "a;", ";r=0;t=30", '"a" ;; r=0', '"a";r', '"a";r=;t=30', '"a";r=x;t=30'),
        *('"a";r=-1;t=30', '"a";r=0;t=-30', '"a";r=0;t=inf', '"a";r=0;t="30s"', '"a";r=0;t=?1'),
        *('"a";R=0;T=30', '"a";r=0;t=30\x00', '"a";r=0;t=30 "b"', "(a b);r=0;t=30", "=0;t=30"),
        *('"a";r=\u0660;t=30', '"a";r=0;t=' + "9" * 40, "remaining=0", "limit=0, reset=30"),
    ],
)
def test_a_structured_field_that_is_wrong_asks_for_nothing(field):
    """RFC 9651 has the whole field ignored, and a number that is none is not guessed at."""
    assert after({"RateLimit": field}) is None


def test_of_a_structured_field_what_is_right_counts_beside_its_policy():
    """A policy that is wrong takes nothing from a limit that is right."""
    headers = {"RateLimit": '"a";r=0;t=30', "RateLimit-Policy": '"a";;;q=x'}

    assert after(headers) == 30.0
    assert after({"RateLimit": '"a";r=0', "RateLimit-Policy": '"a";;;w=60'}) is None


def test_a_date_is_relative_to_the_clock_of_the_server():
    """The answer's own ``Date`` decides, however wrong our clock is."""
    headers = {"Date": DATE, "Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}

    assert after(headers, wall_now=NOW - 86_400) == 30.0
    assert after({**headers, "Date": "yesterday"}, wall_now=NOW + 10) == 20.0


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no way to move to another zone")
def test_a_moment_without_a_zone_is_utc(monkeypatch):
    """Where this program runs changes nothing."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert after({"retry-after": "2026-11-21T12:00:30"}) == 30.0
        assert after({"retry-after": "Sat, 21 Nov 2026 12:00:30 -0000"}) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        *(("1s", 1.0), ("6m0s", 360.0), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("500µs", 0.0005)),
        *(("12", 12.0), ("2026-11-21T12:00:30Z", 30.0), ("2026-11-21T13:00:30+01:00", 30.0)),
        *((str(int(NOW) + 5), 5.0), (str(int(NOW + 5) * 1000), 5.0), (str(int(NOW) - 5), 0.0)),
        (str(int(NOW - 5) * 1000), 0.0),
    ],
)
def test_a_reset_is_a_duration_or_a_moment(reset, seconds):
    """Go durations, deltas, RFC 3339 and both kinds of epoch mean the same header."""
    assert after({**EXHAUSTED, "x-ratelimit-reset-requests": reset}) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-21T12:01:00Z",
            },
            60.0,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 9)}, 9.0),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(int(NOW) + 9)}, 9.0),
        (
            {
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": str(int(NOW) + 9),
                "x-ratelimit-reset-after": "8.25",
            },
            8.25,
        ),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "30"}, 30.0),
        ({"RateLimit": '"default";r=0;t=30'}, 30.0),
        ({"RateLimit": '"a";r=0;t=30, "b";r=0;t=40;pk=:c2VjcmV0:'}, 40.0),
        ({"RateLimit": "limit=100, remaining=0, reset=30"}, 30.0),
        ({"RateLimit": "default;r=0", "RateLimit-Policy": '"default";q=10;w=60'}, 60.0),
    ],
)
def test_a_counter_that_is_used_up_says_when_it_is_back(headers, seconds):
    """Every family of quota headers gives a delay once nothing remains."""
    assert after(headers) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "1s"},
        {"x-ratelimit-reset-requests": "1s"},
        {"x-ratelimit-remaining-requests": "0"},
        {"RateLimit": '"default";r=5;t=30'},
        {"RateLimit": '"default";t=30'},
        {"RateLimit": '"default";r=0;t=30;;'},
        {"RateLimit": '"default";r=0;t=30, ;'},
        {"RateLimit": "remaining=5, reset=30"},
    ],
)
def test_a_counter_that_is_not_used_up_asks_for_nothing(headers):
    """A reset counts only beside ``remaining: 0``; nearly every good answer has one."""
    assert after(headers) is None


def test_the_last_of_several_exhausted_counters_decides():
    """Requests and tokens both have to be back before another attempt can do better."""
    headers = {
        **EXHAUSTED,
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "9s",
    }

    assert after(headers) == 9.0
    assert after({**headers, "retry-after": "2"}) == 2.0


def test_good_answers_tell_what_is_left():
    """Counters are read by dimension, with limit and reset where they are said."""
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "anthropic-ratelimit-output-tokens-remaining": "8000",
        "RateLimit-Limit": "100, 100;w=60",
        "RateLimit-Remaining": "7",
        "RateLimit": '"bytes";r=5',
        "RateLimit-Policy": '"bytes";q=1000;qu="content-bytes"',
    }

    assert quotas(headers, wall_now=NOW) == (
        Quota("requests", 59, 1.0, 60),
        Quota("tokens", 8000),
        Quota("requests", 7, None, 100),
        Quota("content-bytes", 5, None, 1000),
    )


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"x-should-retry": "true"}, True),
        ({"X-Should-Retry": "False"}, False),
        ({"stripe-should-retry": "false"}, False),
        ({"x-should-retry": "maybe", "stripe-should-retry": "true"}, True),
        ({"grpc-retry-pushback-ms": "-1"}, False),
        ({"grpc-retry-pushback-ms": "5"}, None),
        ({"grpc-retry-pushback-ms": "-x"}, None),
        ({}, None),
    ],
)
def test_a_server_may_ask_for_another_attempt_or_forbid_it(headers, answer):
    """Only a clear yes or no counts."""
    assert should_retry(headers) is answer


class CaseInsensitive(dict):
    """Stands for the mappings of requests and aiohttp."""


def message():
    """Return the headers that ``urllib`` hands out."""
    found = Message()
    found["Retry-After"] = "7"
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {"RETRY-AFTER": "7"},
        {"retry-after": 7},
        {b"Retry-After": b"7"},
        {"Retry-After": [b"7"]},
        [("Retry-After", "7")],
        ((b"retry-after", b"7"),),
        iter([("Retry-After", "7")]),
        httpx.Headers({"Retry-After": "7"}),
        CaseInsensitive({"Retry-After": "7"}),
        message(),
        [("Retry-After", "7"), ("Retry-After", "9")],
    ],
)
def test_headers_come_in_any_container(headers):
    """Mappings, pairs and bytes of any case are all headers; of two lines the first counts."""
    assert after(headers) == 7.0


def httpx_headers(pairs):
    """Return what an answer of httpx has."""
    return httpx.Headers([(name.encode(), value) for name, value in pairs])


def httpx2_headers(pairs):
    """Return what an answer of httpx2 has."""
    httpx2 = pytest.importorskip("httpx2")
    return httpx2.Headers([(name.encode(), value) for name, value in pairs])


def aiohttp_headers(pairs):
    """Return what an answer of aiohttp has."""
    multidict = pytest.importorskip("multidict")
    # As its parser decodes them: bytes that are no UTF-8 become lone surrogates.
    decoded = ((name, value.decode("utf-8", "surrogateescape")) for name, value in pairs)
    return multidict.CIMultiDictProxy(multidict.CIMultiDict(decoded))


def requests_headers(pairs):
    """Return what an answer of requests has; of several lines it makes one."""
    structures = pytest.importorskip("requests.structures")
    joined = {}
    for name, value in pairs:
        text = value.decode("latin-1")
        joined[name] = f"{joined[name]}, {text}" if name in joined else text
    return structures.CaseInsensitiveDict(joined)


def grpc_headers(pairs):
    """Return what the error of a call of grpc.aio has, as text or as bytes."""
    aio = pytest.importorskip("grpc.aio")
    return aio.Metadata(*((name.lower(), value) for name, value in pairs))


CONTAINERS = [
    pytest.param(make, marks=pytest.mark.covers(name, "junk"), id=name)
    for name, make in {
        "httpx": httpx_headers,
        "httpx2": httpx2_headers,
        "aiohttp": aiohttp_headers,
        "requests": requests_headers,
        "grpc": grpc_headers,
    }.items()
]


@pytest.mark.parametrize("make", CONTAINERS)
@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"soon", b"-5", b"inf", b"nan", b"1e3", b"\xff\xfe7", "\u0663".encode(), b"7\x00"),
        *(b"9" * 10_000, b"x" * 10_000, b"Sat, 99 Nov 2026 12:00:00 GMT", b"2026-13-01T00:00:00Z"),
        b'"a";r=0;t=30;;;',
    ],
    ids=lambda value: repr(value[:24]),
)
def test_junk_in_the_headers_of_a_client_is_not_there(make, value):
    """In the mapping that the library itself hands out, under every name."""
    names = ("Retry-After", "Retry-After-Ms", "RateLimit", "X-RateLimit-Reset", "Date")
    headers = make([*((name, value) for name in names), ("X-RateLimit-Remaining", b"0")])

    assert after(headers) is None
    assert should_retry(headers) is None


@pytest.mark.parametrize("make", CONTAINERS)
def test_good_hints_in_the_headers_of_a_client_are_read(make):
    """In any case of letters; of two lines of a quota that is used up, both count."""
    headers = make(
        [("Retry-After", b"7"), ("RateLimit", b'"a";r=5;t=9'), ("RateLimit", b'"b";r=0;t=8')]
    )

    assert after(headers) == 7.0
    assert [quota.resets_in for quota in quotas(headers, wall_now=NOW)] == [9, 8]


def test_two_lines_that_a_client_has_made_one_are_no_number():
    """Which of them is meant is not ours to guess; the reset of a quota would still count."""
    headers = requests_headers([("Retry-After", b"5"), ("Retry-After", b"9")])

    assert after(headers) is None


def test_lines_of_a_list_field_belong_together():
    """RFC 9110 lets a server split a list over several lines."""
    headers = [("RateLimit", '"a";r=0;t=30'), ("RateLimit", '"b";r=0;t=40')]

    assert after(headers) == 40.0


def test_headers_that_hold_no_hint_are_not_kept():
    """A secret in another header does not travel with the hints."""
    headers = {"Authorization": "Bearer secret", "Date": DATE, "Retry-After": "7"}

    assert headers_of(headers) == {"date": DATE, "retry-after": "7"}


HINT = {"Retry-After": "7"}
FOUND = {"retry-after": "7"}


class Failure(Exception):  # noqa: N818 - a failure of any kind
    """Carries whatever a test sets."""

    def __init__(self, **attributes):
        super().__init__()
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(response=SimpleNamespace(headers=HINT)),
        Failure(response=SimpleNamespace(headers={}), litellm_response_headers=HINT),
        Failure(response=SimpleNamespace(headers={"Date": DATE}), headers=HINT),
        Failure(trailing_metadata=lambda: (("retry-after", "7"),)),
        Failure(response={"ResponseMetadata": {"HTTPHeaders": HINT}}),
        SimpleNamespace(headers=HINT),
    ],
)
def test_headers_are_found_where_each_library_keeps_them(failure):
    """A response, litellm's copy, the error itself, gRPC's metadata, botocore's dict, a result."""
    assert find_headers(failure) == FOUND


def test_the_error_that_another_was_raised_from_is_searched_too():
    """An SDK's own error often has the HTTP error as its cause."""
    outer, inner = Failure(), Failure(headers=HINT)
    outer.__cause__ = inner

    assert find_headers(outer) == FOUND


def test_a_cycle_of_causes_ends():
    """Two errors that name each other as cause have no headers, and that is the answer."""
    one, other = Failure(), Failure()
    one.__cause__, other.__cause__ = other, one

    assert find_headers(one) == {}


def test_a_coroutine_function_of_metadata_is_left_alone():
    """An open gRPC call has an async ``trailing_metadata``; calling it would leak a coroutine."""

    async def trailing_metadata():
        raise AssertionError

    assert find_headers(SimpleNamespace(trailing_metadata=trailing_metadata)) == {}


class Hostile(Exception):  # noqa: N818 - as above
    """Raises from every property that is looked at."""

    def __getattribute__(self, name):
        raise RuntimeError(name)


def boom(*_):
    """Fail."""
    raise RuntimeError


@pytest.mark.parametrize(
    "holder",
    [
        *(None, 5, "text", b"bytes", ["ab", 3], [(1, 2, 3)], object()),
        Failure(trailing_metadata=boom),
        Failure(headers=SimpleNamespace(items=boom)),
        Failure(headers={"retry-after": object()}),
        Failure(headers={"retry-after": 10**5000}),
    ],
)
def test_nothing_that_pretends_to_have_headers_can_raise(holder):
    """Whatever cannot be read as headers has none."""
    assert after(holder) is None
    assert after(find_headers(holder)) is None


def test_an_object_that_raises_from_everything_has_no_headers():
    """Not even its class can be asked for, and still there is an answer."""
    assert after(Hostile()) is None
    assert find_headers(Hostile()) == {}
    assert find_headers(Failure(response=Hostile())) == {}


TEXT = st.text(max_size=40) | st.sampled_from(["Date", "0", "r=0;t=1", DATE, "1h2m", "9" * 18])
NAMES = st.sampled_from(
    [
        *(
            "retry-after",
            "retry-after-ms",
            "date",
            "ratelimit",
            "ratelimit-policy",
            "x-should-retry",
        ),
        *("x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-remaining-tokens"),
        *("x-ratelimit-reset-tokens", "grpc-retry-pushback-ms", "ratelimit-limit"),
        "anthropic-ratelimit-tokens-reset",
    ]
)
VALUES = st.one_of(
    TEXT,
    st.from_regex(r'"a";r=[0-9]{1,20}(;t=[0-9.]{0,4})?(, b;r=0)?', fullmatch=True),
    st.from_regex(r"[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}T[0-9:]{0,8}(Z|[+-][0-9]{2}:[0-9]{2})?"),
    st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{1,8} [A-Z+-]{0,3}"),
    st.integers(),
    st.floats(),
    st.binary(max_size=20),
    st.none(),
    st.booleans(),
    st.lists(TEXT, max_size=3),
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES), st.floats(min_value=0, max_value=1e11))
def test_no_junk_raises_or_gives_a_delay_that_cannot_be_slept(headers, wall_now):
    """Any values under any of the names give None, or seconds that are finite and not negative."""
    delay = retry_after(headers, wall_now=wall_now)
    told = quotas(headers, wall_now=wall_now)

    assert delay is None or (math.isfinite(delay) and delay >= 0)
    assert all(quota.remaining >= 0 for quota in told)
    assert should_retry(headers) in {True, False, None}


@settings(deadline=None)
@given(st.dictionaries(TEXT | st.binary() | st.integers(), VALUES) | st.lists(VALUES))
def test_no_container_of_junk_raises(headers):
    """Anything iterable at all may be handed in as headers."""
    assert retry_after(headers, wall_now=NOW) is None or headers


@pytest.mark.parametrize(
    "evil", ['"' * 5000, '"a"' + ";a" * 3000, "a " * 4000, '"a";r=0' + " " * 5000]
)
def test_a_long_field_costs_no_more_than_its_length(evil):
    """The pattern for structured fields does not backtrack its way into minutes."""
    assert after({"ratelimit": evil, "ratelimit-policy": evil}) is None
