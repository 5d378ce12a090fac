from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from penstock import (
    ConfigError,
    CooldownResource,
    DisableResource,
    NoResourceError,
    Pool,
    Resource,
)
from penstock.pools.news import Change
from penstock.testing import VirtualTimeLoop, scripted, takes

virtual = pytest.mark.virtual_time
real = pytest.mark.real_time

COUNTERS = ("uses", "successes", "failures", "cancelled", "displaced", "cooldowns", "disables")


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


async def named(resource: Resource[Any]) -> str | None:
    """Return the id of whatever serves the call."""
    return resource.id


def full_pool(**options: Any) -> Pool[int]:
    """Return a pool of one exclusive resource."""
    return Pool([Resource(1, "a", max_in_flight=1)], **options)


async def waiting(pool: Pool[int], calls: int = 1) -> list[asyncio.Task[str | None]]:
    """Put so many calls in line."""
    view = pool.using(max_wait=1000)
    tasks = [asyncio.create_task(view.run(named)) for _ in range(calls)]
    await asyncio.sleep(1)
    return tasks


# Each action, alone and with somebody who waits


@virtual
async def test_an_added_resource_serves_those_who_wait() -> None:
    """As many as it has room for, in the order in which they came."""
    pool = full_pool()
    holder = asyncio.create_task(pool.run(scripted(takes(100))))
    work = scripted(takes(1, "first"), takes(1, "second"))
    waiters = [asyncio.create_task(pool.using(max_wait=50).run(work)) for _ in range(2)]
    await asyncio.sleep(1)

    pool.add(Resource(2, "b", max_in_flight=1))

    assert await asyncio.gather(*waiters) == ["first", "second"]
    assert work.times == [1, 2]
    assert await holder is None


@virtual
@pytest.mark.parametrize(
    ("given", "name", "named_as"),
    [
        ("value", None, "2"),
        ("value", "mine", "mine"),
        (Resource("value"), "mine", "mine"),
        (Resource("value", "own"), "own", "own"),
    ],
)
def test_what_is_added_is_named_as_in_the_constructor(
    given: Any, name: str | None, named_as: str
) -> None:
    """By its id, or by its place."""
    pool = Pool(["first"])

    added = pool.add(given, name)

    assert added.id == named_as
    assert list(pool.snapshot()["resources"]) == ["1", named_as]


def test_a_place_that_has_been_taken_is_passed_by() -> None:
    """Ids of removed resources come free, ids in use do not."""
    pool = Pool([1, 2, 3])
    pool.remove("1")

    added = [pool.add(value).id for value in (4, 5)]

    assert added == ["4", "5"]


@pytest.mark.parametrize(
    ("given", "name", "message"),
    [
        (Resource(1, "a"), None, "resource 'a' is in the pool already"),
        (1, "a", "resource 'a' is in the pool already"),
        (1, "", "'id' must be a text that is not empty"),
        (1, 7, "'id' must be a text that is not empty"),
        (Resource(1, "b"), "c", "resource 'b' cannot be named"),
        (None, "b", "the resource to add is None; is a variable not set"),
        ("", "b", "the resource to add is an empty text"),
    ],
)
def test_what_cannot_be_added_is_refused_and_changes_nothing(
    given: Any, name: Any, message: str
) -> None:
    """Each with what is wrong."""
    pool = Pool({"a": "value"})

    with pytest.raises(ConfigError, match=message):
        pool.add(given, name)

    assert list(pool.snapshot()["resources"]) == ["a"]


@virtual
async def test_removing_lets_uses_end_and_tells_those_who_wait_in_vain() -> None:
    """The last resource is gone: nobody is left to wait for."""
    pool = full_pool()
    holder = asyncio.create_task(pool.run(scripted(takes(100, "to its end"))))
    (waiter,) = await waiting(pool)

    pool.remove("a")
    await asyncio.wait([waiter])
    told_at = now()
    error = waiter.exception()

    assert isinstance(error, NoResourceError)
    assert (error.case, told_at) == ("empty", 1)
    assert await holder == "to its end"
    assert pool.snapshot()["resources"] == {}


