from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import inf
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from penstock import CooldownResource, TryAgain
from penstock.pools.candidate import Candidate, Standing
from penstock.pools.lane import Lane
from penstock.pools.lease import Lease
from penstock.pools.machine import PoolMachine
from penstock.pools.news import Change
from penstock.pools.options import PICKS, PoolOptions
from penstock.pools.picking import Picker, picker_of
from penstock.pools.resource import Resource
from penstock.pools.stats import snapshot_of, stats_of
from penstock.stages.rotation.machine import RotationMachine
from penstock.verdict import Verdict, VerdictKind
from penstock.waitlist import Waiter, WaiterState

READY, FULL, PROBING, COOLING, AWAY, DISABLED = Standing

T = TypeVar("T")

MAX_COOLDOWN = 40.0
IDS = ("a", "b", "c", "d", "e")
DIMENSIONS = (None, "red", "blue")
WAYS = ("cool", "again", "displaced", "cancelled")
SIGNALS = ("cool", "disable", "report")

times = st.sampled_from([0.0, 1.0, 3.0, 10.0, 30.0, 100.0])
hints = st.one_of(st.none(), times)
places = st.integers(0, 999)
keys = st.sampled_from([None, "k1", "k2"])
patiences = st.sampled_from([200.0, 20.0, 2.0, 0.0])
caps = st.sampled_from([1, 2, None, 3])
groups = st.sampled_from([None, None, "x", "y"])


def chosen(items: Sequence[T], which: int) -> T:
    """Return one of them; plain numbers let a rule be called without Hypothesis, too."""
    return items[which % len(items)]


# A naive model: every question is answered by looking at everybody.


@dataclass(eq=False, repr=False)
class Use:
    """One lease."""

    lease: Lease
    spot: Spot
    is_displaced: bool = False


@dataclass(eq=False, repr=False)
class Spot:
    """One resource in one lane."""

    who: Entry
    lane: Lane
    level: int = 0
    cooled_at: int = 0
    until: float | None = None
    on_probation: bool = False
    probe: Use | None = None


@dataclass(eq=False, repr=False)
class Entry:
    """One resource."""

    id: str
    cap: int | None
    group: str | None
    disabled: str | None = None
    enabled_at: int = 0
    is_removed: bool = False
    spots: dict[Lane, Spot] = field(default_factory=dict)


@dataclass(eq=False, repr=False)
class Place:
    """One place in line."""

    waiter: Waiter
    lane: Lane
    limit: float
    priority: int
    number: int
    takes: bool

    @property
    def turn(self) -> tuple[int, int]:
        """Who comes first."""
        return -self.priority, self.number


@dataclass
class Books:
    """What has been counted, of the whole pool."""

    uses: int = 0
    successes: int = 0
    failures: int = 0
    cancelled: int = 0
    displaced: int = 0
    cooldowns: int = 0
    disables: int = 0


