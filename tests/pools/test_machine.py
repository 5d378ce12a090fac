from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from penstock.pools.candidate import Candidate, Member, Standing
from penstock.pools.lane import Ask, Lane
from penstock.pools.lease import Lease
from penstock.pools.machine import PoolMachine
from penstock.pools.news import Change
from penstock.pools.options import PICKS, PoolOptions
from penstock.pools.picking import picker_of
from penstock.pools.resource import Resource
from penstock.pools.stats import snapshot_of, stats_of
from penstock.waitlist import Waiter, WaiterState

READY, FULL, PROBING, COOLING, AWAY, DISABLED = Standing


def resource(name: str, cap: int | None = None, group: str | None = None) -> Resource[str]:
    """Return a resource with a value that no test looks at."""
    return Resource("secret", name, max_in_flight=cap, group=group)


def pool(*resources: Resource[str], **options: Any) -> PoolMachine:
    """Return a machine over them, whose lots fall in the middle."""
    how = PoolOptions(**options)
    machine = PoolMachine(None, how, picker_of(how.pick, lambda: 0.5))
    for one in resources:
        machine.add(one, 0.0)
    return machine


def take(machine: PoolMachine, now: float = 0.0, lane: Lane | None = None) -> Lease:
    """Lease whoever is ready."""
    lease = machine.take(lane or machine.main, None, now)
    assert lease is not None
    return lease


def park(
    machine: PoolMachine,
    limit: float = 1000.0,
    *,
    lane: Lane | None = None,
    priority: int = 0,
    takes: bool = True,
) -> Waiter:
    """Stand in line."""
    return machine.park(lane or machine.main, limit, priority=priority, takes=takes)


def seen(machine: PoolMachine, name: str, lane: Lane | None = None) -> Candidate:
    """Return what a resource is to a lane."""
    return (lane or machine.main).candidates[name]


def news_of(machine: PoolMachine) -> list[Any]:
    """Take the news."""
    news, machine.news = machine.news, []
    return news


def changes(machine: PoolMachine) -> list[tuple[str, str, str, str, float | None]]:
    """Take the news, and return what it says of standings."""
    return [
        (item.resource, item.old, item.new, item.reason, item.seconds)
        for item in news_of(machine)
        if isinstance(item, Change)
    ]


def waiters(machine: PoolMachine) -> list[Waiter]:
    """Take the news, and return whose waiting has ended."""
    return [item for item in news_of(machine) if isinstance(item, Waiter)]


def displaced(machine: PoolMachine) -> list[Lease]:
    """Take the news, and return whose attempts must end."""
    return [item for item in news_of(machine) if isinstance(item, Lease)]


def cool_down(machine: PoolMachine, now: float, seconds: float | None = None) -> Lease:
    """Take whoever serves next and let it fail."""
    lease = take(machine, now)
    machine.cool(lease, now, seconds, "429")
    machine.give_back(lease, now)
    return lease


# --- leases -----------------------------------------------------------------------------------


def test_a_lease_is_counted_until_it_is_given_back() -> None:
    """One use more, one use less; the total stays."""
    machine = pool(resource("a"))

    lease = take(machine, 5.0)
    held = (seen(machine, "a").in_flight, machine.members["a"].in_flight, machine.unfinished())
    machine.give_back(lease, 6.0)

    assert held == (1, 1, 1)
    assert (lease.serial, lease.began) == (1, 5.0)
    assert seen(machine, "a").in_flight == machine.members["a"].in_flight == 0
    assert machine.totals()[0] == 1


def test_a_lease_ends_once() -> None:
    """Giving back twice gives back once."""
    machine = pool(resource("a", cap=2))
    first, second = take(machine), take(machine)

    machine.give_back(first, 0.0)
    machine.give_back(first, 0.0)

    assert seen(machine, "a").in_flight == machine.members["a"].in_flight == 1
    assert second.is_active


def test_a_cap_is_never_exceeded() -> None:
    """At its cap a resource is full, whoever asks; one back makes it ready."""
    machine = pool(resource("a", cap=2))
    first, _ = take(machine), take(machine)

    refused = machine.take(machine.main, None, 0.0)
    was = seen(machine, "a").standing
    machine.give_back(first, 0.0)

    assert refused is None
    assert was is FULL
    assert seen(machine, "a").standing is READY


def test_serial_numbers_are_never_used_twice() -> None:
    """Over lanes and resources they count every lease."""
    machine = pool(resource("a"), resource("b"))
    other = machine.lane_for("other")

    serials = [take(machine, lane=lane).serial for lane in (machine.main, other, machine.main)]

    assert serials == [1, 2, 3]


def test_pickers_are_told_of_each_use() -> None:
    """Round robin takes turns."""
    machine = pool(*(resource(name, cap=2) for name in "abc"), pick="round_robin")

    turns = [take(machine).resource.id for _ in range(6)]

    assert turns == [*"abcabc"]


# --- waiting ----------------------------------------------------------------------------------


def test_a_slot_that_comes_free_is_handed_on_in_the_same_step() -> None:
    """Nobody who comes later can take it."""
    machine = pool(resource("a", cap=1))
    lease = take(machine)
    waiter = park(machine)

    machine.give_back(lease, 3.0)

    assert waiters(machine) == [waiter]
    assert waiter.state is WaiterState.GRANTED
    assert (waiter.held.resource.id, waiter.held.began) == ("a", 3.0)
    assert machine.take(machine.main, None, 3.0) is None