@virtual
@pytest.mark.parametrize("cause", ["cooling", "disabled"])
async def test_enabling_serves_those_who_wait(cause: str) -> None:
    """Whether it was resting or taken out; the wait of the latter has another reason."""
    pool = Pool({"a": 1, "b": 2}, cooldown=100)
    for _ in range(2):
        with pytest.raises(NoResourceError):
            await pool.using(attempts=1).run(scripted(CooldownResource))
    if cause == "disabled":
        pool.disable("a")
    (waiter,) = await waiting(pool)

    pool.enable("a")

    assert await waiter == "a"
    assert now() == 1


@virtual
async def test_disabling_tells_those_who_wait_in_vain_and_nobody_else() -> None:
    """While another one may come free they go on waiting."""
    pool = Pool([Resource(1, "a", max_in_flight=1), Resource(2, "b", max_in_flight=1)])
    holders = [asyncio.create_task(pool.run(scripted(takes(9, "ended")))) for _ in range(2)]
    (waiter,) = await waiting(pool)

    pool.disable("a", "maintenance")
    await asyncio.sleep(1)
    goes_on = not waiter.done()
    pool.disable("b")
    await asyncio.wait([waiter])
    error = waiter.exception()

    assert goes_on
    assert isinstance(error, NoResourceError)
    assert (error.case, now()) == ("all_disabled", 2)
    assert pool.snapshot()["resources"]["a"]["disabled"] == "maintenance"
    assert await asyncio.gather(*holders) == ["ended", "ended"]


@virtual
async def test_a_raised_cap_serves_those_who_wait() -> None:
    """As many as it has room for now."""
    pool = full_pool()
    work = scripted(then=takes(10, "done"))
    view = pool.using(max_wait=1000)
    calls = [asyncio.create_task(view.run(work)) for _ in range(4)]
    await asyncio.sleep(1)

    pool.resize("a", 3)
    await asyncio.sleep(1)
    at_once = work.in_flight
    await asyncio.gather(*calls)

    assert at_once == 3
    assert work.times == [0, 1, 1, 10]


@virtual
async def test_a_lowered_cap_cuts_nobody_off() -> None:
    """Uses above it end as they would have; then it holds."""
    pool = Pool([Resource(1, "a")], max_wait=1000)
    before, after = scripted(then=takes(10, "done")), scripted(then=takes(10, "done"))
    calls = [asyncio.create_task(pool.run(before)) for _ in range(5)]
    await asyncio.sleep(1)

    pool.resize("a", 2)
    calls += [asyncio.create_task(pool.run(after)) for _ in range(4)]
    results = await asyncio.gather(*calls)

    assert results == ["done"] * 9
    assert (before.most_in_flight, after.most_in_flight) == (5, 2)
    assert after.times == [10, 10, 20, 20]


@virtual
async def test_a_cap_can_be_taken_away() -> None:
    """None is no bound."""
    pool = full_pool()
    calls = await waiting(pool, 5)

    pool.resize("a", None)

    assert await asyncio.gather(*calls) == ["a"] * 5
    assert pool.snapshot()["resources"]["a"]["max_in_flight"] is None


@pytest.mark.parametrize("cap", [0, -1, 1.5, True, float("nan"), "2"])
def test_a_cap_that_means_nothing_is_refused_and_changes_nothing(cap: Any) -> None:
    """The error names the field and the value."""
    pool = full_pool()

    with pytest.raises(ConfigError, match="pool: 'max_in_flight' must be a whole number") as caught:
        pool.resize("a", cap)

    assert repr(cap) in str(caught.value)
    assert pool.snapshot()["resources"]["a"]["max_in_flight"] == 1


@pytest.mark.parametrize("action", ["remove", "enable", "disable"])
@pytest.mark.parametrize("resources", [1, 5, 9])
def test_an_unknown_id_is_a_key_error_that_names_some_of_the_known(
    action: str, resources: int
) -> None:
    """Not the word that was looked for: it may be a value."""
    pool = Pool({f"key-{n}": "value" for n in range(resources)})

    with pytest.raises(KeyError, match="has no resource of that id; it has 'key-0'") as caught:
        getattr(pool, action)("sk-secret")
    with pytest.raises(KeyError):
        pool.resize("sk-secret", 1)

    assert "sk-secret" not in str(caught.value)
    assert str(caught.value).count("key-") == min(resources, 5)
    assert ("..." in str(caught.value)) == (resources > 5)


