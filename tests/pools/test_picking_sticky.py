from __future__ import annotations

from collections import Counter
from math import ceil, log2
from random import Random

import pytest

from penstock.pools.candidate import Candidate, Member
from penstock.pools.picking.sticky import LOAD_FACTOR, Sticky
from penstock.pools.picking.tree import Leaf, Tree
from penstock.pools.resource import Resource

KEYS = [f"user-{i}" for i in range(10_000)]


def candidates(count: int, weight: float = 1, start: int = 0) -> list[Candidate]:
    """Return candidates ``r0``, ``r1``, ..."""
    numbers = range(start, start + count)
    members = [Member(Resource(None, f"r{i}", weight=weight), i, None) for i in numbers]
    return [Candidate(member, member.order) for member in members]


def picker_with(ready: list[Candidate]) -> Sticky:
    """Return a picker for which they are ready."""
    picker = Sticky()
    for candidate in ready:
        picker.add(candidate)
    return picker


def homes(picker: Sticky, keys: list[str] = KEYS) -> dict[str, str]:
    """Return whom each key goes to, one call at a time, each of which is counted."""
    found: dict[str, str] = {}
    for serial, key in enumerate(keys, 1):
        candidate = picked(picker, key)
        found[key] = candidate.id
        candidate.last_used = serial
        picker.used(candidate)
        picker.freed(candidate)
    return found


def picked(picker: Sticky, key: str | None) -> Candidate:
    """Return who serves next; somebody is ready."""
    candidate = picker.pick(key, 0.0)
    assert candidate is not None
    return candidate


def use(picker: Sticky, key: str | None) -> Candidate:
    """Begin a use."""
    candidate = picked(picker, key)
    candidate.in_flight += 1
    candidate.last_used += 1
    picker.used(candidate)
    return candidate


# Where keys go


def test_every_process_sends_a_key_to_the_same_place() -> None:
    """The choices are written down here: no hash of this process takes part."""
    picker = picker_with(candidates(10))

    served = [picked(picker, key).id for key in ("", "a", "b", "user-1", "ä", "\ud800")]

    assert served == ["r2", "r0", "r0", "r9", "r0", "r8"]


def test_the_order_of_adding_does_not_matter() -> None:
    """Nor what was added and left in between."""
    ready, others = candidates(20), candidates(20)
    Random(5).shuffle(others)
    picker = picker_with(others)
    picker.remove(others[3])
    picker.add(others[3])

    assert homes(picker) == homes(picker_with(ready))


@pytest.mark.parametrize("count", [2, 3, 10, 30])
def test_keys_are_spread_evenly(count: int) -> None:
    """Within what chance does to ten thousand keys (five standard deviations)."""
    loads = Counter(homes(picker_with(candidates(count))).values())

    share = len(KEYS) / count
    assert len(loads) == count
    assert all(abs(load - share) < 5 * share**0.5 for load in loads.values())


def test_keys_are_spread_by_weight() -> None:
    """Three times the weight, three times the keys."""
    ready = [*candidates(5), *candidates(5, weight=3, start=5)]

    loads = Counter(homes(picker_with(ready)).values())

    heavy = sum(loads[f"r{i}"] for i in range(5, 10))
    assert heavy == pytest.approx(7500, abs=250)


def test_a_weight_next_to_nothing_is_some() -> None:
    """It serves when nobody else is ready."""
    ready = [*candidates(3), *candidates(1, weight=1e-6, start=3)]
    picker = picker_with(ready)
    for candidate in ready[:3]:
        picker.remove(candidate)

    assert picked(picker, "a") is ready[3]


def test_a_new_weight_moves_keys_towards_the_heavier() -> None:
    """Ready or away when it changes."""
    ready = candidates(4)
    picker = picker_with(ready)

    ready[0].resource = Resource(None, "r0", weight=5)
    picker.rated(ready[0])
    picker.remove(ready[1])
    ready[1].resource = Resource(None, "r1", weight=5)
    picker.add(ready[1])

    loads = Counter(homes(picker).values())
    assert loads["r0"] == pytest.approx(10_000 * 5 / 12, abs=250)
    assert loads["r1"] == pytest.approx(10_000 * 5 / 12, abs=250)


# Coming and going


@pytest.mark.parametrize("count", [2, 3, 8, 50])
def test_only_the_keys_of_who_left_move(count: int) -> None:
    """They come back with it."""
    ready = candidates(count)
    picker = picker_with(ready)
    before = homes(picker)

    picker.remove(ready[1])
    without = homes(picker)
    picker.add(ready[1])

    assert all(without[key] == home for key, home in before.items() if home != "r1")
    assert "r1" not in without.values()
    assert homes(picker) == before


def test_only_the_keys_of_those_who_left_move() -> None:
    """However many they are, one after the other."""
    ready = candidates(40)
    picker = picker_with(ready)
    before = homes(picker)

    for candidate in ready[1:]:
        picker.remove(candidate)
        after = homes(picker, KEYS[:500])
        moved = {before[key] for key, home in after.items() if before[key] != home}
        assert candidate.id not in after.values()
        assert all(int(name[1:]) <= candidate.order for name in moved)
        before.update(after)


def test_the_keys_of_who_left_spread_over_all_others() -> None:
    """Nobody inherits them all."""
    ready = candidates(10)
    picker = picker_with(ready)
    before = homes(picker)
    picker.remove(ready[4])

    after = homes(picker)

    heirs = Counter(after[key] for key, home in before.items() if home == "r4")
    assert len(heirs) == 9
    assert max(heirs.values()) < 0.3 * heirs.total()


