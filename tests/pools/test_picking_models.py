from __future__ import annotations

from math import exp
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.pools.candidate import Candidate, Member
from penstock.pools.picking import PICKERS, Picker, picker_of
from penstock.pools.picking.p2c_ewma import observed
from penstock.pools.resource import Resource


def candidates(count: int, **options: Any) -> list[Candidate]:
    """Return candidates ``r0``, ``r1``, ..."""
    members = [Member(Resource(f"v{i}", f"r{i}", **options), i, None) for i in range(count)]
    return [Candidate(member, member.order) for member in members]


def picked(picker: Picker, key: str | None = None) -> Candidate:
    """Return who serves next; somebody is ready."""
    candidate = picker.pick(key, 0.0)
    assert candidate is not None
    return candidate


# A naive model of each picker


class Model:
    """What a picker must answer, found by looking at everybody."""

    def __init__(self, world: World) -> None:
        self.world = world

    def added(self, candidate: Candidate) -> None:
        """Note that it has become ready."""

    def used(self, candidate: Candidate) -> None:
        """Note a use."""

    def reported(self, candidate: Candidate) -> None:
        """Note a report or a new weight."""

    def check(self, key: str | None, answer: Candidate) -> None:
        """Compare an answer."""
        assert answer is min(self.world.ready, key=lambda c: (self.rank(c), c.order))

    def rank(self, candidate: Candidate) -> Any:
        """Return what the lowest of is served."""
        raise NotImplementedError


class LeastInFlightModel(Model):
    """Fewest in flight, then oldest use."""

    def rank(self, candidate: Candidate) -> Any:
        return candidate.in_flight, candidate.last_used


class RoundRobinModel(Model):
    """Whoever became ready, or was used, longest ago."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.turns = dict.fromkeys(world.candidates, 0)

    def added(self, candidate: Candidate) -> None:
        self.turns[candidate] = max(self.turns.values()) + 1

    used = added

    def rank(self, candidate: Candidate) -> Any:
        return self.turns[candidate]


class PrimaryBackupModel(Model):
    """The first."""

    def rank(self, candidate: Candidate) -> Any:
        return candidate.order


class LeastTotalModel(Model):
    """Uses counted one by one; who joins starts level with the least of the others."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.counts: dict[Candidate, float] = {}
        self.level = 0.0

    def added(self, candidate: Candidate) -> None:
        self.counts[candidate] = max(self.counts.get(candidate, 0), self.level)

    def check(self, key: str | None, answer: Candidate) -> None:
        super().check(key, answer)
        self.level = self.counts[answer]

    def used(self, candidate: Candidate) -> None:
        self.counts[candidate] += 1

    def rank(self, candidate: Candidate) -> Any:
        return self.counts[candidate]