def test_waiters_are_served_by_priority_and_then_in_order() -> None:
    """The lane keeps the order of the wait list."""
    machine = pool(resource("a", cap=1))
    lease = take(machine)
    line = [park(machine, priority=priority) for priority in (0, 1, 0)]

    served: list[Waiter] = []
    for _ in line:
        machine.give_back(lease, 0.0)
        (waiter,) = waiters(machine)
        served.append(waiter)
        lease = waiter.held

    assert served == [line[1], line[0], line[2]]


def test_a_waiter_who_leaves_is_passed_over() -> None:
    """Whoever is cancelled while waiting takes nothing."""
    machine = pool(resource("a", cap=1))
    lease = take(machine)
    leaver, stayer = park(machine), park(machine)

    left = machine.main.abandon(leaver)
    machine.give_back(lease, 0.0)

    assert left is True
    assert waiters(machine) == [stayer]


def test_a_waiter_cancelled_in_the_step_of_its_grant_says_so() -> None:
    """It holds the lease, and giving that back serves the next one."""
    machine = pool(resource("a", cap=1))
    lease = take(machine)
    first, second = park(machine), park(machine)
    machine.give_back(lease, 0.0)

    left = machine.main.abandon(first)
    machine.give_back(first.held, 0.0)

    assert left is False
    assert waiters(machine) == [first, second]
    assert second.held.is_active


def test_the_end_of_a_rest_serves_one_waiter_as_the_probe() -> None:
    """The next one is served when the probe has come back well."""
    machine = pool(resource("a"))
    cool_down(machine, 0.0)
    first, second = park(machine), park(machine)

    machine.expire(machine.main, 30.0)
    after_rest = waiters(machine)
    machine.heal(first.held, 31.0)

    assert after_rest == [first]
    assert waiters(machine) == [second]


def test_a_probe_that_says_nothing_goes_back() -> None:
    """A cancelled probe neither heals nor cools: the next one tries."""
    machine = pool(resource("a"))
    cool_down(machine, 0.0)
    first, second = park(machine), park(machine)
    machine.expire(machine.main, 30.0)

    machine.give_back(first.held, 31.0)

    assert waiters(machine) == [first, second]
    assert seen(machine, "a").probe is second.held
    assert seen(machine, "a").recovering is True


def test_the_gate_opens_for_everybody_at_once() -> None:
    """Whoever waits until anybody can serve takes nothing, so all of them go."""
    machine = pool(resource("a", cap=1))
    cool_down(machine, 0.0)
    outside = [park(machine, takes=False) for _ in range(3)]
    inside = park(machine)

    machine.expire(machine.main, 30.0)

    assert waiters(machine) == [*outside, inside]
    assert [waiter.held for waiter in outside] == [None, None, None]


def test_the_gate_opens_where_the_rest_ends_at_the_cap() -> None:
    """In use is not shut: those at the gate go in and queue, as whoever comes now does."""
    machine = pool(resource("a", cap=2))
    first, _ = take(machine), take(machine)
    machine.cool(first, 0.0, 10.0, "429")
    waiter = park(machine, takes=False)
    machine.news.clear()

    machine.expire(machine.main, 10.0)

    assert machine.main.is_shut is False
    assert waiters(machine) == [waiter]


def test_waiting_that_has_become_vain_ends_at_once() -> None:
    """Whoever must be served before the earliest return is told when that is known."""
    machine = pool(resource("a", cap=1))
    lease = take(machine)
    short, long = park(machine, 10.0), park(machine, 60.0)

    machine.cool(lease, 0.0, 30.0, "429")

    assert waiters(machine) == [short]
    assert short.state is WaiterState.ABANDONED
    assert long.state is WaiterState.PARKED


def test_nobody_waits_for_the_disabled() -> None:
    """With nobody left who could come back, everybody is told."""
    machine = pool(resource("a", cap=1), resource("b", cap=1))
    take(machine), take(machine)
    line = [park(machine), park(machine, takes=False)]

    machine.disable_member(machine.members["a"], 0.0, "by hand")
    still = waiters(machine)
    machine.disable_member(machine.members["b"], 0.0, "by hand")

    assert still == []
    assert waiters(machine) == line


def test_nobody_waits_for_what_is_gone() -> None:
    """Removing the last resource sends everybody away."""
    machine = pool(resource("a", cap=1))
    take(machine)
    waiter = park(machine)

    machine.remove(machine.members["a"], 0.0)

    assert waiters(machine) == [waiter]
    assert machine.main.why_not(0.0) == "it has no resources"


def test_the_time_of_a_waiter_runs_out() -> None:
    """At its limit it is taken out, and nobody else."""
    machine = pool(resource("a", cap=1))
    take(machine)
    short, long = park(machine, 10.0), park(machine, 20.0)

    machine.expire(machine.main, 10.0)

    assert waiters(machine) == [short]
    assert long.state is WaiterState.PARKED


def test_the_next_wake_is_the_first_limit_or_return() -> None:
    """Nobody has to be looked after where nobody waits."""
    machine = pool(resource("a"), resource("b", cap=1), min_ready=0)
    cool_down(machine, 0.0)
    take(machine)
    idle = machine.next_wake()
    leaver = park(machine, 10.0)
    at_limit = machine.next_wake()
    machine.main.abandon(leaver)
    park(machine, 50.0)

    at_return = machine.next_wake()

    assert (idle, at_limit, at_return) == (None, 10.0, 30.0)


