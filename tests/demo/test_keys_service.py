from __future__ import annotations

import math

import pytest

from penstock.demo.rotation.keys import KEYS, KeyTerms, value_of
from penstock.demo.rotation.service import KeyedAnswer, KeyedService

SEED = 5


def asked(service: KeyedService, key: str, *at: float) -> list[KeyedAnswer]:
    """Ask with one key at these seconds."""
    return [service.answer(value_of(SEED, key), now) for now in at]


def test_the_five_keys_are_what_the_demo_promises() -> None:
    """Two with different limits, one revoked, one slow, one good."""
    limits = [terms.per_second for terms in KEYS if terms.per_second is not None]
    revoked = [terms.id for terms in KEYS if terms.is_revoked]
    unlimited = [t for t in KEYS if t.per_second is None and not t.is_revoked]

    assert len(KEYS) == 5
    assert len(set(limits)) == 2
    assert revoked == ["revoked"]
    assert {t.id: t.mean for t in unlimited} == {"slow": 0.5, "good": 0.12}


def test_values_differ_by_key_and_by_seed() -> None:
    """Both processes make the same ones, and no two keys are the same."""
    values = {value_of(seed, terms.id) for terms in KEYS for seed in (1, 2)}

    assert len(values) == 10
    assert value_of(1, "good") == value_of(1, "good")


def test_a_limited_key_is_told_when_its_oldest_request_is_a_second_old() -> None:
    """Ten in a second are answered, the eleventh is not; a second later all is well."""
    service = KeyedService(SEED)

    first = asked(service, "tight", *[0.5] * 10)
    refused, at_last, later = asked(service, "tight", 0.6, 1.499, 1.5)

    assert {answer.status for answer in first} == {200}
    assert (refused.status, refused.headers) == (429, (("Retry-After", "1"),))
    assert at_last.status == 429
    assert later.status == 200


def test_refused_requests_do_not_count_against_the_limit() -> None:
    """Otherwise a key that is asked on and on would never come back."""
    service = KeyedService(SEED)
    asked(service, "tight", *[0.0] * 10)

    asked(service, "tight", *[0.9] * 10)
    answers = asked(service, "tight", *[1.0] * 10)

    assert {answer.status for answer in answers} == {200}


def test_the_keys_without_a_limit_differ_in_how_long_they_take() -> None:
    """Slow is several times as slow as good, always."""
    service = KeyedService(SEED)

    slow = asked(service, "slow", *[0.0] * 50)
    good = asked(service, "good", *[0.0] * 50)

    assert {answer.status for answer in slow + good} == {200}
    assert min(a.after for a in slow) > 2 * max(a.after for a in good)


def test_each_answer_is_counted_under_its_key() -> None:
    """A key that nobody issued is refused, and counted nowhere."""
    service = KeyedService(SEED)

    asked(service, "revoked", 0.0, 9.0)
    asked(service, "good", 0.0)
    stranger = service.answer(value_of(SEED + 1, "good"), 0.0)

    assert stranger.status == 401
    assert service.seen == {
        "tight": {},
        "roomy": {},
        "revoked": {401: 2},
        "slow": {},
        "good": {200: 1},
    }


@pytest.mark.parametrize(
    ("terms", "seconds", "words"),
    [
        (KeyTerms(id="a", latency=(0.1, 0.3)), 10.0, "0.2 s"),
        (KeyTerms(id="b", latency=(0.0, 0.0), per_second=10), 19.0, "10/s"),
        (KeyTerms(id="c", latency=(1.0, 1.0), per_second=10), 50.0, "10/s"),
        (KeyTerms(id="d", latency=(0.0, 0.0), is_revoked=True), math.inf, "no entry"),
    ],
)
def test_what_a_key_alone_would_need_follows_from_its_terms(
    terms: KeyTerms, seconds: float, words: str
) -> None:
    """Four at once, at most so many a second; the longer of the two counts."""
    assert terms.alone(200) == pytest.approx(seconds)
    assert terms.words == words