class Model:
    """Who can serve, who waits, and what has happened."""

    def __init__(self, options: PoolOptions) -> None:
        self.options = options
        self.lanes: list[Lane] = []
        self.members: dict[str, Entry] = {}
        self.uses: dict[Lease, Use] = {}
        self.line: dict[Waiter, Place] = {}
        self.books = Books()
        self.serial = 0
        self.victims: set[Lease] = set()

    # --- looking

    def in_flight(self, name: str) -> int:
        """Count what the service behind an id sees: uses of removed namesakes too."""
        return sum(use.spot.who.id == name for use in self.uses.values())

    def standing(self, spot: Spot) -> Standing:
        """Say whether it can serve."""
        who = spot.who
        if who.is_removed or who.disabled is not None:
            return DISABLED
        if spot.until is not None:
            return COOLING
        is_probing = spot.probe is not None and spot.probe.lease in self.uses
        at_cap = who.cap is not None and self.in_flight(who.id) >= who.cap
        if at_cap:
            return FULL
        return PROBING if spot.on_probation and is_probing else READY

    def spots(self, lane: Lane, *standings: Standing) -> list[Spot]:
        """Return those of a lane that stand so."""
        everybody = [who.spots[lane] for who in self.members.values()]
        return [spot for spot in everybody if self.standing(spot) in (standings or Standing)]

    def is_shut(self, lane: Lane) -> bool:
        """Say whether nobody can serve before a rest or a probe ends."""
        return not self.spots(lane, READY, FULL)

    def hope(self, lane: Lane) -> float:
        """Return when somebody may serve, ``inf`` for never."""
        if self.spots(lane, READY, FULL, PROBING):
            return 0.0
        return min((s.until or 0.0 for s in self.spots(lane, COOLING)), default=inf)

    def queue(self, lane: Lane, *, takes: bool) -> list[Place]:
        """Return who waits, in the order of their turns."""
        found = [p for p in self.line.values() if p.lane is lane and p.takes == takes]
        return sorted(found, key=lambda place: place.turn)

    def next_wake(self) -> float | None:
        """Return when somebody has to be looked after."""
        lanes = {place.lane for place in self.line.values()}
        returns = (s.until for lane in lanes for s in self.spots(lane, COOLING))
        limits = (place.limit for place in self.line.values())
        return min((at for at in chain(limits, returns) if at is not None), default=None)

    # --- what happens

    def join(self, who: Entry) -> None:
        """Take a resource in."""
        self.members[who.id] = who
        who.spots = {lane: Spot(who, lane) for lane in self.lanes}

    def open(self, lane: Lane) -> None:
        """Make a lane."""
        self.lanes.append(lane)
        for who in self.members.values():
            who.spots[lane] = Spot(who, lane)

    def begin(self, lease: Lease, lane: Lane) -> None:
        """Begin a use; only of somebody who is ready."""
        self.serial += 1
        assert lease.serial == self.serial
        spot = self.members[lease.resource.id or ""].spots[lane]
        assert self.standing(spot) is READY
        use = self.uses[lease] = Use(lease, spot)
        self.books.uses += 1
        if spot.on_probation:
            spot.probe = use

    def expire(self, lane: Lane, now: float) -> None:
        """End the rests that are over."""
        for spot in self.spots(lane, COOLING):
            if spot.until is not None and spot.until <= now:
                spot.until = None
                spot.on_probation = self.options.probe_on_recovery and spot.level > 0

    def heal(self, use: Use) -> None:
        """Take a success as evidence."""
        spot = use.spot
        if use.lease.serial > spot.cooled_at and spot.until is None:
            spot.level, spot.on_probation, spot.probe = 0, False, None

    def mates(self, spot: Spot) -> list[Spot]:
        """Return who shares its fate."""
        group = spot.who.group
        mates = [s for s in self.spots(spot.lane) if group is not None and s.who.group == group]
        return mates if spot in mates else [spot, *mates]

    def cool(self, use: Use, now: float, seconds: float | None, *, is_soft: bool) -> None:
        """Send a use's resource and its group to rest."""
        mates = self.mates(use.spot)
        able = self.spots(use.spot.lane, READY, FULL, PROBING)
        if is_soft and len([s for s in able if s not in mates]) < self.options.min_ready:
            return
        for spot in mates:
            if not spot.who.is_removed and spot.who.disabled is None:
                self._cool(spot, use, now, seconds)

    def _cool(self, spot: Spot, use: Use, now: float, seconds: float | None) -> None:
        table = self.options.cooldown
        is_news = use.lease.serial > spot.cooled_at
        if is_news:
            spot.level += 1
            spot.cooled_at = self.serial
            seconds = table[min(spot.level, len(table)) - 1] if seconds is None else seconds
            self.displace([spot], use)
        if seconds is not None:
            self.rest(spot, now + seconds)

    def rest(self, spot: Spot, until: float) -> None:
        """Rest until then, if that is longer than it rests anyway."""
        if spot.until is None or spot.until < until:
            spot.until = until
            self.books.cooldowns += 1

    def disable(self, who: Entry, reason: str) -> None:
        """Take a resource out, unless it is."""
        if who.disabled is None and not who.is_removed:
            who.disabled = reason
            self.books.disables += 1

    def refuse(self, use: Use, reason: str, *, with_group: bool) -> None:
        """Take a use's resource out, and maybe its group."""
        for spot in self.mates(use.spot) if with_group else [use.spot]:
            if use.lease.serial > spot.who.enabled_at:
                self.disable(spot.who, reason)
                self.displace(spot.who.spots.values(), use)

    def displace(self, spots: Any, culprit: Use) -> None:
        """Expect that the younger uses are told to end."""
        if self.options.cancel_younger:
            spots = [*spots]
            for lease, use in self.uses.items():
                is_younger = lease.serial > culprit.lease.serial
                if use.spot in spots and is_younger and not use.is_displaced:
                    use.is_displaced = True
                    self.victims.add(lease)