def test_what_comes_free_goes_to_the_lane_that_has_waited_longest() -> None:
    """One slot, two models: the earlier caller has it, whichever lane was made first."""
    machine = pool(resource("a", cap=1))
    red, blue = machine.lane_for("red"), machine.lane_for("blue")
    lease = take(machine, lane=red)
    early, late = park(machine, lane=blue), park(machine, lane=red)

    machine.give_back(lease, 0.0)
    first = waiters(machine)
    machine.give_back(early.held, 0.0)

    assert first == [early]
    assert waiters(machine) == [late]


def test_priority_goes_before_arrival_over_lanes_too() -> None:
    """An urgent call of another model is served first."""
    machine = pool(resource("a", cap=1))
    red, blue = machine.lane_for("red"), machine.lane_for("blue")
    lease = take(machine, lane=red)
    park(machine, lane=red)
    urgent = park(machine, lane=blue, priority=1)

    machine.give_back(lease, 0.0)

    assert waiters(machine) == [urgent]


def test_a_new_resource_serves_who_waits_as_of_now() -> None:
    """The lease begins when it is handed out: latencies are measured from there."""
    machine = pool(resource("a", cap=1))
    take(machine, 5.0)
    waiter = park(machine)

    machine.add(resource("b"), 7.0)

    assert waiters(machine) == [waiter]
    assert (waiter.held.resource.id, waiter.held.began) == ("b", 7.0)


# --- rests ------------------------------------------------------------------------------------


def test_a_rest_is_announced_from_beginning_to_end() -> None:
    """Each change has its number, its reason, and its seconds."""
    machine = pool(resource("a"))

    cool_down(machine, 0.0)
    take(machine, 30.0)

    assert [item.seq for item in machine.news if isinstance(item, Change)] == [1, 2]
    assert changes(machine) == [
        ("a", "ready", "cooling", "429", 30.0),
        ("a", "cooling", "ready", "probe", None),
    ]


def test_a_longer_rest_is_announced_as_such() -> None:
    """The same incident, a longer time: cooling as before."""
    machine = pool(resource("a"))
    first, second = take(machine), take(machine)
    machine.cool(first, 0.0, None, "429")

    machine.cool(second, 1.0, 60.0, "429")
    machine.cool(second, 2.0, 1.0, "429")

    assert changes(machine)[1:] == [("a", "cooling", "cooling", "429", 60.0)]
    assert seen(machine, "a").cooling_until == 61.0
    assert machine.members["a"].counts.cooldowns == 2


def test_a_resource_that_recovered_once_recovers_again() -> None:
    """The probe that healed it is over: the next recovery has a probe of its own."""
    machine = pool(resource("a"))
    cool_down(machine, 0.0)
    probe = take(machine, 30.0)
    machine.heal(probe, 31.0)
    machine.give_back(probe, 31.0)

    cool_down(machine, 40.0)
    again = machine.take(machine.main, None, 70.0)

    assert again is not None


def test_a_probe_under_way_holds_the_others_back() -> None:
    """A second rest that ends while the probe still runs does not let another in."""
    machine = pool(resource("a"))
    old = take(machine)
    cool_down(machine, 0.0)
    probe = take(machine, 30.0)

    machine.cool(old, 31.0, 5.0, "429")
    while_probing = machine.take(machine.main, None, 36.0)
    machine.give_back(probe, 37.0)

    assert while_probing is None
    assert take(machine, 38.0) is seen(machine, "a").probe


def test_several_uses_at_once_where_probes_are_off() -> None:
    """``probe_on_recovery=False`` brings a resource back in full."""
    machine = pool(resource("a"), probe_on_recovery=False)
    cool_down(machine, 0.0)

    leases = [machine.take(machine.main, None, 30.0) for _ in range(2)]

    assert None not in leases


def test_an_early_success_heals_nothing() -> None:
    """A use from before the cooldown ends well afterwards: the rest stands."""
    machine = pool(resource("a"))
    old = take(machine)
    cool_down(machine, 0.0)

    machine.heal(old, 1.0)

    assert seen(machine, "a").standing is COOLING
    assert seen(machine, "a").level == 1


def test_a_group_rests_together() -> None:
    """Keys of one account share its limit; others go on."""
    machine = pool(resource("a", group="x"), resource("b", group="x"), resource("c"))

    machine.cool(take(machine), 0.0, None, "429")

    assert [seen(machine, name).standing for name in "abc"] == [COOLING, COOLING, READY]
    assert [seen(machine, name).level for name in "abc"] == [1, 1, 0]


def test_a_group_can_be_named_by_the_pool() -> None:
    """``group=`` reads the group off a resource that names none; its own name wins."""
    machine = pool(
        resource("a1"), resource("a2"), resource("a3", group="own"), group=lambda r: (r.id or "")[0]
    )

    assert [member.group for member in machine.members.values()] == ["a", "a", "own"]


def test_a_removed_resource_still_speaks_for_its_group() -> None:
    """Its account is limited, whoever found out."""
    machine = pool(resource("a", group="x"), resource("b", group="x"))
    lease = take(machine)
    machine.remove(machine.members["a"], 0.0)
    machine.news.clear()

    machine.cool(lease, 0.0, None, "429")

    assert changes(machine) == [("b", "ready", "cooling", "429", 30.0)]
    assert lease.candidate.cooling_until is None


def test_a_disabled_resource_does_not_rest_as_well() -> None:
    """It is out already; enabling it brings it back at once."""
    machine = pool(resource("a"))
    lease = take(machine)
    machine.disable_member(machine.members["a"], 0.0, "by hand")

    machine.cool(lease, 0.0, None, "429")
    machine.report(lease, 0.0, 0.0, 60.0)

    assert seen(machine, "a").cooling_until is None


