from __future__ import annotations

import pytest

from penstock.pools.candidate import Candidate, Member
from penstock.pools.picking import Picker
from penstock.pools.picking.shares import LeastTotal, Weighted
from penstock.pools.resource import Resource


def candidates(*weights: float) -> list[Candidate]:
    """Return candidates ``a``, ``b``, ... with these weights."""
    resources = [Resource(None, chr(97 + i), weight=w) for i, w in enumerate(weights)]
    return [Candidate(Member(resource, i, None), i) for i, resource in enumerate(resources)]


def fill(picker: Picker, *weights: float) -> list[Candidate]:
    """Let candidates with these weights become ready."""
    ready = candidates(*weights)
    for candidate in ready:
        picker.add(candidate)
    return ready


def serve(picker: Picker, count: int) -> str:
    """Use one after the other; return who served."""
    served = ""
    for _ in range(count):
        candidate = picker.pick(None, 0.0)
        assert candidate is not None
        candidate.total += 1
        picker.used(candidate)
        served += candidate.id
    return served


# Least total


def test_the_least_used_catches_up() -> None:
    """Uses that it did not get while it was ready count against nobody else."""
    picker = LeastTotal()
    first, second = candidates(1, 1)
    first.total = 3
    picker.add(second)
    picker.add(first)

    assert serve(picker, 6) == "bbbaba"


@pytest.mark.parametrize("picker", [LeastTotal(), Weighted()])
def test_a_newcomer_does_not_get_every_call(picker: Picker) -> None:
    """Level with the others it gets its share, at most one call ahead."""
    fill(picker, 1)
    serve(picker, 100)

    late = candidates(1, 1)[1]
    picker.add(late)

    assert serve(picker, 20).count("b") in (10, 11)


@pytest.mark.parametrize("picker", [LeastTotal(), Weighted()])
def test_who_comes_back_does_not_get_what_it_missed(picker: Picker) -> None:
    """A hundred calls in its absence are not made good."""
    _, second = fill(picker, 1, 1)
    serve(picker, 10)
    picker.remove(second)
    serve(picker, 100)

    picker.add(second)

    assert serve(picker, 20).count("b") in (10, 11)


@pytest.mark.parametrize("picker", [LeastTotal(), Weighted()])
def test_a_newcomer_starts_level_also_while_all_others_are_in_use(picker: Picker) -> None:
    """What the last one that was picked had counts, not zero."""
    (first,) = fill(picker, 1)
    serve(picker, 100)
    picker.remove(first)

    picker.add(candidates(1, 1)[1])
    picker.add(first)

    assert serve(picker, 20).count("b") in (10, 11)


# Weighted


@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 1, 1), (3, 2), (7, 4, 2, 1), (1, 100)])
def test_shares_are_exact_in_every_turn(weights: tuple[int, ...]) -> None:
    """A turn has as many calls as the weights have in all."""
    picker = Weighted()
    fill(picker, *weights)

    for _ in range(20):
        turn = serve(picker, sum(weights))
        assert [turn.count(chr(97 + i)) for i in range(len(weights))] == list(weights)


def test_shares_are_spread_over_the_turn() -> None:
    """The heavy one's calls do not come in one burst."""
    picker = Weighted()
    fill(picker, 4, 2, 1)

    assert serve(picker, 14) == "abacaba" + "abacaba"


def test_fractions_are_weights_too() -> None:
    """Only their ratio counts."""
    picker = Weighted()
    fill(picker, 0.3, 0.1)

    assert serve(picker, 400).count("a") == 300


def test_who_left_waits_for_its_next_turn() -> None:
    """Leaving and coming back over and over gains nothing."""
    picker = Weighted()
    _, light = fill(picker, 9, 1)
    served = ""

    for _ in range(100):
        served += serve(picker, 1)
        picker.remove(light)
        picker.add(light)

    assert served.count("b") == 10


def test_a_new_weight_counts_from_now_on() -> None:
    """Heavier or lighter, ready or away: nothing is made good for the time before."""
    picker = Weighted()
    first, second = fill(picker, 1, 1)
    serve(picker, 100)

    first.resource = Resource(None, "a", weight=3)
    picker.rated(first)
    heavier = serve(picker, 40)
    picker.remove(first)
    first.resource = Resource(None, "a", weight=0.25)
    picker.add(first)

    assert heavier.count("a") == 30
    assert serve(picker, 50).count("a") in (9, 10, 11)
    assert second.total > 50


def test_a_light_one_alone_does_not_pull_up_the_others() -> None:
    """Who comes back while only it is ready keeps its own place."""
    picker = Weighted()
    heavy, light = fill(picker, 1, 0.01)
    served = ""

    for _ in range(50):
        served += serve(picker, 1)
        picker.remove(heavy)
        picker.add(heavy)

    assert served == "a" * 50
    assert light.total == 0