def held_by(picker: Picker) -> Iterator[Candidate]:
    """Return whom a picker knows, each as often as it knows them."""
    for name in ("_ready", "_ring"):
        held = getattr(picker, name, None)
        if isinstance(held, dict):
            return iter(held.values() if name == "_ready" else held)
        if isinstance(held, list):
            return iter(held)
    return held_by(picker._any)  # type: ignore[attr-defined] - sticky keeps a picker of its own


# What each step needs.


def somebody_waits(rules: PoolRules) -> bool:
    """Leave the line."""
    return bool(rules.model.line)


def something_runs(rules: PoolRules) -> bool:
    """End or fail."""
    return bool(rules.model.uses)


def something_was_granted(rules: PoolRules) -> bool:
    """Leave too late."""
    return bool(rules.granted)


def something_began(rules: PoolRules) -> bool:
    """Signal."""
    return bool(rules.model.uses or rules.ended)


def something_ended(rules: PoolRules) -> bool:
    """Give back twice."""
    return bool(rules.ended)


def an_id_is_free(rules: PoolRules) -> bool:
    """Add."""
    return bool(len(rules.model.members) < len(IDS))


def somebody_is_there(rules: PoolRules) -> bool:
    """Administer."""
    return bool(rules.model.members)


def a_lane_is_missing(rules: PoolRules) -> bool:
    """Open a lane."""
    return bool(len(rules.model.lanes) < len(DIMENSIONS))


def nothing(rules: PoolRules) -> bool:
    """Do what is always possible."""
    return True