def test_a_soft_failure_leaves_min_ready_resources() -> None:
    """A bad hour of the service takes all but one, or as many as are asked for."""
    machine = pool(resource("a"), resource("b"), resource("c"), min_ready=2)

    for _ in range(5):
        machine.cool(take(machine), 0.0, 9.0, "503", is_soft=True)

    assert machine.main.counts[READY] == 2


def test_a_soft_failure_may_make_the_rest_of_one_longer_that_serves_nobody_now() -> None:
    """It was counted out before, and is not counted again."""
    machine = pool(resource("a"), resource("b"))
    first, _, third = take(machine), take(machine), take(machine)
    machine.cool(first, 0.0, 9.0, "503", is_soft=True)

    machine.cool(third, 0.0, 20.0, "503", is_soft=True)

    assert seen(machine, "a").cooling_until == 20.0


def test_a_soft_failure_spares_a_group_that_is_all_there_is() -> None:
    """A group rests together, so all of it has to be spared."""
    machine = pool(*(resource(name, group="x") for name in "abc"))

    machine.cool(take(machine), 0.0, 9.0, "503", is_soft=True)

    assert machine.main.counts[READY] == 3


def test_each_dimension_rests_by_itself() -> None:
    """Rate limited for one model, ready for the other."""
    machine = pool(resource("a"))
    red, blue = machine.lane_for("red"), machine.lane_for("blue")

    machine.cool(take(machine, lane=red), 0.0, None, "429")

    (change,) = news_of(machine)
    assert change.dimension == "red"
    assert (red.is_shut, blue.is_shut) == (True, False)
    assert take(machine, lane=blue).resource.id == "a"


def test_the_heap_of_rests_stays_in_proportion() -> None:
    """Rests that were made longer, called off or removed leave nothing behind for hours."""
    machine = pool(resource("a"), resource("b"))
    lease = take(machine)

    for second in range(5000):
        machine.cool(lease, 0.0, 3600.0 + second, "429")
        machine.add(resource("proxy"), 0.0)
        seen(machine, "proxy").last_used = 0
        proxy = Lease(None, seen(machine, "proxy"), machine.serial, 0.0)
        machine.cool(proxy, 0.0, 86400.0, "429")
        machine.remove(machine.members["proxy"], 0.0)
        machine.news.clear()

    assert len(machine.main.cooling) <= 100
    assert machine.main.next_return() == 3600.0 + 4999


def test_the_heap_of_limits_stays_in_proportion() -> None:
    """Waiters that were served long before their limit do not pile up."""
    machine = pool(resource("a", cap=1))
    lease = take(machine)
    first_to_go = park(machine, 1.0)

    for _ in range(5000):
        waiter = park(machine, 9999.0)
        machine.main.abandon(waiter)

    assert len(machine.main._limits) <= 100
    assert machine.next_wake() == 1.0
    machine.give_back(lease, 0.0)
    assert waiters(machine) == [first_to_go]


def test_rests_end_in_their_order_after_the_heap_was_cleared_out() -> None:
    """The one that is back first comes first, however late it joined."""
    machine = pool(*(resource(name) for name in "abc"))
    leases = [take(machine) for _ in "abc"]
    for lease, seconds in zip(leases, (300.0, 200.0, 100.0), strict=True):
        machine.cool(lease, 0.0, seconds, "429")

    for more in range(100):
        machine.cool(leases[0], 0.0, 301.0 + more, "429")
    returns: list[float | None] = []
    while (at := machine.main.next_return()) is not None:
        returns.append(at)
        machine.expire(machine.main, at)

    assert returns == [100.0, 200.0, 400.0]


def test_limits_come_in_their_order_after_the_heap_was_cleared_out() -> None:
    """Whose time is up first is told first, however late they came."""
    machine = pool(resource("a", cap=1))
    take(machine)
    line = [park(machine, limit) for limit in (30.0, 10.0, 40.0, 20.0)]

    for _ in range(100):
        machine.main.abandon(park(machine, 5.0))
    wakes: list[float | None] = []
    while (at := machine.next_wake()) is not None:
        wakes.append(at)
        machine.expire(machine.main, at)

    assert wakes == [10.0, 20.0, 30.0, 40.0]
    assert waiters(machine) == [line[1], line[3], line[0], line[2]]


# --- displacing -------------------------------------------------------------------------------


def test_younger_uses_are_displaced_the_youngest_first() -> None:
    """Whoever began later runs into the same limit; the elder may still make it."""
    machine = pool(resource("a"))
    leases = [take(machine) for _ in range(4)]

    machine.cool(leases[1], 0.0, None, "429")

    assert displaced(machine) == [leases[3], leases[2]]
    assert [lease.displaced for lease in leases] == [None, None, "429", "429"]


def test_nobody_is_displaced_twice() -> None:
    """An elder failure of a later incident finds them on their way out."""
    machine = pool(resource("a"))
    leases = [take(machine) for _ in range(3)]
    machine.cool(leases[1], 0.0, None, "429")

    machine.disable(leases[0], 0.0, None, with_group=False)

    assert displaced(machine) == [leases[2], leases[1]]
    assert leases[1].displaced == "cooldown"