def test_an_emptied_pool_says_so_where_an_id_is_looked_for() -> None:
    """And takes resources in again."""
    pool = Pool({"a": 1})
    pool.remove("a")

    with pytest.raises(KeyError, match="it has none"):
        pool.remove("a")

    assert pool.add(2).id == "1"


# Before, between and beside loops


def test_a_pool_is_administered_before_there_is_a_loop_and_between_two() -> None:
    """A loop that is gone is asked nothing."""
    pool = Pool({"a": 1, "b": 2})
    pool.disable("a")
    found: list[str | None] = []

    for action in (pool.enable, pool.remove):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            found.append(runner.run(pool.run(named)))
        action("a")
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        found.append(runner.run(pool.run(named)))

    assert found == ["b", "a", "b"]


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run in another thread while the loop goes on."""
    return await asyncio.to_thread(work)


@real
async def test_another_thread_administers_while_the_loop_runs() -> None:
    """Each action is done in the loop's own thread, and answers in the caller's."""
    done_in: list[int] = []

    def hook(_change: Change) -> None:
        done_in.append(threading.get_ident())

    pool = Pool([Resource(1, "a", max_in_flight=1)], on_state_change=hook)
    gate = asyncio.Event()

    async def hold(_resource: object) -> None:
        await gate.wait()

    holder = asyncio.create_task(pool.run(hold))
    await asyncio.sleep(0)
    waiter = asyncio.create_task(pool.using(max_wait=60).run(named))
    await asyncio.sleep(0)

    added = await in_thread(lambda: pool.add(Resource(2, "b")))
    served_by = await waiter
    await in_thread(lambda: pool.disable("b"))
    await in_thread(lambda: pool.enable("b"))
    await in_thread(lambda: pool.resize("a", 2))
    await in_thread(lambda: pool.remove("b"))
    stats = await in_thread(pool.stats)
    gate.set()
    await holder

    assert (added.id, served_by) == ("b", "b")
    assert done_in == [threading.get_ident()] * 2
    assert (stats.total, stats.uses) == (1, 2)


@real
async def test_what_is_refused_is_raised_in_the_thread_that_asked() -> None:
    """The loop goes on."""
    pool = Pool({"a": 1})
    await pool.run(named)

    with pytest.raises(KeyError, match="no resource of that id"):
        await in_thread(lambda: pool.remove("b"))
    with pytest.raises(ConfigError, match="in the pool already"):
        await in_thread(lambda: pool.add(Resource(1, "a")))

    assert await pool.run(named) == "a"


@contextmanager
def threads_that_switch_often() -> Iterator[None]:
    """Let threads meet each other in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def polled(pool: Pool[int], looks: Callable[[], Any], turns: int) -> tuple[int, list[str]]:
    """Let resources come and go and calls run while another thread looks; return its errors."""
    is_over = threading.Event()
    errors: list[str] = []
    polls = 0

    def poll() -> None:
        nonlocal polls
        while not is_over.is_set():
            polls += 1
            try:
                looks()
            except Exception as error:  # noqa: BLE001 - the test says what it was
                errors.append(repr(error))

    async def pause(_resource: object, model: str) -> str:
        await asyncio.sleep(0)
        return model

    # From its first call on the pool knows in which loop it lives.
    await pool.run(pause, model="m0")
    poller = asyncio.create_task(asyncio.to_thread(poll))
    for turn in range(turns):
        pool.add(Resource(turn, f"key-{turn}", max_in_flight=2))
        uses = (pool.using(max_wait=5).run(pause, model=f"m{(turn + n) % 40}") for n in range(4))
        await asyncio.gather(*uses)
        pool.remove(f"key-{turn}")
    is_over.set()
    await poller
    return polls, errors


@real
@pytest.mark.parametrize(
    "turns", [30, pytest.param(1500, marks=pytest.mark.slow)], ids=["short", "long"]
)
async def test_a_snapshot_may_be_polled_from_another_thread_while_resources_come_and_go(
    turns: int,
) -> None:
    """It copies what it goes through, and asks the loop for nothing."""
    pool = Pool({"a": 1, "b": 2}, dimension="model")

    with threads_that_switch_often():
        polls, errors = await polled(pool, pool.snapshot, turns)

    assert polls > 0
    assert errors == []


