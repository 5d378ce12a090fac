from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from penstock import ConfigError
from penstock.pools.candidate import Candidate, Member
from penstock.pools.options import PICKS
from penstock.pools.picking import PICKERS, Picker, picker_of
from penstock.pools.resource import Resource


def candidates(count: int, **options: Any) -> list[Candidate]:
    """Return candidates ``r0``, ``r1``, ..."""
    members = [Member(Resource(f"v{i}", f"r{i}", **options), i, None) for i in range(count)]
    return [Candidate(member, member.order) for member in members]


# What holds for all of them


def fleet(name: str, count: int) -> tuple[Picker, list[Candidate]]:
    """Return a picker and its candidates, all ready."""
    picker, ready = picker_of(name, Random(1).random)(), candidates(count)
    for candidate in ready:
        picker.add(candidate)
    return picker, ready


def picked(picker: Picker, key: str | None = None) -> Candidate:
    """Return who serves next; somebody is ready."""
    candidate = picker.pick(key, 0.0)
    assert candidate is not None
    return candidate


def in_turns(picker: Picker, count: int) -> list[str]:
    """Use one after the other; return who served."""
    served: list[str] = []
    for serial in range(1, count + 1):
        candidate = picked(picker)
        candidate.total += 1
        candidate.last_used = serial
        picker.used(candidate)
        picker.freed(candidate)
        served.append(candidate.id)
    return served


@pytest.mark.parametrize("name", PICKERS)
def test_a_removed_resource_is_let_go(name: str) -> None:
    """A key that was taken out of the pool must not stay in memory."""
    picker, (first, second, third) = fleet(name, 3)
    resource = weakref.ref(second.resource)
    in_turns(picker, 7)

    picker.remove(second)
    del second
    gc.collect()

    assert resource() is None
    assert picker.pick("key", 0.0) in (first, third)


class Counted(Candidate):
    """Counts how often it is looked at."""

    __slots__ = ()

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        Counted.looks += 1
        return super().__getattribute__(name)


@pytest.mark.parametrize("gone", [0, 9999])
@pytest.mark.parametrize("name", PICKERS)
def test_picking_does_not_look_at_everybody(name: str, gone: int) -> None:
    """At 10,000 candidates a call looks at a few, however many of them are ready."""
    picker = picker_of(name, Random(1).random)()
    members = [Member(Resource(i, f"r{i}"), i, None) for i in range(10_000)]
    everybody = [Counted(member, member.order) for member in members]
    for candidate in everybody:
        candidate.remaining, candidate.resets_at = 1000.0, 1e9
        picker.add(candidate)
    for candidate in everybody[:gone]:
        picker.remove(candidate)
    picker.pick("warm", 0.0)

    Counted.looks = 0
    for serial in range(1, 501):
        candidate = picked(picker, f"key {serial}")
        candidate.last_used = serial
        candidate.total += 1
        picker.used(candidate)
        picker.freed(candidate)

    assert Counted.looks < 500 * 40


@pytest.mark.parametrize("name", ["least_in_flight", "least_total", "weighted", "most_remaining"])
def test_dead_entries_do_not_pile_up(name: str) -> None:
    """A resource that comes and goes for ever leaves nothing behind, and nobody else is lost."""
    picker, (first, second, third) = fleet(name, 3)
    second.remaining, second.total, second.last_used = 5.0, 9, 9
    picker.rated(second)
    second.remaining, second.total, second.last_used = 4.0, 10, 10
    picker.used(second)
    for serial in range(1, 5000):
        first.last_used = serial
        first.remaining, first.resets_at = float(serial % 7), 1e6 - serial
        picker.remove(first)
        picker.add(first)

    heaps = [picker, *(getattr(picker, part, None) for part in ("_known", "_unknown"))]
    sizes = [len(heap._heap) for heap in heaps if hasattr(heap, "_heap")]
    sizes.append(len(getattr(picker, "_resets", ())))

    assert max(sizes) <= 64 + 2 * 3 + 1
    for candidate in (first, third):
        picker.remove(candidate)
    assert picker.pick(None, 0.0) is second


# One by one


def test_round_robin_serves_everybody_once_before_anybody_twice() -> None:
    """In the order in which they became ready."""
    picker, ready = fleet("round_robin", 3)

    first = in_turns(picker, 4)
    picker.remove(ready[1])
    without = in_turns(picker, 2)
    picker.add(ready[1])

    assert first == ["r0", "r1", "r2", "r0"]
    assert without == ["r2", "r0"]
    assert in_turns(picker, 3) == ["r2", "r0", "r1"]


def test_the_least_in_flight_passes_by_the_busy() -> None:
    """Among the idle the one that rested longest serves."""
    picker, ready = fleet("least_in_flight", 3)
    ready[0].in_flight = ready[0].last_used = 1
    picker.used(ready[0])

    assert in_turns(picker, 3) == ["r1", "r2", "r1"]


def test_the_primary_serves_while_it_is_ready() -> None:
    """The backup serves only in between."""
    picker, ready = fleet("primary_backup", 3)

    before = in_turns(picker, 2)
    picker.remove(ready[0])
    between = in_turns(picker, 2)
    picker.add(ready[0])

    assert (before, between, in_turns(picker, 1)) == (["r0", "r0"], ["r1", "r1"], ["r0"])