def test_the_same_incident_displaces_nobody_more() -> None:
    """A use that failed with the first tells nothing new, though its time may count."""
    machine = pool(resource("a"))
    leases = [take(machine) for _ in range(3)]
    machine.cool(leases[2], 0.0, None, "429")
    machine.news.clear()

    machine.cool(leases[0], 0.0, 600.0, "429")

    assert displaced(machine) == []


def test_younger_uses_of_the_group_are_displaced_too() -> None:
    """They use the same account."""
    machine = pool(resource("a", group="x"), resource("b", group="x"), resource("c"))
    leases = [take(machine) for _ in range(3)]

    machine.cool(leases[0], 0.0, None, "429")

    assert displaced(machine) == [leases[1]]


def test_disabling_displaces_in_every_dimension() -> None:
    """A revoked key is revoked for all models."""
    machine = pool(resource("a"))
    red, blue = machine.lane_for("red"), machine.lane_for("blue")
    elder, younger = take(machine, lane=red), take(machine, lane=blue)

    machine.disable(elder, 0.0, "401", with_group=False)

    assert displaced(machine) == [younger]
    assert (red.is_shut, blue.is_shut, machine.main.is_shut) == (True, True, True)


def test_nobody_is_displaced_where_that_is_off() -> None:
    """``cancel_younger=False`` lets them run."""
    machine = pool(resource("a"), cancel_younger=False)
    leases = [take(machine) for _ in range(2)]

    machine.cool(leases[0], 0.0, None, "429")

    assert displaced(machine) == []
    assert leases[1].displaced is None


# --- disabling --------------------------------------------------------------------------------


def test_a_refused_resource_is_out_until_it_is_enabled() -> None:
    """No rest ends this."""
    machine = pool(resource("a"))

    machine.disable(take(machine), 0.0, "401", with_group=False)
    later = machine.take(machine.main, None, 1e9)
    machine.enable(machine.members["a"], 1e9, "enabled")

    assert later is None
    assert changes(machine) == [
        ("a", "ready", "disabled", "401", None),
        ("a", "disabled", "ready", "enabled", None),
    ]
    assert take(machine, 1e9).resource.id == "a"


def test_a_quota_takes_its_group_out() -> None:
    """With the group where it is the account's, without where it is the key's."""
    machine = pool(resource("a", group="x"), resource("b", group="x"), resource("c"))

    machine.disable(take(machine), 0.0, "402", with_group=True)

    assert [seen(machine, name).standing for name in "abc"] == [DISABLED, DISABLED, READY]


def test_who_is_out_is_not_taken_out_again() -> None:
    """The first reason stands."""
    machine = pool(resource("a"))
    member, leases = machine.members["a"], [take(machine), take(machine)]

    machine.disable(leases[0], 0.0, "401", with_group=False)
    machine.disable(leases[1], 0.0, "402", with_group=False)
    machine.disable_member(member, 0.0, "by hand")

    assert (member.disabled, member.counts.disables) == ("401", 1)


def test_a_use_from_before_the_enabling_does_not_disable() -> None:
    """Its key was refused before somebody put that right."""
    machine = pool(resource("a"))
    old = take(machine)
    machine.enable(machine.members["a"], 0.0, None)

    machine.disable(old, 1.0, "401", with_group=False)

    assert seen(machine, "a").standing is READY


def test_disabling_a_resource_that_rests_says_so() -> None:
    """From cooling to disabled, for want of a word with the default."""
    machine = pool(resource("a"))
    cool_down(machine, 0.0)
    machine.news.clear()

    machine.disable_member(machine.members["a"], 0.0, None)

    assert changes(machine) == [("a", "cooling", "disabled", "", None)]
    assert machine.members["a"].disabled == "disabled"
    assert machine.main.next_return() is None


def test_a_removed_resource_cannot_be_disabled() -> None:
    """It was taken out before: nobody is told, and nothing is counted."""
    machine = pool(resource("a"))
    lease = take(machine)
    machine.remove(machine.members["a"], 0.0)
    machine.news.clear()

    machine.disable(lease, 0.0, "401", with_group=False)

    assert machine.news == []
    assert machine.totals()[1].disables == 0


def test_enabling_starts_anew() -> None:
    """Neither cooling nor escalated, and what is under way says nothing."""
    machine = pool(resource("a"))
    leases = [take(machine), take(machine)]
    machine.cool(leases[0], 0.0, None, "429")

    machine.enable(machine.members["a"], 1.0, "enabled")
    machine.cool(leases[1], 2.0, None, "429")

    assert seen(machine, "a").standing is READY
    assert seen(machine, "a").level == 0
    assert changes(machine)[-1] == ("a", "cooling", "ready", "enabled", None)


def test_enabling_who_is_ready_ends_its_probation_in_silence() -> None:
    """There is no change of standing to tell, but it takes more than one use again."""
    machine = pool(resource("a"))
    cool_down(machine, 0.0)
    take(machine, 30.0)
    machine.news.clear()

    machine.enable(machine.members["a"], 31.0, "enabled")

    assert machine.news == []
    assert take(machine, 31.0).resource.id == "a"


def test_the_probe_of_a_time_before_the_enabling_is_a_use_like_any_other() -> None:
    """It may go on; the next recovery does not wait for it."""
    machine = pool(resource("a"))
    cool_down(machine, 0.0)
    take(machine, 30.0)
    machine.enable(machine.members["a"], 31.0, "enabled")
    cool_down(machine, 32.0)

    probe = machine.take(machine.main, None, 62.0)

    assert probe is not None


# --- quota ------------------------------------------------------------------------------------