@real
@pytest.mark.parametrize(
    "turns", [30, pytest.param(1500, marks=pytest.mark.slow)], ids=["short", "long"]
)
async def test_counters_never_go_back_for_another_thread_either(turns: int) -> None:
    """Removed resources stay counted, uses under way are no successes yet."""
    pool = Pool({"a": 1, "b": 2}, dimension="model")
    last = dict.fromkeys(COUNTERS, 0)

    def look() -> None:
        stats = pool.stats()
        for name in COUNTERS:
            count = getattr(stats, name)
            assert count >= last[name], (name, last[name], count)
            last[name] = count

    with threads_that_switch_often():
        polls, errors = await polled(pool, look, turns)

    assert polls > 0
    assert errors == []
    assert pool.stats().uses == pool.stats().successes == 4 * turns + 1


# Stats


@virtual
async def test_counters_never_go_back_whatever_happens() -> None:
    """Every kind of ending, every action, looked at after each."""
    pool = Pool([Resource(1, "a", max_in_flight=3), Resource(2, "b")], attempts=2, cooldown=5)
    endings = [
        takes(9, "cancelled"),
        "fine",
        takes(1, "later"),
        CooldownResource(2),
        takes(1, CooldownResource),
        DisableResource("no"),
        OSError("own"),
        takes(9, "displaced"),
    ]
    actions: list[Callable[[], object]] = [
        lambda: pool.add(Resource(3, "c")),
        lambda: pool.disable("b"),
        lambda: pool.remove("a"),
        lambda: pool.add(Resource(1, "a")),
        lambda: pool.enable("b"),
        lambda: pool.remove("c"),
    ]
    seen = [pool.stats()]

    for turn in range(30):
        uses = [asyncio.create_task(pool.run(scripted(ending, "again"))) for ending in endings]
        await asyncio.sleep(1.5)
        seen.append(pool.stats())
        actions[turn % len(actions)]()
        seen.append(pool.stats())
        uses[0].cancel()
        await asyncio.wait(uses)
        for use in uses:
            assert use.cancelled() or not isinstance(use.exception(), AssertionError)
        for name in ("a", "b"):
            if name in pool.snapshot()["resources"]:
                pool.enable(name)
        seen.append(pool.stats())

    for name in COUNTERS:
        counts = [getattr(stats, name) for stats in seen]
        assert counts == sorted(counts), name
        assert counts[-1] > 0, name
    last = seen[-1]
    assert last.in_flight == 0
    assert last.uses == last.successes + last.failures + last.cancelled + last.displaced


# Hooks


@virtual
async def test_a_hook_sees_the_pool_as_it_is_from_now_on() -> None:
    """It is told after the change, not during it."""
    seen: list[tuple[str, str, int]] = []

    def hook(change: Change) -> None:
        state = pool.snapshot()["resources"][change.resource]["standing"]
        seen.append((change.new, state, pool.stats().cooldowns + pool.stats().disables))

    pool = Pool({"a": 1, "b": 2}, on_state_change=hook)

    await pool.run(scripted(CooldownResource(5), "served"))
    pool.disable("b")
    pool.enable("a")

    assert seen == [("cooling", "cooling", 1), ("disabled", "disabled", 2), ("ready", "ready", 2)]


@virtual
async def test_an_async_hook_may_take_its_time() -> None:
    """Nobody waits for it, and it is told of every change in order."""
    begun: list[int] = []
    ended: list[int] = []

    async def hook(change: Change) -> None:
        begun.append(change.seq)
        await asyncio.sleep(1000)
        ended.append(change.seq)

    pool = Pool({"a": 1, "b": 2, "c": 3}, on_state_change=hook)

    await pool.run(scripted(CooldownResource(5), DisableResource("no"), "served"))
    served_at = now()
    await asyncio.sleep(2000)

    assert served_at == 0
    assert (begun, ended) == ([1, 2], [1, 2])