class PoolRules(RuleBasedStateMachine):
    """The machine against the model, whoever comes, fails, waits, leaves or administers."""

    @initialize(
        pick=st.sampled_from(PICKS),
        table=st.lists(times, min_size=1, max_size=3),
        flags=st.tuples(st.booleans(), st.booleans(), st.integers(0, 2)),
        lanes=st.integers(1, 3),
        members=st.lists(st.tuples(caps, groups), min_size=1, max_size=4),
    )
    def begin(
        self,
        pick: str,
        table: list[float],
        flags: tuple[bool, bool, int],
        lanes: int,
        members: list[tuple[int | None, str | None]],
    ) -> None:
        options = PoolOptions(
            pick=pick,
            cooldown=tuple(table),
            probe_on_recovery=flags[0],
            cancel_younger=flags[1],
            min_ready=flags[2],
        )
        self.now = 100.0
        self.machine = PoolMachine(None, options, picker_of(pick, lambda: 0.4))
        self.outcomes = RotationMachine(self.machine, MAX_COOLDOWN, 5.0)
        self.model = Model(options)
        self.expiring: tuple[Lane, ...] = ()
        self.parked = self.changes = 0
        self.granted: list[Lease] = []
        self.ended: list[Use] = []
        self.told: set[Waiter] = set()
        self.last: dict[str, int] = {}
        for dimension in DIMENSIONS[:lanes]:
            self.model.open(self.machine.lane_for(dimension))
        for name, (cap, group) in zip(IDS, members, strict=False):
            self._add(name, cap, group)

    # --- callers

    @rule(
        which=places,
        callers=st.integers(1, 4),
        key=keys,
        patience=patiences,
        priority=st.integers(-1, 1),
    )
    def take_or_wait(
        self, which: int, callers: int, key: str | None, patience: float, *, priority: int
    ) -> None:
        lane = chosen(self.model.lanes, which)
        for _ in range(callers):
            self._expire(lane)
            lease = self.machine.take(lane, key, self.now)
            self.settle()
            if self.model.spots(lane, READY):
                assert lease is not None
                assert lease.began == self.now
                self.model.begin(lease, lane)
            else:
                assert lease is None
                self._park(lane, self.now + patience, key, priority, takes=True)

    @rule(which=places, patience=patiences, priority=st.integers(-1, 1))
    def wait_at_the_gate(self, which: int, patience: float, priority: int) -> None:
        lane = chosen(self.model.lanes, which)
        self._expire(lane)
        self.machine.expire(lane, self.now)
        self.settle()
        if lane.is_shut:
            self._park(lane, self.now + patience, None, priority, takes=False)

    @precondition(somebody_waits)
    @rule(which=places)
    def leave_the_line(self, which: int) -> None:
        place = chosen([*self.model.line.values()], which)
        assert place.lane.abandon(place.waiter) is True
        del self.model.line[place.waiter]
        self.settle()

    @precondition(something_runs)
    @rule(which=places, kind=st.sampled_from(VerdictKind), hint=hints, sent=st.booleans())
    def end(self, which: int, kind: VerdictKind, hint: float | None, sent: bool) -> None:
        use = chosen([*self.model.uses.values()], which)
        if kind is VerdictKind.OK:
            self.outcomes.succeed(use.lease, self.now)
            self.model.heal(use)
            self.model.books.successes += 1
        else:
            failure = RuntimeError()
            verdict = Verdict(kind, retry_after=hint, reason="bad", sent=sent)
            self.outcomes.fail(use.lease, failure, verdict, self.now)
            capped = None if hint is None else min(hint, MAX_COOLDOWN)
            self._failed(use, verdict, capped)
        self.settle()
        self._give_back(use)

    @precondition(something_runs)
    @rule(which=places, way=st.sampled_from(WAYS), at=hints)
    def end_otherwise(self, which: int, way: str, at: float | None) -> None:
        use = chosen([*self.model.uses.values()], which)
        books, counts = self.model.books, use.lease.candidate.member.counts
        if way == "cool":
            # What the user's own code asks for is not capped.
            verdict = Verdict(VerdictKind.RATE_LIMITED, retry_after=at, reason="own")
            self.outcomes.fail(use.lease, CooldownResource(at), verdict, self.now)
            self._failed(use, verdict, at)
        elif way == "again":
            verdict = Verdict(VerdictKind.TRANSIENT, retry_after=at)
            self.outcomes.fail(use.lease, TryAgain(after=at), verdict, self.now)
            books.failures += 1
        elif way == "displaced":
            counts.displaced += 1
            books.displaced += 1
        else:
            # Also what becomes of a waiter that is cancelled in the step of its grant.
            counts.cancelled += 1
            books.cancelled += 1
        self.settle()
        self._give_back(use)

    @precondition(something_was_granted)
    @rule(which=places)
    def leave_too_late(self, which: int) -> None:
        lease = self.granted.pop(which % len(self.granted))
        waiter = next(w for w in self.told if w.held is lease)
        assert lease.candidate.lane.abandon(waiter) is False
        if lease in self.model.uses:
            lease.candidate.member.counts.cancelled += 1
            self.model.books.cancelled += 1
            self._give_back(self.model.uses[lease])

    @precondition(something_began)
    @rule(which=places, how=st.sampled_from(SIGNALS), at=hints)
    def signal(self, which: int, how: str, at: float | None) -> None:
        use = chosen([*self.model.uses.values(), *self.ended[-3:]], which)
        if how == "cool":
            self.machine.cool(use.lease, self.now, at, "said")
            self.model.cool(use, self.now, at, is_soft=False)
        elif how == "disable":
            self.machine.disable(use.lease, self.now, "said", with_group=False)
            self.model.refuse(use, "said", with_group=False)
        else:
            remaining = chosen([0.0, 0.5, 1.0, 7.0], which // 7)
            self.machine.report(use.lease, self.now, remaining, at)
            if remaining < 1 and at:
                for spot in self.model.mates(use.spot):
                    if not spot.who.is_removed and spot.who.disabled is None:
                        self.model.rest(spot, self.now + at)
        self.settle()

    @precondition(something_ended)
    @rule(which=places)
    def give_back_again(self, which: int) -> None:
        use = chosen(self.ended, which)
        self.machine.give_back(use.lease, self.now)
        self.settle()

    # --- administrators

    @precondition(an_id_is_free)
    @rule(which=places, cap=caps, group=groups)
    def add(self, which: int, cap: int | None, group: str | None) -> None:
        name = chosen([n for n in IDS if n not in self.model.members], which)
        self._add(name, cap, group)
        self.settle()

    @precondition(somebody_is_there)
    @rule(which=places)
    def remove(self, which: int) -> None:
        who = self._anybody(which)
        self.machine.remove(self.machine.members[who.id], self.now)
        del self.model.members[who.id]
        who.is_removed = True
        self.settle()

    @precondition(somebody_is_there)
    @rule(which=places)
    def enable(self, which: int) -> None:
        who = self._anybody(which)
        self.machine.enable(self.machine.members[who.id], self.now, "by hand")
        who.disabled, who.enabled_at = None, self.model.serial
        for spot in who.spots.values():
            spot.level, spot.cooled_at, spot.until = 0, self.model.serial, None
            spot.on_probation, spot.probe = False, None
        self.settle()

    @precondition(somebody_is_there)
    @rule(which=places)
    def disable(self, which: int) -> None:
        who = self._anybody(which)
        self.machine.disable_member(self.machine.members[who.id], self.now, "by hand")
        self.model.disable(who, "by hand")
        self.settle()

    @precondition(somebody_is_there)
    @rule(which=places, cap=caps)
    def resize(self, which: int, cap: int | None) -> None:
        who = self._anybody(which)
        self.machine.resize(self.machine.members[who.id], cap, self.now)
        who.cap = cap
        self.settle()

    @precondition(a_lane_is_missing)
    @rule()
    def open_a_lane(self) -> None:
        self.model.open(self.machine.lane_for(DIMENSIONS[len(self.model.lanes)]))
        self.settle()

    # --- time

    @rule(seconds=times, is_late=st.booleans())
    def time_passes(self, seconds: float, is_late: bool) -> None:
        until = self.now + seconds
        while True:
            wake = self.machine.next_wake()
            assert wake == self.model.next_wake()
            if wake is None or wake > until:
                break
            self.now = until if is_late else max(self.now, wake)
            for lane in self.model.lanes:
                self._expire(lane)
                self.machine.expire(lane, self.now)
                self.settle()
        self.now = until

    @rule()
    def lose_the_loop(self) -> None:
        self.machine.forfeit()
        lost, places = [*self.model.uses.values()], [*self.model.line]
        self.model.books.cancelled += len(lost)
        self.ended += lost
        self.model.uses.clear()
        self.model.line.clear()
        self.told.update(places)
        assert all(waiter.state is WaiterState.ABANDONED for waiter in places)
        self.settle()

    # --- how it is done

    def _anybody(self, which: int) -> Entry:
        return chosen([*self.model.members.values()], which)

    def _add(self, name: str, cap: int | None, group: str | None) -> None:
        made = Resource("secret", name, max_in_flight=cap, group=group)
        self.machine.add(made, self.now)
        self.model.join(Entry(name, cap, group))

    def _park(
        self, lane: Lane, limit: float, key: str | None, priority: int, *, takes: bool
    ) -> None:
        if max(self.model.hope(lane), self.now) >= limit:
            return
        waiter = self.machine.park(lane, limit, key=key, priority=priority, takes=takes)
        self.parked += 1
        self.model.line[waiter] = Place(waiter, lane, limit, priority, self.parked, takes)

    def _expire(self, lane: Lane) -> None:
        self.expiring = (lane,)
        self.model.expire(lane, self.now)

    def _failed(self, use: Use, verdict: Verdict, hint: float | None) -> None:
        kind, model = verdict.kind, self.model
        if kind is VerdictKind.CANCELLED:
            model.books.cancelled += 1
            return
        model.books.failures += 1
        if kind in (VerdictKind.CALLER_BUG, VerdictKind.UNKNOWN):
            model.heal(use)
        elif kind is VerdictKind.RATE_LIMITED and verdict.sent:
            model.cool(use, self.now, hint, is_soft=False)
        elif kind is VerdictKind.AUTH:
            model.refuse(use, "bad", with_group=False)
        elif kind is VerdictKind.QUOTA_EXHAUSTED and hint is None:
            model.refuse(use, "bad", with_group=True)
        elif kind is VerdictKind.QUOTA_EXHAUSTED:
            model.cool(use, self.now, hint, is_soft=False)
        elif kind is not VerdictKind.RATE_LIMITED and hint is not None:
            model.cool(use, self.now, hint, is_soft=True)

    def _give_back(self, use: Use) -> None:
        self.machine.give_back(use.lease, self.now)
        del self.model.uses[use.lease]
        self.ended.append(use)
        self.settle(is_one_slot=True)

    def settle(self, *, is_one_slot: bool = False) -> None:
        """Hold the news against the model, one after the other."""
        news, self.machine.news = self.machine.news, []
        cancelled = [item for item in news if isinstance(item, Lease)]
        assert len(cancelled) == len(set(cancelled))
        assert set(cancelled) == self.model.victims
        self.model.victims = set()
        for item in news:
            if isinstance(item, Waiter):
                self._tell(item, is_one_slot=is_one_slot)
            elif isinstance(item, Change):
                self.changes += 1
                assert item.seq == self.changes
        self.expiring = ()
        self._check_after_each_step()

    def _tell(self, waiter: Waiter, *, is_one_slot: bool) -> None:
        assert waiter not in self.told
        self.told.add(waiter)
        place, lane = self.model.line[waiter], self.model.line[waiter].lane
        if waiter.state is WaiterState.ABANDONED:
            is_late = lane in self.expiring and place.limit <= self.now
            assert is_late or (self.model.is_shut(lane) and place.limit <= self.model.hope(lane))
        elif place.takes:
            assert place is self.model.queue(lane, takes=True)[0]
            if is_one_slot:
                self._check_turn(place)
            assert waiter.held.began == self.now
            self.model.begin(waiter.held, lane)
            self.granted.append(waiter.held)
        else:
            assert waiter.held is None
        del self.model.line[waiter]

    def _check_turn(self, place: Place) -> None:
        who = self.model.members[place.waiter.held.resource.id]
        for lane, spot in who.spots.items():
            for other in self.model.queue(lane, takes=True)[:1]:
                assert self.model.standing(spot) is not READY or place.turn <= other.turn

    def _check_after_each_step(self) -> None:
        for place in self.model.line.values():
            assert place.waiter.state is WaiterState.PARKED
            if self.model.is_shut(place.lane):
                assert place.limit > self.model.hope(place.lane)
            elif place.takes:
                assert not self.model.spots(place.lane, READY)
            else:
                raise AssertionError("the gate is open, and somebody stands before it")

    # --- what always holds

    @invariant()
    def candidates_are_as_in_the_model(self) -> None:
        for who in self.model.members.values():
            member = self.machine.members[who.id]
            assert (member.disabled, member.cap) == (who.disabled, who.cap)
            assert member.in_flight == self.model.in_flight(who.id)
            for lane, spot in who.spots.items():
                own = lane.candidates[who.id]
                assert own.standing is self.model.standing(spot)
                assert (own.level, own.cooling_until) == (spot.level, spot.until)
                assert own.recovering == spot.on_probation
                assert own.in_flight == len(own.leases)
                assert {*own.leases.values()} == {
                    lease for lease, use in self.model.uses.items() if use.spot is spot
                }

    @invariant()
    def lanes_are_as_in_the_model(self) -> None:
        assert self.machine.is_shut == any(map(self.model.is_shut, self.model.lanes))
        for lane in self.model.lanes:
            ready = {spot.who.id for spot in self.model.spots(lane, READY)}
            held = [candidate.id for candidate in held_by(lane.picker)]
            assert sorted(held) == sorted(ready)
            assert lane.counts == {s: len(self.model.spots(lane, s)) for s in Standing}
            assert {*lane.candidates} == {*self.model.members}
            assert lane.is_shut == self.model.is_shut(lane)
            hope = lane.hope()
            assert (inf if hope is None else hope) == self.model.hope(lane)
            assert len(lane.cooling) <= 64 + 2 * len(lane.candidates)
            assert len(lane._limits) <= 64 + 2 * len(self.model.line)

    @invariant()
    def lines_are_as_in_the_model(self) -> None:
        assert self.machine.queued == len(self.model.line)
        for lane in self.model.lanes:
            for takes, line in ((True, lane.waiting), (False, lane.at_gate)):
                places = self.model.queue(lane, takes=takes)
                assert [*line] == [place.waiter for place in places]

    @invariant()
    def health_is_as_in_the_model(self) -> None:
        for lane in self.model.lanes:
            health, hope = lane.health(self.now), self.model.hope(lane)
            assert health.ready == len(self.model.spots(lane, READY))
            assert health.total == len(self.model.members)
            expected = None if hope == inf else max(0.0, hope - self.now) if hope else 0.0
            assert health.earliest_ready_in == expected

    @invariant()
    def the_books_balance(self) -> None:
        books = self.model.books
        uses, counts = self.machine.totals()
        assert self.machine.unfinished() == len(self.model.uses)
        assert uses == books.uses
        names = ("failures", "cancelled", "displaced", "cooldowns", "disables")
        assert {n: getattr(counts, n) for n in names} == {n: getattr(books, n) for n in names}
        told = stats_of(self.machine, self.now)
        assert told.successes == books.successes
        ended = told.successes + told.failures + told.cancelled + told.displaced
        assert told.uses == ended + self.machine.unfinished()

    @invariant()
    def counters_never_go_back(self) -> None:
        now = self._counters()
        before = {name: count for name, count in self.last.items() if name in now}
        assert all(now[name] >= count for name, count in before.items())
        self.last = now

    def _counters(self) -> dict[str, int]:
        told = stats_of(self.machine, self.now)
        names = [*Books.__dataclass_fields__]
        counters = {name: getattr(told, name) for name in names}
        shown = snapshot_of(self.machine, "pool", self.now)["resources"]
        for one in told.resources:
            order = self.machine.members[one.id].order
            counters |= {f"{one.id} {order} {name}": getattr(one, name) for name in names}
            counters[f"{one.id} {order} shown"] = shown[one.id]["uses"]
        return counters


TestPoolRules = PoolRules.TestCase
TestPoolRules.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# Long walks, where Hypothesis looks for short ones: queues of many, rests upon rests.

DRAWS: dict[str, Callable[[Random], Any]] = {
    "which": lambda lot: lot.randrange(1000),
    "callers": lambda lot: lot.randint(1, 4),
    "key": lambda lot: lot.choice([None, "k1", "k2"]),
    "patience": lambda lot: lot.choice([2.0, 20.0, 200.0, 200.0]),
    "priority": lambda lot: lot.choice([-1, 0, 0, 0, 1]),
    "kind": lambda lot: lot.choice([*VerdictKind, *[VerdictKind.OK] * 5]),
    "hint": lambda lot: lot.choice([None, None, 0.0, 1.0, 3.0, 10.0, 100.0]),
    "at": lambda lot: lot.choice([None, 0.0, 1.0, 3.0, 10.0, 100.0]),
    "sent": lambda lot: lot.random() < 0.8,
    "way": lambda lot: lot.choice(WAYS),
    "how": lambda lot: lot.choice(SIGNALS),
    "cap": lambda lot: lot.choice([1, 2, 3, None]),
    "group": lambda lot: lot.choice([None, None, "x", "y"]),
    "seconds": lambda lot: lot.choice([0.0, 1.0, 3.0, 10.0]),
    "is_late": lambda lot: lot.random() < 0.3,
}

INVARIANTS: tuple[Callable[[PoolRules], None], ...] = (
    PoolRules.candidates_are_as_in_the_model,
    PoolRules.lanes_are_as_in_the_model,
    PoolRules.lines_are_as_in_the_model,
    PoolRules.health_is_as_in_the_model,
    PoolRules.the_books_balance,
    PoolRules.counters_never_go_back,
)

# How often, what, where, with what.
STEPS: tuple[tuple[int, Callable[..., None], Callable[[PoolRules], bool], str], ...] = (
    (30, PoolRules.take_or_wait, nothing, "which callers key patience priority"),
    (4, PoolRules.wait_at_the_gate, nothing, "which patience priority"),
    (4, PoolRules.leave_the_line, somebody_waits, "which"),
    (40, PoolRules.end, something_runs, "which kind hint sent"),
    (6, PoolRules.end_otherwise, something_runs, "which way at"),
    (2, PoolRules.leave_too_late, something_was_granted, "which"),
    (4, PoolRules.signal, something_began, "which how at"),
    (1, PoolRules.give_back_again, something_ended, "which"),
    (6, PoolRules.add, an_id_is_free, "which cap group"),
    (3, PoolRules.remove, somebody_is_there, "which"),
    (8, PoolRules.enable, somebody_is_there, "which"),
    (2, PoolRules.disable, somebody_is_there, "which"),
    (3, PoolRules.resize, somebody_is_there, "which cap"),
    (1, PoolRules.open_a_lane, a_lane_is_missing, ""),
    (20, PoolRules.time_passes, nothing, "seconds is_late"),
    (1, PoolRules.lose_the_loop, nothing, ""),
)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("pick", PICKS)
def test_long_walks_keep_to_the_model(pick: str, seed: int) -> None:
    """Four hundred steps in a row, with each picker."""
    lot, rules = Random(f"{pick} {seed}"), PoolRules()
    flags = (lot.random() < 0.7, lot.random() < 0.7, lot.randint(0, 2))
    rules.begin(pick, [3.0, 10.0, 30.0], flags, lot.randint(1, 3), [(1, "x"), (2, "x"), (2, None)])

    for _ in range(400):
        possible = [step for step in STEPS if step[2](rules)]
        _, step, _, names = lot.choices(possible, [step[0] for step in possible])[0]
        step(rules, **{name: DRAWS[name](lot) for name in names.split()})
        for check in INVARIANTS:
            check(rules)