def test_a_spent_quota_rests_without_a_step() -> None:
    """It is back when the service says, at full strength."""
    machine = pool(resource("a"), resource("b"))
    lease = take(machine)

    machine.report(lease, 10.0, 0.0, 12.0)
    until, level = seen(machine, "a").cooling_until, seen(machine, "a").level
    machine.expire(machine.main, 22.0)

    assert (until, level) == (22.0, 0)
    assert changes(machine) == [
        ("a", "ready", "cooling", "quota", 12.0),
        ("a", "cooling", "ready", "rested", None),
    ]
    assert seen(machine, "a").recovering is False


@pytest.mark.parametrize(
    ("remaining", "resets_in"), [(1.0, 12.0), (0.0, None), (0.0, 0.0), (None, 12.0)]
)
def test_a_quota_that_is_not_spent_or_has_no_end_does_not_rest(
    remaining: float | None, resets_in: float | None
) -> None:
    """One call is left, or nobody knows until when to rest."""
    machine = pool(resource("a"))

    machine.report(take(machine), 0.0, remaining, resets_in)

    assert seen(machine, "a").standing is READY
    assert seen(machine, "a").remaining == remaining


def test_a_spent_quota_is_the_groups() -> None:
    """All keys of the account rest; a rest is not made shorter by it."""
    machine = pool(resource("a", group="x"), resource("b", group="x"), resource("c"))
    first, second = take(machine), take(machine)
    machine.report(first, 0.0, 0.0, 60.0)

    machine.report(second, 0.0, 0.0, 12.0)

    assert [seen(machine, name).cooling_until for name in "abc"] == [60.0, 60.0, None]
    assert seen(machine, "a").member.counts.cooldowns == 1


def test_a_spent_quota_sends_away_who_cannot_wait_for_it() -> None:
    """As a cooldown does."""
    machine = pool(resource("a", cap=1))
    lease = take(machine)
    waiter = park(machine, 10.0)

    machine.report(lease, 0.0, 0.0, 60.0)

    assert waiters(machine) == [waiter]


def test_what_remains_is_counted_down() -> None:
    """Uses since the report are taken off, and below nothing there is nothing."""
    machine = pool(resource("a"))
    machine.report(take(machine), 0.0, 1.5, None)

    left = [take(machine) and seen(machine, "a").remaining for _ in range(3)]

    assert left == [0.5, 0.0, 0.0]


def test_a_report_moves_the_picker() -> None:
    """Most remaining: the next call goes where more is left."""
    machine = pool(resource("a"), resource("b"), pick="most_remaining")
    first, second = take(machine), take(machine)
    machine.report(first, 0.0, 5.0, None)

    machine.report(second, 0.0, 50.0, None)

    assert [take(machine).resource.id for _ in range(3)] == ["b", "b", "b"]


def test_a_latency_moves_the_picker() -> None:
    """Power of two choices: the next call goes where answers are fast."""
    machine = pool(resource("a"), resource("b"), pick="p2c_ewma")
    leases = {lease.resource.id: lease for lease in (take(machine), take(machine))}
    for name, seconds in (("a", 5.0), ("b", 0.1)):
        machine.observe(leases[name], seconds, 0.0)
        machine.give_back(leases[name], 0.0)

    assert take(machine).resource.id == "b"


@pytest.mark.parametrize("pick", PICKS)
def test_what_is_learnt_of_one_that_is_not_ready_waits_for_its_return(pick: str) -> None:
    """No picker is told of a candidate that it does not have."""
    machine = pool(resource("a", cap=1), pick=pick)
    lease = take(machine)

    machine.report(lease, 0.0, 5.0, None)
    machine.observe(lease, 0.25, 0.0)

    assert seen(machine, "a").remaining == 5.0
    assert seen(machine, "a").latency == 0.25
    machine.give_back(lease, 0.0)
    assert take(machine).resource.id == "a"


# --- coming and going -------------------------------------------------------------------------


def test_a_removed_resource_drains() -> None:
    """Uses under way go on and stay in the books to their end."""
    machine = pool(resource("a"), resource("b"))
    lease = take(machine)

    machine.remove(machine.members["a"], 0.0)
    draining = (machine.unfinished(), machine.totals()[0], "a" in machine.main.candidates)
    machine.give_back(lease, 0.0)

    assert draining == (1, 1, False)
    assert (machine.unfinished(), machine.totals()[0]) == (0, 1)
    assert machine._draining == []


def test_a_resource_that_comes_back_counts_the_uses_that_drain() -> None:
    """The service behind it sees both."""
    machine = pool(resource("a", cap=1))
    old = take(machine)
    machine.remove(machine.members["a"], 0.0)
    machine.add(resource("a", cap=1), 0.0)
    waiter = park(machine)

    before = machine.take(machine.main, None, 0.0)
    machine.give_back(old, 0.0)

    assert before is None
    assert waiters(machine) == [waiter]


def test_a_resource_that_comes_back_twice_counts_all_that_drains() -> None:
    """Also what the first of three generations has under way, with none of the second."""
    machine = pool(resource("a", cap=2))
    old = [take(machine), take(machine)]
    for _ in range(3):
        machine.remove(machine.members["a"], 0.0)
        machine.add(resource("a", cap=2), 0.0)

    full = machine.take(machine.main, None, 0.0)
    machine.give_back(old[0], 0.0)
    new = take(machine)
    machine.give_back(old[1], 0.0)
    machine.give_back(new, 0.0)

    assert full is None
    assert machine.members["a"].in_flight == 0
    assert machine.totals()[0] == 3
    assert machine._draining == []