class WeightedModel(LeastTotalModel):
    """Strides walked one by one; close enough to equal is equal."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.strides: dict[Candidate, float] = {}

    def added(self, candidate: Candidate) -> None:
        stride = 1 / candidate.weight
        if candidate in self.counts:
            ahead = max(0.0, self.counts[candidate] - self.level)
            self.counts[candidate] = self.level + ahead * stride / self.strides[candidate]
        else:
            self.counts[candidate] = self.level + stride / 2
        self.strides[candidate] = stride

    def used(self, candidate: Candidate) -> None:
        self.counts[candidate] += self.strides[candidate]

    def reported(self, candidate: Candidate) -> None:
        if self.strides[candidate] != 1 / candidate.weight:
            ahead = self.counts[candidate] - self.level
            ratio = 1 / candidate.weight / self.strides[candidate]
            self.counts[candidate] = self.level + ahead * ratio
            self.strides[candidate] *= ratio

    def check(self, key: str | None, answer: Candidate) -> None:
        least = min(self.counts[c] for c in self.world.ready)
        assert self.counts[answer] == pytest.approx(least)
        self.level = self.counts[answer]


class RandomModel(Model):
    """Anybody who is ready."""

    def check(self, key: str | None, answer: Candidate) -> None:
        assert answer in self.world.ready


class P2cEwmaModel(Model):
    """The draw names the pair; with two there is but one."""

    def check(self, key: str | None, answer: Candidate) -> None:
        assert answer in self.world.ready
        if len(self.world.ready) == 2:
            assert self.cost(answer) == min(map(self.cost, self.world.ready))

    def cost(self, candidate: Candidate) -> float:
        """Return the latency now, times the uses there would be."""
        if not candidate.latency:
            return 1e9 if candidate.in_flight else 0.0
        waned = exp((candidate.latency_at - self.world.now) / 10)
        return candidate.latency * waned * (candidate.in_flight + 1)


class MostRemainingModel(Model):
    """The rule, read out."""

    def is_known(self, candidate: Candidate) -> bool:
        """Whether its report holds."""
        is_over = candidate.resets_at is not None and candidate.resets_at <= self.world.now
        return candidate.remaining is not None and not is_over

    def check(self, key: str | None, answer: Candidate) -> None:
        known = [c for c in self.world.ready if self.is_known(c)]
        unknown = [c for c in self.world.ready if not self.is_known(c)]
        best = min(known, key=lambda c: (-(c.remaining or 0), c.order), default=None)
        rest = min(unknown, key=lambda c: (*self.turn(c), c.order), default=None)
        if best is None or rest is None:
            assert answer is (best or rest)
        elif (best.remaining or 0) < 1 or self.turn(rest) <= self.turn(best):
            assert answer is rest
        else:
            assert answer is best

    def turn(self, candidate: Candidate) -> tuple[int, int]:
        """Return fewest in flight, then oldest use."""
        return candidate.in_flight, candidate.last_used


class StickyModel(Model):
    """A new picker that is told of the same candidates in another order."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.seen: dict[Candidate, float] = {}

    def added(self, candidate: Candidate) -> None:
        self.seen[candidate] = candidate.weight

    reported = added

    def check(self, key: str | None, answer: Candidate) -> None:
        double = picker_of("sticky", lambda: 0.0)()
        doubles: dict[str, Candidate] = {}
        for candidate in sorted(self.seen, key=lambda c: c.id, reverse=True):
            resource = Resource(None, candidate.id, weight=self.seen[candidate])
            twin = Candidate(Member(resource, candidate.order, None), candidate.order)
            doubles[twin.id] = twin
            double.add(twin)
        for candidate in self.seen:
            twin = doubles[candidate.id]
            if candidate not in self.world.ready:
                double.remove(twin)
                continue
            twin.in_flight, twin.last_used = candidate.in_flight, candidate.last_used
            double.remove(twin)
            double.add(twin)
        assert picked(double, key).id == answer.id


MODELS: dict[str, type[Model]] = {
    "least_in_flight": LeastInFlightModel,
    "round_robin": RoundRobinModel,
    "least_total": LeastTotalModel,
    "random": RandomModel,
    "primary_backup": PrimaryBackupModel,
    "weighted": WeightedModel,
    "sticky": StickyModel,
    "p2c_ewma": P2cEwmaModel,
    "most_remaining": MostRemainingModel,
}


class World:
    """A pool in miniature, which keeps a picker and its model to the contract of ``Picker``."""

    def __init__(self, name: str, size: int) -> None:
        self.now = 0.0
        self.serial = 0
        self.draw = 0.0
        self.candidates = candidates(size)
        self.ready: list[Candidate] = []
        self.uses: list[Candidate] = []
        self.picker: Picker = picker_of(name, lambda: self.draw)()
        self.model = MODELS[name](self)

    @property
    def away(self) -> list[Candidate]:
        """Who is not ready."""
        return [c for c in self.candidates if c not in self.ready]

    def come(self, candidate: Candidate) -> None:
        """Become ready."""
        self.ready.append(candidate)
        self.picker.add(candidate)
        self.model.added(candidate)

    def go(self, candidate: Candidate) -> None:
        """Stop being ready."""
        self.ready.remove(candidate)
        self.picker.remove(candidate)

    def use(self, key: str | None, *, is_last: bool) -> None:
        """Pick and use; the last use that there is room for takes the candidate away."""
        candidate = self.picker.pick(key, self.now)
        if candidate is None:
            return
        self.model.check(key, candidate)
        self.serial += 1
        candidate.last_used = self.serial
        candidate.total += 1
        candidate.in_flight += 1
        if candidate.remaining:
            candidate.remaining -= 1
        self.uses.append(candidate)
        if is_last:
            self.go(candidate)
        else:
            self.picker.used(candidate)
        self.model.used(candidate)

    def free(self, candidate: Candidate) -> None:
        """End a use."""
        self.uses.remove(candidate)
        candidate.in_flight -= 1
        if candidate in self.ready:
            self.picker.freed(candidate)

    def report(self, candidate: Candidate, remaining: float | None, wait: float | None) -> None:
        """Say what is left of a quota."""
        candidate.remaining = remaining
        candidate.resets_at = None if wait is None else self.now + wait
        self._rated(candidate)

    def weigh(self, candidate: Candidate, weight: float) -> None:
        """Change a weight."""
        candidate.resource = Resource(None, candidate.id, weight=weight)
        self._rated(candidate)

    def answer(self, candidate: Candidate, seconds: float) -> None:
        """Note a latency."""
        observed(candidate, seconds, self.now)
        self._rated(candidate)

    def _rated(self, candidate: Candidate) -> None:
        if candidate in self.ready:
            self.picker.rated(candidate)
            self.model.reported(candidate)

    def check(self, key: str | None) -> None:
        """Ask, twice: asking changes nothing."""
        answer = self.picker.pick(key, self.now)
        assert self.picker.pick(key, self.now) is answer
        assert (answer is None) == (not self.ready)
        if answer is not None:
            self.model.check(key, answer)
        assert all((c.key is not None) == (c in self.ready) for c in self.candidates)