def test_random_gives_everybody_the_same_chance() -> None:
    """The draw is cut into equal parts, the last one included."""
    draws = iter([0.0, 0.3, 0.5, 0.999999, 1 - 2**-53])
    picker = picker_of("random", lambda: next(draws))()
    for candidate in candidates(4):
        picker.add(candidate)

    assert [picked(picker).order for _ in range(5)] == [0, 1, 2, 3, 3]


# A user's own picker


class LastOne:
    """Picks the last; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], str | None]] = []

    def pick(self, ready: Sequence[Candidate], key: str | None) -> Candidate:
        self.asked.append(([c.id for c in ready], key))
        return ready[-1]


def test_a_user_s_picker_is_asked() -> None:
    """It gets those that are ready, in order, and the key."""
    chooser = LastOne()
    picker, ready = picker_of(chooser, Random(1).random)(), candidates(4)
    for at in (3, 0, 2, 1):
        picker.add(ready[at])
    picker.remove(ready[3])

    answer = picker.pick("key", 0.0)

    assert answer is ready[2]
    assert chooser.asked == [(["r0", "r1", "r2"], "key")]


def test_a_user_s_picker_is_not_asked_when_nobody_is_ready() -> None:
    """There is nothing to choose from."""
    chooser = LastOne()
    picker = picker_of(chooser, Random(1).random)()

    assert picker.pick(None, 0.0) is None
    assert chooser.asked == []


def test_what_a_user_s_picker_is_given_cannot_be_changed() -> None:
    """It is a sequence to read: slices are copies."""

    class Greedy:
        def pick(self, ready: Any, key: str | None) -> Candidate:
            ready[:].clear()
            assert not hasattr(ready, "append")
            assert len(ready) == 2
            found: Candidate = ready[1]
            return found

    picker, ready = fleet_of(Greedy(), 2)

    assert picker.pick(None, 0.0) is ready[1]


def fleet_of(chooser: object, count: int) -> tuple[Picker, list[Candidate]]:
    """Return a user's picker and its candidates, all ready."""
    picker, ready = picker_of(chooser, Random(1).random)(), candidates(count)
    for candidate in ready:
        picker.add(candidate)
    return picker, ready


class Scripted:
    """Answers what it was told to, or raises it."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def pick(self, ready: Sequence[Candidate], key: str | None) -> Any:
        return self.answer()


def raises_a_secret() -> Candidate:
    """Fail with the value in the text."""
    raise RuntimeError("sk-secret")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (raises_a_secret, "raised RuntimeError"),
        (lambda: None, "answered with NoneType"),
        (lambda: "sk-secret", "answered with str"),
        (lambda: candidates(2)[1], "answered with resource 'r1'"),
        (lambda: candidates(9)[8], "answered with resource 'r8'"),
    ],
)
def test_an_answer_that_is_no_use_is_reported_once(
    answer: Callable[[], Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first ready one serves; the log names types, never what was raised or answered."""
    picker, ready = fleet_of(Scripted(answer), 2)

    with caplog.at_level(logging.DEBUG, "penstock"):
        answers = [picker.pick(None, 0.0) for _ in range(3)]

    assert answers == [ready[0]] * 3
    assert [said in record.getMessage() for record in caplog.records] == [True]
    assert "secret" not in caplog.text


def test_all_lanes_share_one_complaint(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred models do not say it a hundred times."""
    make = picker_of(Scripted(raises_a_secret), Random(1).random)

    for _ in range(3):
        picker = make()
        picker.add(candidates(1)[0])
        picker.pick(None, 0.0)

    assert len(caplog.records) == 1


def test_a_user_s_picker_may_be_interrupted() -> None:
    """What is no error passes."""

    def interrupt() -> Candidate:
        raise KeyboardInterrupt

    picker, _ = fleet_of(Scripted(interrupt), 2)

    with pytest.raises(KeyboardInterrupt):
        picker.pick(None, 0.0)


# Which picker


def test_there_is_a_picker_for_every_word() -> None:
    """The options allow what can be made, and nothing else."""
    assert tuple(PICKERS) == PICKS


@pytest.mark.parametrize("name", PICKERS)
def test_every_lane_gets_a_picker_of_its_own(name: str) -> None:
    """What one knows is no business of the other."""
    make = picker_of(name, Random(1).random)

    make().add(candidates(1)[0])

    assert make().pick(None, 0.0) is None


def test_an_unknown_word_is_refused_with_the_nearest() -> None:
    """The error names all of them as well."""
    with pytest.raises(ConfigError) as refused:
        picker_of("least_inflight", Random(1).random)

    assert "did you mean 'least_in_flight'?" in str(refused.value)
    assert all(name in str(refused.value) for name in PICKERS)


class AsyncPick:
    """Would have to be awaited."""

    async def pick(self, ready: Sequence[Candidate], key: str | None) -> Candidate:
        return ready[0]


@pytest.mark.parametrize("how", ["", "nonsense", None, 3, LastOne, AsyncPick(), object()])
def test_what_cannot_pick_is_refused(how: object) -> None:
    """A class instead of an object and an async method are common slips."""
    with pytest.raises(ConfigError, match="'pick' must be one of"):
        picker_of(how, Random(1).random)