def test_a_new_id_moves_few_keys() -> None:
    """Its own share, and half a share for each branch above it."""
    ready = candidates(100)
    picker = picker_with(ready)
    before = homes(picker)

    picker.add(candidates(1, start=100)[0])

    after = homes(picker)
    moved = sum(after[key] != home for key, home in before.items()) / len(KEYS)
    assert list(after.values()).count("r100") / len(KEYS) == pytest.approx(1 / 101, rel=0.4)
    assert moved < (2 + log2(100) / 2) / 100


def test_ids_that_never_come_back_are_forgotten() -> None:
    """A pool of proxies sees new ones all the time."""
    stay = candidates(5)
    picker = picker_with(stay)
    for candidate in candidates(2000, start=5):
        picker.add(candidate)
        picker.remove(candidate)

    assert len(picker._leaves) <= 64 + 8 * 6 + 1
    assert {picked(picker, key) for key in KEYS[:200]} == set(stay)
    assert all(candidate.place is picker._leaves[candidate.id] for candidate in stay)


def test_what_was_forgotten_has_its_place_again() -> None:
    """A place is a matter of the id alone."""
    stay, back = candidates(5), candidates(3, start=5)
    picker = picker_with([*stay, *back])
    for candidate in back:
        picker.remove(candidate)
    for candidate in candidates(300, start=10):
        picker.add(candidate)
        picker.remove(candidate)

    for candidate in back:
        picker.add(candidate)
    leaves = {leaf.bits: leaf for leaf in picker._leaves.values() if leaf.live}
    picker._tree = Tree(leaves.values())

    assert homes(picker) == homes(picker_with(candidates(8)))


def test_those_who_may_come_back_are_not_forgotten() -> None:
    """However many of the known ones are away."""
    ready = candidates(200)
    picker = picker_with(ready)
    before = homes(picker)

    for candidate in ready[1:]:
        picker.remove(candidate)
    for candidate in ready[1:]:
        picker.add(candidate)

    assert homes(picker) == before


# Bounded load


def test_a_key_stays_while_its_home_has_room() -> None:
    """One more than the mean is always allowed."""
    picker = picker_with(candidates(10))

    first, second, third = [use(picker, "busy") for _ in range(3)]

    assert second is first
    assert third is not first
    first.in_flight = 1
    picker.freed(first)
    assert picked(picker, "busy") is first


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_busiest_key_does_not_overload_its_home(count: int) -> None:
    """Nobody has more than 1.25 times the mean, or one above it."""
    ready = candidates(count)
    picker = picker_with(ready)

    for served in range(1, 200):
        use(picker, "busy")
        mean = served / count
        most = max(candidate.in_flight for candidate in ready)
        assert most <= ceil(max(mean + 1, LOAD_FACTOR * mean))


def test_uses_of_those_who_left_are_no_load() -> None:
    """The mean is over those that are ready."""
    ready = candidates(4)
    picker = picker_with(ready)
    for _ in range(40):
        use(picker, "busy")

    for candidate in ready[1:]:
        picker.remove(candidate)
    while_away = picker._load
    for candidate in ready[1:]:
        candidate.in_flight = 0
        picker.add(candidate)

    assert while_away == ready[0].in_flight
    assert picker._load == ready[0].in_flight


def test_without_a_key_the_least_in_flight_serves() -> None:
    """There is nothing to stick to."""
    ready = candidates(3)
    picker = picker_with(ready)
    use(picker, None)

    assert [use(picker, None), use(picker, None)] == ready[1:]


def test_nobody_serves_when_nobody_is_ready() -> None:
    """With a key or without, before the first and after the last."""
    picker, (only,) = Sticky(), candidates(1)
    answers = [picker.pick("a", 0.0), picker.pick(None, 0.0)]
    picker.add(only)
    picker.remove(only)

    assert [*answers, picker.pick("a", 0.0)] == [None] * 3


def test_keys_that_came_before_follow_every_change() -> None:
    """Their homes are remembered until somebody joins or a weight changes."""
    ready, few = candidates(5), KEYS[:1000]
    picker = picker_with(ready[:4])
    homes(picker, few)

    picker.add(ready[4])
    joined, anew = homes(picker, few), homes(picker_with(candidates(5)), few)
    ready[0].resource = Resource(None, "r0", weight=5)
    picker.rated(ready[0])
    weighed, heavy = homes(picker, few), homes(picker_with(ready), few)

    assert joined == anew
    assert weighed == heavy != joined


def test_only_so_many_keys_are_remembered() -> None:
    """A key for each of a million users does not stay."""
    picker = picker_with(candidates(3))

    for number in range(20_000):
        picker.pick(f"user-{number}", 0.0)

    assert 0 < len(picker._homes) <= 4096


# The tree


def test_ids_that_differ_late_share_their_keys_too() -> None:
    """Below 32 branches the draws of the first digest are used up."""
    low, high = Leaf("low", 1), Leaf("high", 1)
    low.bits, high.bits = 0b10 << 88, 0b11 << 88
    tree = Tree([low, high])
    owners = candidates(2)
    tree.show(low, owners[0])
    tree.show(high, owners[1])

    firsts = Counter(tree.first(key.encode().ljust(64)[:64]).candidate for key in KEYS)
    ready = Counter(tree.ready(key.encode().ljust(64)[:64]) for key in KEYS)

    assert firsts[owners[0]] == pytest.approx(5000, abs=250)
    assert ready == firsts


def test_ten_thousand_ids_make_no_deep_tree() -> None:
    """About log2 of their number: digests are random."""
    everybody = candidates(10_000)
    picker = picker_with(everybody)

    depths: list[int] = []
    for leaf in picker._leaves.values():
        depth, node = 0, leaf.parent
        while node is not None:
            depth, node = depth + 1, node.parent
        depths.append(depth)

    assert sum(depths) / len(depths) < log2(10_000) + 2
    assert max(depths) < 40