class PickerModel(RuleBasedStateMachine):
    """A picker beside its model, whatever happens to the candidates and in which order."""

    name = ""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.name, 6)

    @precondition(lambda self: self.world.away)
    @rule(data=st.data())
    def come(self, data: st.DataObject) -> None:
        self.world.come(data.draw(st.sampled_from(self.world.away)))

    @precondition(lambda self: self.world.ready)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        self.world.go(data.draw(st.sampled_from(self.world.ready)))

    @rule(key=st.sampled_from([None, "a", "b"]), is_last=st.booleans(), draw=st.floats(0, 0.999))
    def use(self, key: str | None, is_last: bool, draw: float) -> None:
        self.world.draw = draw
        self.world.use(key, is_last=is_last)

    @precondition(lambda self: self.world.uses)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.world.free(data.draw(st.sampled_from(self.world.uses)))

    @rule(
        at=st.integers(0, 5),
        remaining=st.none() | st.integers(0, 5),
        wait=st.none() | st.integers(0, 3),
    )
    def report(self, at: int, remaining: int | None, wait: int | None) -> None:
        self.world.report(self.world.candidates[at], remaining, wait)

    @rule(at=st.integers(0, 5), weight=st.sampled_from([0.25, 0.5, 1, 2, 3]))
    def weigh(self, at: int, weight: float) -> None:
        self.world.weigh(self.world.candidates[at], weight)

    @rule(at=st.integers(0, 5), seconds=st.floats(0, 5))
    def answer(self, at: int, seconds: float) -> None:
        self.world.answer(self.world.candidates[at], seconds)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    @invariant()
    def agrees(self) -> None:
        for key in (None, "a", "b", "c"):
            self.world.check(key)


def model_of(picker: str) -> Any:
    """Return the test case for one picker."""
    return type(f"{picker}Model", (PickerModel,), {"name": picker}).TestCase


TestLeastInFlight = model_of("least_in_flight")
TestRoundRobin = model_of("round_robin")
TestLeastTotal = model_of("least_total")
TestRandom = model_of("random")
TestPrimaryBackup = model_of("primary_backup")
TestWeighted = model_of("weighted")
TestSticky = model_of("sticky")
TestP2cEwma = model_of("p2c_ewma")
TestMostRemaining = model_of("most_remaining")


@pytest.mark.parametrize("name", PICKERS)
def test_a_long_walk_agrees_with_the_model(name: str) -> None:
    """Heaps fill with dead entries and are swept; the answers stay the same."""
    dice = Random(7)
    world = World(name, 12)
    for step in range(2500):
        world.draw = dice.random()
        candidate = dice.choice(world.candidates)
        what = dice.random()
        if what < 0.35:
            world.use(dice.choice([None, "a", "b"]), is_last=dice.random() < 0.2)
        elif what < 0.7 and world.uses:
            world.free(dice.choice(world.uses))
        elif what < 0.85:
            (world.go if candidate in world.ready else world.come)(candidate)
        elif what < 0.95:
            world.report(candidate, dice.choice([None, 3, 50]), dice.choice([None, 1, 40]))
        else:
            world.now += dice.random()
        if step % 5 == 0:
            world.check(dice.choice([None, "a", "b", "c"]))