@virtual
@pytest.mark.parametrize("failure", [LookupError, asyncio.CancelledError])
async def test_a_hook_that_raises_stops_nobody(
    failure: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the caller, nor the administrator, nor the waiter whom the same change serves."""

    def hook(_change: Change) -> None:
        raise failure("lost in the hook")

    pool = Pool({"a": 1}, on_state_change=hook, cooldown=100)
    with caplog.at_level(logging.ERROR, logger="penstock"):
        with pytest.raises(NoResourceError):
            await pool.run(scripted(CooldownResource))
        (waiter,) = await waiting(pool)
        pool.enable("a")
        result = await waiter

    assert (result, now()) == ("a", 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"pool 'pool': on_state_change raised {failure.__name__}"
    ] * 2


@virtual
async def test_a_hook_may_call_back_in() -> None:
    """A key that is revoked is replaced in the step in which the pool hears of it."""
    told: list[tuple[int, str, str]] = []

    def hook(change: Change) -> None:
        told.append((change.seq, change.resource, change.new))
        if change.reason == "revoked":
            pool.add(Resource(2, f"{change.resource}'"))
            pool.remove(change.resource)
            pool.disable("spare")

    pool = Pool({"a": 1, "spare": 3}, on_state_change=hook, pick="primary_backup")

    result = await pool.run(scripted(DisableResource("revoked"), named))

    assert result == "a'"
    assert told == [(1, "a", "disabled"), (2, "spare", "disabled")]


@virtual
async def test_sequence_numbers_have_no_gaps_and_every_hook_has_all_of_them() -> None:
    """Over cooldowns, groups, expiries and actions, also where a hook makes more of them."""
    own: list[int] = []
    watched: list[int] = []

    def hook(change: Change) -> None:
        own.append(change.seq)
        if change.resource == "a" and change.new == "cooling":
            pool.disable("z")
            pool.enable("z")

    keys = [Resource(n, name, group="account") for n, name in enumerate("abc")]
    pool = Pool([*keys, Resource(9, "z")], on_state_change=hook, cooldown=5)
    pool.watch(lambda change: watched.append(change.seq))

    for _ in range(5):
        await pool.run(scripted(CooldownResource, "served", then="served"))
        await asyncio.sleep(50)
    pool.disable("b")
    pool.remove("b")

    assert own == watched == list(range(1, len(own) + 1))
    assert len(own) >= 20


async def test_one_that_is_away_is_waited_for():
    """It is expected back, so nobody is refused; the gate and the snapshot say so."""
    pool = Pool(["a"], max_wait=60)
    pool.withdraw("1", "starting")
    asyncio.get_running_loop().call_later(5, pool.restore, "1", "starting")

    before = now()
    served = await pool.run(scripted("fine"))

    assert served == "fine"
    assert now() - before == pytest.approx(5)


async def test_a_rest_goes_on_after_an_absence():
    """Its end is looked out for again, though nobody did while the resource was away."""
    pool = Pool(["a"], max_wait=60)
    waiting = asyncio.create_task(pool.run(scripted(CooldownResource(5), "fine")))
    await asyncio.sleep(0)
    pool.withdraw("1", "starting")
    # Whoever looks for the next return meanwhile finds none.
    assert pool.health().reason == "1 away"
    await asyncio.sleep(1)

    pool.restore("1", "starting")
    before = now()

    assert await waiting == "fine"
    assert now() - before == pytest.approx(4)


async def test_absences_overlap():
    """It serves when the last of them has ended."""
    pool = Pool(["a"])
    pool.withdraw("1", "paused")
    pool.withdraw("1", "starting")

    pool.restore("1", "starting")

    assert pool.stats().by_standing["away"] == 1
    assert pool.health().reason == "1 away"
    pool.restore("1", "paused")
    assert pool.health().ready == 1


async def test_one_that_is_away_and_disabled_is_not_waited_for():
    """Nobody knows that it will ever be back."""
    pool = Pool(["a"], max_wait=60)
    pool.withdraw("1", "starting")
    pool.disable("1")

    with pytest.raises(NoResourceError) as caught:
        await pool.run(scripted("fine"))

    assert caught.value.case == "all_disabled"
    assert pool.snapshot()["resources"]["1"]["standing"] == "disabled"


async def test_one_that_joins_away_serves_when_it_is_restored():
    """Who waits is not served by it before."""
    pool = Pool(["a"], max_wait=60)
    pool.disable("1")
    pool.add("b", "late", away="starting")

    waiting = asyncio.create_task(pool.run(scripted("fine")))
    await asyncio.sleep(1)
    assert not waiting.done()
    pool.restore("late", "starting")

    assert await waiting == "fine"