def test_the_books_of_a_removed_resource_are_kept() -> None:
    """What it did stays in the pool's totals."""
    machine = pool(resource("a"), resource("b"))
    cool_down(machine, 0.0)

    machine.remove(machine.members["a"], 0.0)
    uses, counts = machine.totals()

    assert (uses, counts.cooldowns) == (1, 1)


def test_a_new_resource_is_in_every_lane() -> None:
    """And lanes that are made later have it too."""
    machine = pool(resource("a"))
    red = machine.lane_for("red")

    machine.add(resource("b"), 0.0)
    blue = machine.lane_for("blue")

    assert [[*lane.candidates] for lane in (machine.main, red, blue)] == [["a", "b"]] * 3
    assert machine.lane_for("red") is red


def test_a_larger_cap_serves_who_waits() -> None:
    """As many as there is room for now."""
    machine = pool(resource("a", cap=1))
    take(machine)
    line = [park(machine) for _ in range(3)]

    machine.resize(machine.members["a"], 3, 0.0)

    assert waiters(machine) == line[:2]
    assert machine.members["a"].in_flight == 3


def test_no_cap_serves_everybody() -> None:
    """None is no bound."""
    machine = pool(resource("a", cap=1))
    take(machine)
    line = [park(machine) for _ in range(3)]

    machine.resize(machine.members["a"], None, 0.0)

    assert waiters(machine) == line


def test_a_smaller_cap_lets_uses_under_way_go_on() -> None:
    """It is full until enough of them have ended."""
    machine = pool(resource("a", cap=3))
    leases = [take(machine) for _ in range(3)]

    machine.resize(machine.members["a"], 1, 0.0)
    answers: list[Lease | None] = []
    for lease in leases:
        answers.append(machine.take(machine.main, None, 0.0))
        machine.give_back(lease, 0.0)

    assert answers == [None, None, None]
    assert take(machine).resource.id == "a"


def test_lanes_in_which_nothing_goes_on_make_room() -> None:
    """A thousand dimensions are kept; their uses stay in the books."""
    machine = pool(resource("a"), resource("b"))
    busy = machine.lane_for("busy")
    take(machine, lane=busy)
    resting = machine.lane_for("resting")
    machine.cool(take(machine, lane=resting), 0.0, None, "429")

    for number in range(1500):
        machine.give_back(take(machine, lane=machine.lane_for(number)), 0.0)

    assert len(machine.lanes) <= 1000
    assert (machine.main, busy, resting) == tuple(machine.lanes.values())[:3]
    assert machine.totals()[0] == 1502
    assert sum(r.uses for r in stats_of(machine, 0.0).resources) == 1502
    shown = snapshot_of(machine, "pool", 0.0)["resources"]
    assert sum(state["uses"] for state in shown.values()) == 1502


def test_lanes_in_which_something_goes_on_are_kept() -> None:
    """Who waits, and what a failure has taught, is not lost."""
    machine = pool(resource("a", cap=1))
    waiting, probation = machine.lane_for("waiting"), machine.lane_for("probation")
    cooled = take(machine, lane=probation)
    machine.cool(cooled, 0.0, 1.0, "429")
    machine.give_back(cooled, 0.0)
    machine.expire(probation, 1.0)
    take(machine)
    park(machine, lane=waiting)

    for number in range(1500):
        machine.lane_for(number)

    assert machine.lanes.get("waiting") is waiting
    assert machine.lanes.get("probation") is probation


def test_a_lane_is_kept_for_whoever_stands_at_its_gate() -> None:
    """Whatever it is that they wait for."""
    machine = pool(resource("a"))
    lane = machine.lane_for("shut")
    machine.disable_member(machine.members["a"], 0.0, None)
    lane.park(Ask(1, 100.0, None, takes=False), 0)

    for number in range(1500):
        machine.lane_for(number)

    assert machine.lanes.get("shut") is lane


# --- shut or not ------------------------------------------------------------------------------


def test_a_pool_without_resources_is_shut_until_one_comes() -> None:
    """Nobody will ever serve, as far as it knows."""
    machine = pool()
    empty = (machine.is_shut, machine.main.hope())

    machine.add(resource("a"), 0.0)

    assert empty == (True, None)
    assert (machine.is_shut, machine.main.hope()) == (False, 0.0)


def test_a_pool_is_shut_while_one_of_its_lanes_is() -> None:
    """Whoever asks then looks at the lane of the call."""
    machine = pool(resource("a"))
    red, blue = machine.lane_for("red"), machine.lane_for("blue")
    story = [machine.is_shut]

    for lane in (red, blue):
        machine.cool(take(machine, lane=lane), 0.0, None, "429")
        story.append(machine.is_shut)
    for lane in (red, blue):
        machine.expire(lane, 30.0)
        story.append(machine.is_shut)

    assert story == [False, True, True, True, False]


def test_health_says_when_the_first_is_back() -> None:
    """Seconds from now; none where one is ready or in use; no time where none is known."""
    machine = pool(resource("a", cap=1), resource("b"))
    lane, lease = machine.main, take(machine)
    story = [lane.health(0.0)]

    machine.disable_member(machine.members["b"], 0.0, "by hand")
    story.append(lane.health(0.0))
    machine.cool(lease, 0.0, None, "429")
    story.append(lane.health(10.0))
    machine.disable_member(machine.members["a"], 0.0, "by hand")
    story.append(lane.health(10.0))

    assert [(h.ready, h.total, h.earliest_ready_in) for h in story] == [
        (1, 2, 0.0),
        (0, 2, 0.0),
        (0, 2, 20.0),
        (0, 2, None),
    ]
    assert [h.reason for h in story] == [
        "ready",
        "1 in use, 1 disabled",
        "1 cooling down (the first is back in 20 s), 1 disabled",
        "2 disabled",
    ]


