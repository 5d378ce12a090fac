from __future__ import annotations

from collections import Counter

from penstock.demo.script import Answer, Kind, Script


def answers(script: Script, call: int) -> list[Answer]:
    """Ask as a client that goes on until the answer is good."""
    found = [script.next(call)]
    while found[-1].kind is not Kind.OK:
        found.append(script.next(call))
    return found


def test_the_same_seed_tells_the_same_story() -> None:
    """Two scripts of one seed answer alike, also with requests in another order."""
    one, other = Script(7, 50), Script(7, 50)

    forwards = {call: [a.kind for a in answers(one, call)] for call in range(50)}
    backwards = {call: [a.kind for a in answers(other, call)] for call in reversed(range(50))}

    assert forwards == backwards


def test_another_seed_tells_another_story() -> None:
    """The seed decides which calls meet which misfortune."""
    one, other = Script(1, 50), Script(2, 50)

    stories = [[[a.kind for a in answers(s, call)] for call in range(50)] for s in (one, other)]

    assert stories[0] != stories[1]


def test_every_misfortune_happens_even_in_a_short_run() -> None:
    """A run of a single call meets each kind of answer and still ends well."""
    script = Script(3, 1)

    kinds = [answer.kind for answer in answers(script, 0)]

    assert set(kinds) == set(Kind)
    assert kinds[-1] is Kind.OK


def test_three_hundred_calls_meet_what_the_demo_promises() -> None:
    """The shares hold, whatever the seed: one good answer per call, the rest by quota."""
    script = Script(11, 300)

    kinds = Counter(answer.kind for call in range(300) for answer in answers(script, call))

    assert kinds == {
        Kind.OK: 300,
        Kind.OVERLOADED: 15 + 12,
        Kind.RESET: 12,
        Kind.SLOW: 9,
        Kind.RATE_LIMITED: 9 + 3,
    }


def test_a_dozen_calls_in_a_row_meet_an_outage() -> None:
    """The outage is what opens the breaker."""
    script = Script(7, 300)

    first = [script.next(call).kind for call in range(300)]

    assert first[180:192] == [Kind.OVERLOADED] * 12


def test_both_forms_of_retry_after_are_sent() -> None:
    """Some refusals say milliseconds beside the whole second, some the whole second alone."""
    script = Script(7, 300)

    refusals = [
        dict(answer.headers)
        for call in range(300)
        for answer in answers(script, call)
        if answer.kind is Kind.RATE_LIMITED
    ]

    assert {frozenset(headers) for headers in refusals} == {
        frozenset({"retry-after-ms", "Retry-After"}),
        frozenset({"Retry-After"}),
    }


def test_a_call_beyond_the_script_is_answered_well() -> None:
    """A client that asks for more calls than were announced gets good answers."""
    script = Script(7, 3)

    answer = script.next(3)

    assert answer.kind is Kind.OK
