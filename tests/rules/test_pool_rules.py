"""Rules learned from where other packages fail, over pools; see docs/parity.md."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    ConfigError,
    CooldownResource,
    DisableResource,
    NoResourceError,
    Policy,
    Pool,
    Resource,
    TryAgain,
    current_lease,
)
from penstock.events import AttemptEnded, CallRejected, ResourceChanged
from penstock.pools.news import Change
from penstock.pools.picking import PICKERS
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.stages.rate_limit import RateLimit, RateLimitOptions
from penstock.testing import (
    EventLog,
    Sweep,
    VirtualTimeLoop,
    cancel_sweep,
    scripted,
    takes,
)

pytestmark = pytest.mark.virtual_time


class StopEverythingError(BaseException):
    """What no ``except Exception`` catches."""


def now() -> float:
    """Return the second of the running loop."""
    return asyncio.get_running_loop().time()


def keys(*names: str, cap: int | None = None) -> list[Resource[int]]:
    """Return resources of these ids."""
    return [Resource(n, name, max_in_flight=cap) for n, name in enumerate(names)]


def shown(pool: Pool[Any], name: str) -> dict[str, Any]:
    """Return what the snapshot says of one resource."""
    return pool.snapshot()["resources"][name]


def holds_nothing(pool: Pool[Any]) -> bool:
    """Whether every lease and every place in line was given back."""
    stats = pool.stats()
    ended = stats.successes + stats.failures + stats.cancelled + stats.displaced
    members = pool.machine.members.values()
    leases = [c.leases for member in members for c in member.candidates if c.leases]
    probes = [c.probe for member in members for c in member.candidates if c.probe]
    held = any((stats.in_flight, stats.waiting, leases, probes))
    return not held and stats.uses == ended


async def rest(pool: Any, seconds: float | None = None) -> None:
    """Let the next resource cool down."""
    with pytest.raises(NoResourceError):
        await pool.using(attempts=1).run(scripted(CooldownResource(seconds)))


# Rule 1


@pytest.mark.parametrize("after", [0.0, 1.0, 10.5, 15.0])
async def test_a_cancelled_caller_gives_its_resource_back_and_runs_nothing_again(
    after: float,
) -> None:
    """In the first attempt, in the pause before the second, or in a later one."""
    pool = Pool(keys("a", "b", cap=1), retry_delay=4)
    begun: list[float] = []
    ended: list[float] = []

    async def work(_resource: object) -> None:
        begun.append(now())
        try:
            await asyncio.sleep(10)
            raise TryAgain
        finally:
            ended.append(now())

    call = asyncio.create_task(pool.run(work))
    await asyncio.sleep(after)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    begun_by_then = list(begun)
    free = holds_nothing(pool)
    await asyncio.sleep(1000)

    assert free
    assert begun == begun_by_then
    assert len(ended) == len(begun)


# Rule 2


@pytest.mark.parametrize("failure", [asyncio.CancelledError, StopEverythingError])
async def test_an_operation_that_cancels_itself_leaves_nobody_waiting_behind_it(
    failure: type[BaseException],
) -> None:
    """Its resource goes to whoever is next, in the same step."""
    pool = Pool(keys("only", cap=1), max_wait=100)
    work = scripted(takes(1, failure), takes(1, "second"), "third")

    calls = [asyncio.create_task(pool.run(work)) for _ in range(3)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(outcomes[0], failure)
    assert outcomes[1:] == ["second", "third"]
    assert work.times == [0, 1, 2]
    assert holds_nothing(pool)


# Rule 3


@pytest.mark.parametrize("order", ["own first", "foreign first"])
@pytest.mark.parametrize("swallowed", [0, 2])
async def test_a_foreign_cancel_wins_in_the_step_of_the_pools_own(
    order: str, swallowed: int
) -> None:
    """However often the task has swallowed a cancel before."""
    pool = Pool(keys("bad", "good"), pick="primary_backup")
    elder: list[Any] = []

    async def older(_resource: object) -> None:
        elder.append(current_lease())
        await asyncio.sleep(1000)

    async def caller() -> None:
        for _ in range(swallowed):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
        await pool.run(work)

    first = asyncio.create_task(pool.run(older))
    work = scripted(then=takes(1000))
    task = asyncio.create_task(caller())
    for _ in range(swallowed):
        await asyncio.sleep(1)
        task.cancel()
    await asyncio.sleep(1)

    both = [elder[0].cooldown, task.cancel]
    for cancel in both if order == "own first" else both[::-1]:
        cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)

    assert isinstance(outcome, asyncio.CancelledError)
    assert len(work.calls) == 1
    first.cancel()
    await asyncio.wait([first])
    assert holds_nothing(pool)


@pytest.mark.parametrize("swallowed", [0, 2])
async def test_the_pools_own_cancel_is_told_by_the_change_of_the_count(swallowed: int) -> None:
    """A task that has swallowed cancels is run again elsewhere like any other, and keeps them."""
    pool = Pool(keys("bad", "good"), pick="primary_backup")

    async def caller() -> tuple[str, int]:
        for _ in range(swallowed):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
        result = await pool.run(scripted(takes(1000), "elsewhere"))
        task = asyncio.current_task()
        assert task is not None
        return result, task.cancelling()

    older = asyncio.create_task(pool.run(scripted(takes(10, CooldownResource), "older")))
    task = asyncio.create_task(caller())
    for _ in range(swallowed):
        await asyncio.sleep(1)
        task.cancel()

    assert await task == ("elsewhere", swallowed)
    assert await older == "older"


# Rules 1, 3, 4 and 9, at every point


def test_a_cancel_at_any_point_loses_no_lease_no_place_and_no_probe() -> None:
    """Of one who is displaced, waits for a resource that rests, and is its probe."""

    async def scenario(sweep: Sweep) -> Pool[int]:
        pool = Pool(keys("b", "a", cap=2), pick="primary_backup", cooldown=5, max_wait=100)
        await rest(pool)
        older = scripted(takes(2, CooldownResource), then=takes(1, "older"))
        sweep.beside(pool.run(older))
        sweep.victim(pool.run(scripted(takes(3), then=takes(2, "victim"))))
        sweep.beside(*(pool.run(scripted(then=takes(1, "beside"))) for _ in range(3)))
        return pool

    displaced: list[int] = []

    def check(pool: Pool[int]) -> None:
        displaced.append(pool.stats().displaced)
        assert holds_nothing(pool)

    points = cancel_sweep(scenario, check)

    assert points > 10
    assert max(displaced) > 0


# Rule 4


@pytest.mark.parametrize("ending", ["cancelled", "times out", "is abandoned"])
async def test_a_probe_that_tells_nothing_goes_back(ending: str) -> None:
    """The resource neither is well nor stays taken: the next call is the next probe."""
    pool = Pool(keys("only"), cooldown=(10, 20))
    await rest(pool)
    await asyncio.sleep(10)
    if ending == "is abandoned":
        await asyncio.gather(pool.run(scripted(asyncio.CancelledError)), return_exceptions=True)
    else:
        probe = asyncio.create_task(pool.run(scripted(takes(100))))
        await asyncio.sleep(1)
        assert pool.health().ready == 0
        probe.cancel()
        await asyncio.wait([probe])
    recovering = shown(pool, "only")["recovering"]

    calls = [asyncio.create_task(pool.run(scripted(takes(1, "well")))) for _ in range(5)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert recovering
    assert outcomes.count("well") == 1
    assert shown(pool, "only")["level"] == 0
    assert await pool.run(scripted("all of them")) == "all of them"


# Rule 5


async def test_a_timeout_tells_its_own_expiry_from_the_pools_cancel() -> None:
    """Displaced before its time it begins again; cut off it is a timeout, and stays one."""
    pool = Pool(keys("bad", "good"), pick="primary_backup")
    policy = Policy("timed").with_timeout(20).rotating(pool)
    older = asyncio.create_task(pool.run(scripted(takes(10, CooldownResource), "older")))
    await asyncio.sleep(0)
    own = TimeoutError("the operation's own")

    displaced = await policy.call(scripted(takes(15), takes(5, "elsewhere")))
    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(takes(25)))
    with pytest.raises(TimeoutError) as caught:
        await policy.call(scripted(own))
    await asyncio.sleep(100)

    assert (displaced, await older) == ("elsewhere", "older")
    assert caught.value is own
    assert holds_nothing(pool)


# Rule 6


async def test_a_resource_is_given_back_before_any_pause() -> None:
    """Between attempts, the pool's own and a retry stage's, others have it."""
    pool = Pool(keys("only", cap=1), retry_delay=10)
    policy = Policy("patient").with_retry(wait=10).rotating(pool)

    for call in (pool.run, policy.call):
        first = asyncio.create_task(call(scripted(TryAgain, "done")))
        await asyncio.sleep(1)
        held = not holds_nothing(pool)
        meanwhile = await pool.run(scripted("meanwhile"))

        assert (held, meanwhile) == (False, "meanwhile")
        assert await first == "done"


# Rule 7


@pytest.mark.parametrize("failure", [CooldownResource(60), DisableResource("revoked")])
async def test_fail_over_costs_no_pause(failure: Exception) -> None:
    """Not through a pool alone, and not through a retry whose back-off is long."""
    pool = Pool(keys("a", "b", "c", "d"), retry_delay=100)
    policy = Policy("quick").with_retry(wait=100).rotating(pool)

    alone = await pool.run(scripted(failure, "elsewhere"))
    in_policy = await policy.call(scripted(failure, "elsewhere"))

    assert (alone, in_policy, now()) == ("elsewhere", "elsewhere", 0)


# Rule 8


@pytest.mark.parametrize(
    "event", ["slot", "return", "add", "enable", "resize", "disable", "remove", "probe"]
)
async def test_whatever_makes_a_wait_pointless_ends_it(event: str) -> None:
    """In the moment in which it happens."""
    pool = Pool(keys("a", cap=1))
    pool.add(Resource(1, "out"))
    pool.disable("out")
    if event in {"return", "probe"}:
        await rest(pool, 10)
    if event == "probe":
        await asyncio.sleep(10)
    seconds = 10 if event in {"slot", "probe"} else 100
    begin = now()
    holder = asyncio.create_task(pool.using(max_wait=50).run(scripted(takes(seconds, "held"))))
    await asyncio.sleep(0)
    waiter = asyncio.create_task(pool.using(max_wait=500).run(scripted(then="served")))
    await asyncio.sleep(5)

    actions: dict[str, Callable[[], object]] = {
        "add": lambda: pool.add(Resource(2, "new")),
        "enable": lambda: pool.enable("out"),
        "resize": lambda: pool.resize("a", 2),
        "disable": lambda: pool.disable("a"),
        "remove": lambda: pool.remove("a"),
    }
    actions.get(event, lambda: None)()
    if event == "return":
        holder.cancel()
    (outcome,) = await asyncio.gather(waiter, return_exceptions=True)

    assert now() - begin == (10 if event in {"slot", "return", "probe"} else 5)
    if event in {"disable", "remove"}:
        assert isinstance(outcome, NoResourceError)
        assert outcome.case == "all_disabled"
    else:
        assert outcome == "served"
    await asyncio.wait([holder])


async def test_those_who_wait_are_served_in_order_the_urgent_ones_first() -> None:
    """First come, first served within a priority; nobody who comes later takes what comes free."""
    pool = Pool(keys("only", cap=1), max_wait=1000)
    served: list[str] = []

    async def serve(_resource: object, name: str) -> None:
        served.append(name)
        await asyncio.sleep(1)

    calls = [asyncio.create_task(pool.run(serve, "holder"))]
    await asyncio.sleep(0)
    for name, priority in (("a", 0), ("b", 0), ("urgent", 5), ("c", 0), ("late", -1)):
        calls.append(asyncio.create_task(pool.using(priority=priority).run(serve, name)))
    await asyncio.sleep(1)
    calls.append(asyncio.create_task(pool.run(serve, "newcomer")))
    await asyncio.gather(*calls)

    assert served == ["holder", "urgent", "a", "b", "c", "newcomer", "late"]


# Rule 9


async def test_a_waiter_cancelled_in_the_step_of_its_grant_hands_it_on() -> None:
    """What it was granted goes to the next in line, not into nowhere."""
    pool = Pool(keys("only", cap=1), max_wait=100)
    never = scripted(then="never")
    async with pool.lease():
        first = asyncio.create_task(pool.run(never))
        second = asyncio.create_task(pool.run(scripted("second")))
        await asyncio.sleep(5)

    granted = pool.stats().in_flight
    first.cancel()
    result = await second

    assert (granted, result, now()) == (1, "second", 5)
    assert first.cancelled()
    assert never.calls == []
    assert holds_nothing(pool)


# Rule 10


@pytest.mark.parametrize("how", ["alone", "timeout", "timeout and retry", "gate"])
async def test_a_wait_that_cannot_end_before_the_deadline_is_not_begun(how: str) -> None:
    """The caller knows now, and knows when it would have helped; nothing further out was paid."""
    pool = Pool(keys("only"))
    await rest(pool, 60)
    limit = RateLimit(RateLimitOptions(rate="10/h"))
    policies: dict[str, Callable[[], Awaitable[Any]]] = {
        "alone": lambda: pool.using(start_within=30, max_wait=500).run(work),
        "timeout": lambda: Policy("p").with_timeout(30).rotating(pool).call(work),
        "timeout and retry": lambda: (
            Policy("p").with_timeout(30).with_retry(attempts=9).rotating(pool).call(work)
        ),
        "gate": lambda: Policy("p").with_timeout(30).with_stage(limit).rotating(pool).call(work),
    }
    work = scripted(then="never")

    with pytest.raises(NoResourceError) as caught:
        await policies[how]()

    assert (caught.value.case, caught.value.retry_after, now()) == ("deadline", 60, 0)
    assert work.calls == []
    assert limit.snapshot()["available"] == [10]


# Rule 11


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_attempts_are_calls_in_total(attempts: int) -> None:
    """Of a pool, of its view, of a policy over it."""
    pool = Pool(keys(*"abcdefgh"), retry_delay=0, attempts=attempts)
    view = Pool(keys("a"), retry_delay=0).using(attempts=attempts)
    policy = Policy("p").with_retry(attempts=attempts, wait=0).rotating(keys("a"))

    for call in (pool.run, view.run, policy.call):
        work = scripted(then=TryAgain)
        await asyncio.gather(asyncio.ensure_future(call(work)), return_exceptions=True)

        assert len(work.calls) == attempts


# Rule 12


async def test_every_attempt_on_a_resource_pays_and_shows() -> None:
    """Those after a fail-over and those run again after a displacement too."""
    pool = Pool(keys("bad", "good"), pick="primary_backup")
    limit = RateLimit(RateLimitOptions(rate="100/h"))
    breaker = Breaker(BreakerOptions(failures=50, recover_after=1))
    for retry in (True, False):
        pool.enable("bad")
        before = limit.snapshot()["available"][0]
        policy = Policy("p")
        policy = policy.with_retry(wait=0) if retry else policy
        policy = policy.with_stage(limit).with_stage(breaker).rotating(pool)
        works = [scripted(takes(1, CooldownResource(9)), "older"), scripted(takes(5), "younger")]

        calls = [asyncio.ensure_future(policy.call(work)) for work in works]
        await asyncio.gather(*calls, return_exceptions=True)

        made = sum(len(work.calls) for work in works)
        assert made == (4 if retry else 3)
        assert before - limit.snapshot()["available"][0] == made


# Rule 13


@pytest.mark.parametrize("cancel_younger", [True, False])
async def test_a_burst_of_failures_on_one_resource_is_one_incident(cancel_younger: bool) -> None:
    """Fifty uses that began together fail together: one step, one change, one rest."""
    changes: list[Change] = []
    pool = Pool(
        keys("only"),
        cooldown=(10, 1000),
        attempts=1,
        cancel_younger=cancel_younger,
        on_state_change=changes.append,
    )
    work = scripted(then=takes(1, CooldownResource))

    calls = [asyncio.create_task(pool.run(work)) for _ in range(50)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {NoResourceError}
    assert (shown(pool, "only")["level"], shown(pool, "only")["cooling_for"]) == (1, 10)
    assert [(change.old, change.new) for change in changes] == [("ready", "cooling")]
    assert pool.stats().cooldowns == 1


async def test_the_keys_of_one_account_have_one_incident_together() -> None:
    """Uses of all of them fail in a row, over seconds."""
    pool = Pool(
        [Resource(n, f"key-{n}", group="account") for n in range(4)],
        cooldown=(10, 1000),
        attempts=1,
        cancel_younger=False,
    )
    calls = [
        asyncio.create_task(pool.run(scripted(takes(seconds, CooldownResource))))
        for seconds in (1, 2, 3, 4)
    ]
    await asyncio.gather(*calls, return_exceptions=True)

    states = pool.snapshot()["resources"].values()

    assert [(state["level"], state["cooling_for"]) for state in states] == [(1, 10 - 3)] * 4


# Rule 20


async def test_half_open_admits_one_and_old_results_move_nothing() -> None:
    """A success and a failure from before the rest come while the probe is out."""
    pool = Pool(keys("only"), cooldown=(10, 20), cancel_younger=False, attempts=1)
    old = [
        asyncio.create_task(pool.run(scripted(takes(seconds, outcome))))
        for seconds, outcome in ((12, "late success"), (13, CooldownResource), (14, OSError))
    ]
    await asyncio.sleep(0)
    await rest(pool)
    await asyncio.sleep(11)
    work = scripted(takes(10, "well"))
    probe = asyncio.create_task(pool.run(work))
    await asyncio.sleep(4)
    others = [asyncio.create_task(pool.run(scripted(then="never"))) for _ in range(5)]
    refused = await asyncio.gather(*others, return_exceptions=True)
    during = shown(pool, "only")

    await asyncio.gather(*old, probe, return_exceptions=True)

    assert {type(outcome) for outcome in refused} == {NoResourceError}
    assert (during["recovering"], during["level"], during["standing"]) == (True, 1, "probing")
    assert (shown(pool, "only")["recovering"], shown(pool, "only")["level"]) == (False, 0)


# Rule 21


@pytest.mark.parametrize("kind", ["raises", "calls back in", "blocks"])
async def test_what_a_hook_does_changes_nothing_for_the_caller(kind: str) -> None:
    """It is called outside of everything, after the change."""
    seen: list[str] = []

    def hook(change: Change) -> Any:
        seen.append(shown(pool, change.resource)["standing"])
        if kind == "raises":
            raise RuntimeError(change)
        if kind == "blocks":
            return asyncio.sleep(10_000)
        pool.resize(change.resource, 5)
        pool.stats()
        return None

    pool = Pool(keys("a", "b", "c"), on_state_change=hook)

    result = await pool.run(scripted(CooldownResource(5), DisableResource("no"), "served"))

    assert (result, now()) == ("served", 0)
    assert seen == ["cooling", "disabled"]
    assert holds_nothing(pool)


# Rule 25


async def test_what_escalates_comes_down_again() -> None:
    """One success of a use that began after the rest, and the table begins anew."""
    pool = Pool(keys("only"), cooldown=(1, 2, 4, 8))
    levels: list[int] = []

    for _ in range(4):
        await rest(pool)
        levels.append(shown(pool, "only")["level"])
        await asyncio.sleep(8)
    await pool.run(scripted("well"))
    levels.append(shown(pool, "only")["level"])

    assert levels == [1, 2, 3, 4, 0]


# Rule 26

BAD_NUMBERS = [-1, float("nan"), float("inf"), "many", [], object()]


@pytest.mark.parametrize("value", BAD_NUMBERS, ids=repr)
@pytest.mark.parametrize(
    "field",
    [
        "attempts",
        "retry_delay",
        "max_wait",
        "max_cooldown",
        "min_ready",
        "max_queue",
        "failure_penalty",
        "cancel_younger",
        "probe_on_recovery",
        "name",
        "pick",
        "group",
        "dimension",
        "on_state_change",
    ],
)
def test_an_option_that_is_not_allowed_is_refused_when_the_pool_is_built(
    field: str, value: Any
) -> None:
    """The error names the field and the value, and says what is allowed."""
    if field in {"name", "dimension"} and value == "many":
        return

    with pytest.raises(ConfigError, match=f"pool: '{field}' must be") as caught:
        Pool([1], **{field: value})

    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("field", ["id", "max_in_flight", "weight", "origins", "tags", "group"])
def test_a_field_of_a_resource_that_is_not_allowed_is_refused(field: str) -> None:
    """What it was given is named by its type: it may be the value in the wrong place."""
    with pytest.raises(ConfigError, match=f"resource: '{field}' must be") as caught:
        Resource("value", **{field: object()})

    assert "a value of type object" in str(caught.value)


def test_an_unknown_option_is_refused() -> None:
    """A misspelled option never passes in silence."""
    with pytest.raises(TypeError, match="cooldowns"):
        Pool([1], cooldowns=30)  # type: ignore[call-arg]


# Rule 27


def steps_of(work: Callable[[], object]) -> int:
    """Count the function calls that a piece of work makes, in Python and in C."""
    count = 0

    def profile(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1

    # Whoever listens to the collector takes steps too.
    gc.disable()
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def drive(pool: Pool[int], calls: int) -> int:
    """Count what so many calls cost, one after another, the first one left out."""
    work = scripted(then="done")

    async def main() -> int:
        await pool.run(work)
        run = [pool.run(work) for _ in range(calls)]
        return steps_of(lambda: [step(coroutine) for coroutine in run])

    def step(coroutine: Any) -> None:
        with suppress(StopIteration):
            coroutine.send(None)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


@pytest.mark.parametrize("pick", PICKERS)
def test_a_call_costs_no_more_with_many_resources(pick: str) -> None:
    """A thousand times as many: at most twice the steps, whoever picks."""
    few, many = (Pool(range(1, size + 1), pick=pick) for size in (10, 10_000))

    assert drive(many, 50) <= 2 * drive(few, 50)


def test_a_call_costs_no_more_while_next_to_all_others_rest() -> None:
    """Who is not ready is not looked at."""
    few, many = Pool(range(1, 11)), Pool(range(1, 2001))
    for pool in (few, many):
        for member in [*pool.machine.members.values()][:-1]:
            lease = pool.machine.take(pool.machine.main, None, 0.0)
            assert lease is not None
            assert lease.candidate.member is member
            lease.cooldown(1e6)
            pool.give_back(lease)

    assert drive(many, 50) <= 2 * drive(few, 50)


async def test_one_that_comes_free_wakes_one() -> None:
    """A thousand wait: the hand-over costs what it costs with ten."""
    costs: list[int] = []
    for waiters in (10, 1000):
        pool = Pool(keys("only", cap=1), max_wait=10_000)
        holder = asyncio.create_task(pool.run(scripted(takes(5))))
        await asyncio.sleep(0)
        work = scripted(then=takes(1000))
        calls = [asyncio.create_task(pool.run(work)) for _ in range(waiters)]
        await asyncio.sleep(1)
        (lease,) = pool.machine.members["only"].candidates[0].leases.values()

        costs.append(steps_of(lambda pool=pool, lease=lease: pool.give_back(lease)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert len(work.calls) == 1
        for call in (holder, *calls):
            call.cancel()
        await asyncio.wait([holder, *calls])

    assert costs[1] <= 1.2 * costs[0]


async def test_nothing_idle_polls() -> None:
    """A day in which calls wait for a slot and for a rest takes a handful of loop steps."""
    slots = Pool(keys("only", cap=1), max_wait=2e5)
    rests = Pool(keys("only"), max_wait=2e5)
    holder = asyncio.create_task(slots.run(scripted(takes(1e5))))
    await rest(rests, 1e5)
    waiting = [
        asyncio.create_task(pool.run(scripted("served")))
        for pool in (slots, rests)
        for _ in range(10)
    ]
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    await asyncio.sleep(1)
    before = loop.steps

    await asyncio.sleep(86_400)
    taken = loop.steps - before

    assert taken <= 5
    await asyncio.gather(holder, *waiting)


# Rule 28


async def test_what_befalls_a_resource_or_a_call_is_an_event_with_its_reason() -> None:
    """A rest, its end, a disable, a displaced attempt, a refusal."""
    log = EventLog()
    pool = Pool(keys("a", "b"), pick="primary_backup", name="keys")
    policy = Policy("told", observers=[log]).with_retry(attempts=2, wait=0).rotating(pool)
    older = scripted(takes(1, CooldownResource(60, reason="429")), DisableResource("revoked"))

    calls = [policy.call(older), policy.call(scripted(takes(5), takes(100)))]
    outcomes = asyncio.gather(*map(asyncio.ensure_future, calls), return_exceptions=True)
    await asyncio.sleep(2)
    with pytest.raises(NoResourceError):
        await policy.using(attempts=1, timeout=10).call(scripted(then="never"))
    pool.enable("b", "renewed")
    await outcomes

    told = [(e.pool, e.resource, e.new, e.reason) for e in log.of(ResourceChanged)]
    assert told[:3] == [
        ("keys", "a", "cooling", "429"),
        ("keys", "b", "disabled", "revoked"),
        ("keys", "b", "ready", "renewed"),
    ]
    assert "cancelled" in [event.verdict.value for event in log.of(AttemptEnded)]
    assert "rotation" in [event.stage for event in log.of(CallRejected)]


async def test_a_resource_that_is_taken_out_leaves_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The call goes on elsewhere and nobody sees the refusal; the reason is not lost."""
    pool = Pool(keys("a", "b"), name="keys")

    with caplog.at_level(logging.WARNING, logger="penstock"):
        result = await pool.run(scripted(DisableResource("revoked"), "served"))

    assert result == "served"
    assert [record.getMessage() for record in caplog.records] == [
        "pool 'keys': resource 'a' is disabled: revoked"
    ]