def test_words_of_three_standings_stand_together() -> None:
    """In use, cooling and disabled, each with its number."""
    machine = pool(resource("a", cap=1), resource("b"), resource("c"))
    take(machine)
    machine.cool(take(machine), 0.0, None, "429")
    machine.disable_member(machine.members["c"], 0.0, "by hand")

    said = machine.main.why_not(29.5)

    assert said == "1 cooling down (the first is back in 0.5 s), 1 in use, 1 disabled"


# --- another loop -----------------------------------------------------------------------------


@pytest.mark.parametrize("pick", PICKS)
def test_a_loop_that_is_gone_leaves_nothing_behind(pick: str) -> None:
    """Its leases and waiters are forgotten, and pickers begin with free hands."""
    machine = pool(resource("a", cap=1), resource("b", cap=9), pick=pick)
    for _ in range(10):
        take(machine)
    machine.resize(machine.members["b"], 10, 0.0)
    outside, inside = park(machine, takes=False), park(machine)

    machine.forfeit()

    assert machine.unfinished() == machine.queued == 0
    assert outside.state is inside.state is WaiterState.ABANDONED
    assert machine.next_wake() is None
    assert machine.totals()[1].cancelled == 10
    assert machine.main.counts[READY] == 2


def test_whoever_was_busy_in_a_loop_that_is_gone_is_free_in_the_next() -> None:
    """Least in flight takes turns again: a forgotten use weighs nothing."""
    machine = pool(resource("a"), resource("b"))
    machine.disable_member(machine.members["b"], 0.0, None)
    for _ in range(5):
        take(machine)
    machine.enable(machine.members["b"], 0.0, None)

    machine.forfeit()

    assert sorted(take(machine).resource.id for _ in range(4)) == ["a", "a", "b", "b"]


def test_a_probe_of_a_loop_that_is_gone_is_not_waited_for() -> None:
    """Another one goes."""
    machine = pool(resource("a"))
    cool_down(machine, 0.0)
    take(machine, 30.0)

    machine.forfeit()

    assert take(machine, 31.0) is seen(machine, "a").probe


def test_what_drained_in_a_loop_that_is_gone_has_ended() -> None:
    """Removed resources too; giving back late frees nothing twice."""
    machine = pool(resource("a", cap=1))
    old = take(machine)
    machine.remove(machine.members["a"], 0.0)
    machine.add(resource("a", cap=1), 0.0)

    machine.forfeit()
    machine.give_back(old, 0.0)

    assert machine.unfinished() == 0
    assert machine.members["a"].in_flight == 0
    assert machine.totals()[1].cancelled == 1
    assert machine._draining == []


# --- what it costs ----------------------------------------------------------------------------


def steps(action: Callable[[], object]) -> int:
    """Count the lines that an action runs: no clock, so no luck."""
    count = 0

    def look(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return look

    before = sys.gettrace()
    # Whoever listens for collections runs lines too.
    gc.disable()
    sys.settrace(look)
    try:
        action()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def line_of(waiting: int, pick: str, *, slots: int = 10) -> tuple[PoolMachine, Lease, Waiter]:
    """Return a pool at its caps, one of its leases, and the first of those who wait."""
    machine = pool(*(resource(f"r{i}", cap=1) for i in range(slots)), pick=pick)
    leases = [take(machine) for _ in range(slots)]
    line = [park(machine, 100.0 + place) for place in range(waiting)]
    return machine, leases[slots // 2], next(iter(line), Waiter(None, 0))


@pytest.mark.parametrize("pick", PICKS)
def test_one_that_comes_back_wakes_one_however_many_wait(pick: str) -> None:
    """A thousand waiters on ten slots: one wake-up, as many steps as with ten waiters."""
    small, large = line_of(10, pick), line_of(1000, pick)

    def come_back(machine: PoolMachine, lease: Lease, _: Waiter) -> float | None:
        machine.give_back(lease, 1.0)
        return machine.next_wake()

    few, many = (steps(lambda at=at: come_back(*at)) for at in (small, large))

    assert waiters(large[0]) == [large[2]]
    assert large[0].queued == 999
    assert many == few


def test_a_waiter_who_leaves_costs_the_same_however_many_wait() -> None:
    """A cancelled caller is not looked for."""
    small, large = line_of(10, "least_in_flight"), line_of(1000, "least_in_flight")

    few, many = (steps(lambda at=at: at[0].main.abandon(at[2])) for at in (small, large))

    assert many == few


def test_a_cooldown_costs_the_same_however_many_others_there_are() -> None:
    """Without a group nobody else is looked at."""
    small, large = (line_of(0, "least_in_flight", slots=slots) for slots in (10, 1000))

    few, many = (steps(lambda at=at: at[0].cool(at[1], 0.0, None, "429")) for at in (small, large))

    assert many == few


def test_members_that_joined_a_lane_are_its_own() -> None:
    """A candidate knows its member, its lane and its weight."""
    machine = pool(Resource("secret", "a", weight=3))
    candidate = seen(machine, "a")

    assert isinstance(candidate.member, Member)
    assert (candidate.id, candidate.weight, candidate.lane) == ("a", 3, machine.main)
