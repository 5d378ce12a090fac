from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from penstock import (
    CallTimeoutError,
    CooldownResource,
    DisableResource,
    NoResourceError,
    Policy,
    PolicyError,
    Pool,
    Resource,
    TryAgain,
)
from penstock.call import current_call, current_lease, current_resource
from penstock.events import AttemptStarted, CallRejected, ResourceChanged, WaitEnded
from penstock.pools.administration import Administered
from penstock.pools.candidate import Candidate
from penstock.pools.given import resources_of
from penstock.pools.lease import Lease
from penstock.pools.machine import PoolMachine
from penstock.pools.options import PoolOptions
from penstock.pools.picking import picker_of
from penstock.stages.rotation import Rotation
from penstock.stages.rotation.machine import RotationMachine
from penstock.testing import (
    EventLog,
    Sweep,
    VirtualTimeLoop,
    cancel_sweep,
    run,
    scripted,
    takes,
)
from penstock.verdict import Verdict, VerdictKind

pytestmark = pytest.mark.virtual_time


# The machine


class Bench:
    """A rotation's machine over a few resources, and the uses that a test begins by hand."""

    def __init__(self, *ids: str, penalty: float | None = None, **options: Any) -> None:
        made = PoolOptions(**{"pick": "primary_backup", **options})
        self.pool = PoolMachine(None, made, picker_of(made.pick, lambda: 0.5))
        for resource in resources_of(dict.fromkeys(ids or ("a", "b"), "value")):
            self.pool.add(resource)
        self.machine = RotationMachine(self.pool, made.max_cooldown, penalty)

    def begin(self, now: float = 0.0) -> Lease:
        lease = self.pool.take(self.pool.main, None, now)
        assert lease is not None
        return lease

    def fail(
        self, lease: Lease, kind: VerdictKind, after: float | None = None, now: float = 0.0
    ) -> None:
        self.machine.fail(lease, OSError(), Verdict(kind, after), now)
        self.pool.give_back(lease, now)

    def succeed(self, lease: Lease, now: float = 0.0) -> None:
        self.machine.succeed(lease, now)
        self.pool.give_back(lease, now)

    def candidate(self, name: str = "a") -> Candidate:
        return self.pool.main.candidates[name]


@pytest.mark.parametrize(
    ("kind", "after", "standing", "until"),
    [
        (VerdictKind.RATE_LIMITED, None, "cooling", 30),
        (VerdictKind.RATE_LIMITED, 7, "cooling", 7),
        (VerdictKind.QUOTA_EXHAUSTED, None, "disabled", None),
        (VerdictKind.QUOTA_EXHAUSTED, 50, "cooling", 50),
        (VerdictKind.AUTH, None, "disabled", None),
        (VerdictKind.AUTH, 50, "disabled", None),
        (VerdictKind.OVERLOADED, None, "ready", None),
        (VerdictKind.OVERLOADED, 5, "cooling", 5),
        (VerdictKind.TRANSIENT, None, "ready", None),
        (VerdictKind.TRANSIENT, 5, "cooling", 5),
        (VerdictKind.TIMEOUT, None, "ready", None),
        (VerdictKind.CALLER_BUG, 5, "ready", None),
        (VerdictKind.UNKNOWN, 5, "ready", None),
        (VerdictKind.CANCELLED, None, "ready", None),
    ],
)
def test_what_a_failure_does_to_its_resource(
    kind: VerdictKind, after: float | None, standing: str, until: float | None
) -> None:
    """The rotation column of the verdict table, with and without a stated time."""
    bench = Bench()

    bench.fail(bench.begin(), kind, after)

    assert bench.candidate().standing.value == standing
    assert bench.candidate().cooling_until == until


def test_a_servers_hint_is_capped() -> None:
    """A server that asks for a day is asked again after ``max_cooldown``."""
    bench = Bench(max_cooldown=100)

    bench.fail(bench.begin(), VerdictKind.RATE_LIMITED, 86_400)

    assert bench.candidate().cooling_until == 100


def test_what_the_users_own_code_asks_for_is_not_capped() -> None:
    """``CooldownResource(seconds)`` is meant as it is written."""
    bench = Bench(max_cooldown=100)
    lease = bench.begin()

    verdict = Verdict(VerdictKind.RATE_LIMITED, 86_400)
    bench.machine.fail(lease, CooldownResource(86_400), verdict, 0)

    assert bench.candidate().cooling_until == 86_400


def test_a_rejection_from_further_in_is_nobodys_fault() -> None:
    """Nothing was sent: the resource has not been asked."""
    bench = Bench()
    lease = bench.begin()

    bench.machine.fail(lease, OSError(), Verdict(VerdictKind.RATE_LIMITED, 9, sent=False), 0)

    assert bench.candidate().standing.value == "ready"
    assert bench.candidate().member.counts.failures == 1


def test_try_again_blames_nobody() -> None:
    """It neither rests the resource nor counts as a slow answer."""
    bench = Bench(penalty=5)
    lease = bench.begin()

    bench.machine.fail(lease, TryAgain(after=60), Verdict(VerdictKind.TRANSIENT, 60), 0)

    assert bench.candidate().standing.value == "ready"
    assert bench.candidate().latency == 0


def test_a_soft_failure_leaves_the_last_resource_ready() -> None:
    """A bad hour of the service does not empty the pool; a rate limit does."""
    bench = Bench()

    bench.fail(bench.begin(), VerdictKind.OVERLOADED, 60)
    bench.fail(bench.begin(), VerdictKind.OVERLOADED, 60)
    soft = [bench.candidate(name).standing.value for name in "ab"]
    bench.fail(bench.begin(), VerdictKind.RATE_LIMITED, 60)

    assert soft == ["cooling", "ready"]
    assert bench.pool.main.is_shut


@pytest.mark.parametrize("kind", [VerdictKind.CALLER_BUG, VerdictKind.UNKNOWN, None])
def test_an_answer_after_the_rest_shows_health(kind: VerdictKind | None) -> None:
    """A success, a refused argument: the resource has answered, and the table starts anew."""
    bench = Bench("a")
    bench.fail(bench.begin(), VerdictKind.RATE_LIMITED)
    lease = bench.begin(now=30)

    if kind is None:
        bench.succeed(lease, now=31)
    else:
        bench.fail(lease, kind, now=31)

    assert bench.candidate().level == 0
    assert not bench.candidate().recovering


def test_an_answer_to_a_call_from_before_shows_nothing() -> None:
    """It began before the rate limit, and tells nothing of what comes after it."""
    bench = Bench("a", cancel_younger=False)
    early, failing = bench.begin(), bench.begin()
    bench.fail(failing, VerdictKind.RATE_LIMITED)
    bench.pool.expire(bench.pool.main, 30)

    bench.succeed(early, now=31)

    assert (bench.candidate().level, bench.candidate().recovering) == (1, True)


def test_a_probe_that_was_cancelled_goes_back() -> None:
    """The next call is the probe; nothing was learnt."""
    bench = Bench("a")
    bench.fail(bench.begin(), VerdictKind.RATE_LIMITED)
    probe = bench.begin(now=30)
    while_out = bench.candidate().standing.value

    bench.fail(probe, VerdictKind.CANCELLED, now=31)

    assert while_out == "probing"
    assert (bench.candidate().standing.value, bench.candidate().recovering) == ("ready", True)
    assert bench.candidate().member.counts.cancelled == 1


def test_only_a_picker_that_reads_latencies_is_given_some() -> None:
    """A success counts as it took, a failure as the penalty at least."""
    asked, unasked = Bench(penalty=5), Bench()

    for bench in (asked, unasked):
        bench.succeed(bench.begin(now=1), now=3)
        slow = bench.candidate().latency
        bench.fail(bench.begin(now=3), VerdictKind.TIMEOUT, now=4)
        assert (slow, bench.candidate().latency) == ((2, 5) if bench is asked else (0, 0))


@pytest.mark.parametrize(
    ("kind", "sent", "latency"),
    [
        (VerdictKind.RATE_LIMITED, True, 5),
        (VerdictKind.RATE_LIMITED, False, 0),
        (VerdictKind.OVERLOADED, True, 5),
        (VerdictKind.TRANSIENT, True, 5),
        (VerdictKind.UNKNOWN, True, 0),
        (VerdictKind.CANCELLED, True, 0),
    ],
)
def test_what_counts_as_a_slow_answer(kind: VerdictKind, sent: bool, latency: float) -> None:
    """A rate limit does: after its rest, who has little room must not look as good as the rest."""
    bench = Bench(penalty=5)

    bench.machine.fail(bench.begin(), OSError(), Verdict(kind, sent=sent), 1)

    assert bench.candidate().latency == latency


# The stage


def _stage_of(policy: Policy) -> Rotation:
    stage = policy.stages[-1]
    assert isinstance(stage, Rotation)
    return stage


def _pool_of(policy: Policy) -> Administered:
    return _stage_of(policy).pool


def _assert_balanced(pool: Administered | Policy) -> None:
    """Nothing is leased, probed or waited for, and every use has ended in exactly one way."""
    if isinstance(pool, Policy):
        pool = _pool_of(pool)
    for member in pool.machine.members.values():
        assert member.in_flight == 0, member.id
        for candidate in member.candidates:
            assert (candidate.in_flight, candidate.leases, candidate.probe) == (0, {}, None)
    stats = pool.stats()
    assert (stats.waiting, stats.in_flight, pool.machine.unfinished()) == (0, 0, 0)
    assert stats.successes >= 0
    ended = stats.successes + stats.failures + stats.cancelled + stats.displaced
    assert stats.uses == ended


def _keys(count: int = 2, **options: Any) -> Pool[str]:
    """Keys a, b, ... of which the first that is ready serves."""
    return Pool({name: name.upper() for name in "abcdef"[:count]}, pick="primary_backup", **options)


def _ids(operation: Any) -> list[str]:
    return [call.args[0].id for call in operation.calls]


def _start(*calls: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(call) for call in calls]


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _counting(call: Awaitable[Any]) -> tuple[Any, int]:
    """Return a call's result and the cancel requests that are left in its task."""
    task = asyncio.current_task()
    assert task is not None
    result = await call
    # A cancel that is still on its way would come here.
    await asyncio.sleep(0)
    return result, task.cancelling()


async def test_each_attempt_is_given_a_resource() -> None:
    """The resource comes before the caller's own arguments, and the books say who served."""
    policy = Policy("t").rotating({"a": "A", "b": "B"})
    search = scripted(then="found")

    results = [await policy.call(search, "query", page=n) for n in (1, 2)]

    assert results == ["found", "found"]
    assert _ids(search) == ["a", "b"]
    assert [(c.args[1:], dict(c.kwargs)) for c in search.calls] == [
        (("query",), {"page": 1}),
        (("query",), {"page": 2}),
    ]
    _assert_balanced(policy)


async def test_the_value_can_be_handed_over_by_keyword() -> None:
    """The operation of an SDK takes a key and not a resource."""
    policy = Policy("t").rotating(["A"], inject="api_key")
    search = scripted("found")

    await policy.call(search, "query")

    assert (search.calls[0].args, dict(search.calls[0].kwargs)) == (("query",), {"api_key": "A"})


async def test_the_operation_can_ask_for_its_resource() -> None:
    """With ``inject=None`` nothing is handed over, and the value goes only where it may."""
    origins = ["https://api.example.com"]
    policy = Policy("t").rotating([Resource("A", "a", origins=origins)], inject=None)

    async def search(query: str) -> str:
        assert current_call().resource is current_resource() is current_lease().resource
        return f"{query} {current_resource().value_for('https://api.example.com/v1')}"

    async def leak() -> str:
        return current_resource().value_for("https://elsewhere.example/")

    assert await policy.call(search, "query") == "query A"
    with pytest.raises(PolicyError, match=r"'a' must not be sent to https://elsewhere\.example"):
        await policy.call(leak)
    with pytest.raises(PolicyError, match="no call under way"):
        current_resource()


async def test_an_ordinary_failure_reaches_the_caller_after_one_attempt() -> None:
    """The same object, and the resource goes on serving."""
    policy = Policy("t").rotating(_keys())
    failure = ConnectionError("lost")
    search = scripted(failure, "found")

    with pytest.raises(ConnectionError) as raised:
        await policy.call(search)
    await policy.call(search)

    assert raised.value is failure
    assert _ids(search) == ["a", "a"]
    _assert_balanced(policy)


async def test_an_operation_that_fails_before_its_first_await_gives_its_resource_back() -> None:
    """Wrong arguments raise while the coroutine is being made."""
    policy = Policy("t").rotating(_keys(max_queue=0))

    async def search(key: object) -> None: ...

    with pytest.raises(TypeError, match="unexpected keyword"):
        await policy.call(search, query="x")  # type: ignore[call-arg]

    _assert_balanced(policy)
    assert _pool_of(policy).stats().failures == 1


@pytest.mark.parametrize("how", ["success", "failure", "displaced"])
async def test_nothing_is_left_behind_for_the_collector(how: str) -> None:
    """Call, lease and failure are gone as soon as the call has ended: there is no cycle."""
    policy = Policy("t").rotating(pool := _keys())
    gone: list[weakref.ref[Any]] = []

    class Big(Exception):  # noqa: N818 - stands for any failure
        def __init__(self) -> None:
            gone.append(weakref.ref(self))

    async def work(key: Resource[str], _big: Big) -> None:
        if how == "displaced" and key.id == "a":
            # The timer of a sleep would keep the call's context until it is due.
            await asyncio.get_running_loop().create_future()
        if how != "success":
            raise Big

    async def caller() -> None:
        with contextlib.suppress(Big):
            await policy.call(work, Big())

    gc.collect()
    gc.disable()
    try:
        async with pool.lease() as older:
            asyncio.get_running_loop().call_later(1, older.cooldown, 30)
            await caller()
            # Until its next step a cancelled task keeps the CancelledError.
            await asyncio.sleep(0)
        assert [ref() for ref in gone] == [None] * (1 if how == "success" else 2)
    finally:
        gc.enable()
    _assert_balanced(pool)


# Displacement: own and foreign cancels


async def test_a_younger_call_moves_to_another_resource_at_once() -> None:
    """The older one's failure is its own; who had come later is not asked to pay for it."""
    policy = Policy("t").rotating(pool := _keys())
    culprit = scripted(takes(1, CooldownResource(30)))
    victim = scripted(takes(5, "never"), takes(1, "moved"))

    failure, result = await asyncio.gather(
        policy.call(culprit), _counting(policy.call(victim)), return_exceptions=True
    )

    assert isinstance(failure, CooldownResource)
    assert result == ("moved", 0)
    assert (_ids(victim), victim.times) == (["a", "b"], [0, 1])
    assert pool.stats().displaced == 1
    _assert_balanced(pool)


async def test_an_older_call_runs_on() -> None:
    """It was accepted before the limit was met."""
    policy = Policy("t").rotating(_keys())
    older = scripted(takes(5, "kept"))
    culprit = scripted(takes(1, DisableResource("revoked")))

    result, failure = await asyncio.gather(
        policy.call(older), policy.call(culprit), return_exceptions=True
    )

    assert (result, type(failure)) == ("kept", DisableResource)
    assert len(older.calls) == 1
    _assert_balanced(policy)


async def test_younger_calls_run_on_where_that_is_switched_off() -> None:
    """``cancel_younger=False`` leaves it to them to find out."""
    policy = Policy("t").rotating(_keys(cancel_younger=False))
    younger = scripted(takes(5, "kept"))

    await asyncio.gather(
        policy.call(scripted(takes(1, CooldownResource))),
        policy.call(younger),
        return_exceptions=True,
    )

    assert _ids(younger) == ["a"]
    _assert_balanced(policy)


async def test_a_resource_taken_out_by_hand_displaces_nobody() -> None:
    """Disable and remove let running work finish."""
    pool = _keys(3)
    policy = Policy("t").rotating(pool)
    search = scripted(then=takes(2, "kept"))
    tasks = _start(policy.call(search))
    await asyncio.sleep(1)

    pool.disable("a")
    tasks += _start(policy.call(search))
    await asyncio.sleep(0)
    pool.remove("b")

    assert await asyncio.gather(*tasks) == ["kept", "kept"]
    assert _ids(search) == ["a", "b"]
    _assert_balanced(pool)


@pytest.mark.parametrize("own_first", [True, False])
@pytest.mark.parametrize("swallowed_before", [0, 1])
async def test_a_foreign_cancel_wins_in_the_same_step(
    own_first: bool, swallowed_before: int
) -> None:
    """Whichever comes first, the caller ends cancelled and the operation is not run again."""
    policy = Policy("t").rotating(pool := _keys())
    search = scripted(takes(5, "never"))

    async with pool.lease() as older:
        (caller,) = _start(_after_swallowing(swallowed_before, policy.call(search)))
        await asyncio.sleep(1)
        if own_first:
            older.cooldown(30)
        caller.cancel()
        if not own_first:
            older.cooldown(30)
        await asyncio.wait([caller])

    assert caller.cancelled()
    assert len(search.calls) == 1
    assert (pool.stats().cancelled, pool.stats().displaced) == (1, 0)
    _assert_balanced(pool)


async def _after_swallowing(times: int, call: Awaitable[Any]) -> Any:
    task = asyncio.current_task()
    assert task is not None
    for _ in range(times):
        try:
            task.cancel()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            # Without ``uncancel``, as most code does.
            pass
    assert task.cancelling() == times
    return await call


async def test_a_task_that_once_swallowed_a_cancel_works_as_any_other() -> None:
    """Own cancels are told by the change of the count, not by its value."""
    policy = Policy("t").rotating(pool := _keys())
    search = scripted(takes(5, "never"), takes(1, "moved"))

    async with pool.lease() as older:
        (caller,) = _start(_after_swallowing(2, _counting(policy.call(search))))
        await asyncio.sleep(1)
        older.cooldown(30)
        result = await caller

    assert result == ("moved", 2)
    assert _ids(search) == ["a", "b"]
    _assert_balanced(pool)


async def test_an_operation_that_swallows_the_cancel_keeps_its_result() -> None:
    """It has ended well, and no cancel request is left behind in its task."""
    policy = Policy("t").rotating(pool := _keys())

    async def stubborn(_key: object) -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return "kept"
        return "never"

    async with pool.lease() as older:
        (caller,) = _start(_counting(policy.call(stubborn)))
        await asyncio.sleep(1)
        older.cooldown(30)
        result = await caller

    assert result == ("kept", 0)
    assert (pool.stats().displaced, pool.stats().successes) == (0, 2)
    _assert_balanced(pool)


async def test_an_operation_that_keeps_running_is_waited_for() -> None:
    """It holds its resource until it ends; it is not cancelled twice for one loss."""
    policy = Policy("t").rotating(pool := _keys())
    cancels: list[float] = []

    async def stubborn(_key: object) -> str:
        while _now() < 5:
            try:
                await asyncio.sleep(5 - _now())
            except asyncio.CancelledError:
                cancels.append(_now())
        return "kept"

    async with pool.lease() as older:
        (caller,) = _start(_counting(policy.call(stubborn)))
        await asyncio.sleep(1)
        older.cooldown(30)
        await asyncio.sleep(1)
        older.cooldown(300)
        held = pool.snapshot()["resources"]["a"]["in_flight"]
        result = await caller

    assert (result, cancels, held) == (("kept", 0), [1], 2)
    _assert_balanced(pool)


async def test_an_operation_that_turns_the_cancel_into_an_error_has_failed() -> None:
    """The error is what the caller gets, and its cause is the operation's affair."""
    policy = Policy("t").rotating(pool := _keys())

    async def converting(_key: object) -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            raise ConnectionError("closed under it") from None

    async def caller() -> int:
        with pytest.raises(ConnectionError, match="closed under it"):
            await policy.call(converting)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return -1 if task is None else task.cancelling()

    async with pool.lease() as older:
        (task,) = _start(caller())
        await asyncio.sleep(1)
        older.cooldown(30)
        left = await task

    assert left == 0
    assert (pool.stats().failures, pool.stats().displaced) == (1, 0)
    _assert_balanced(pool)


async def test_an_operation_that_cancels_itself_ends_its_call() -> None:
    """Nobody displaced it, so nobody runs it again; the resource is not to blame."""
    policy = Policy("t").with_retry(3, wait=0).rotating(pool := _keys())
    search = scripted(asyncio.CancelledError)

    with pytest.raises(asyncio.CancelledError):
        await policy.call(search)

    assert len(search.calls) == 1
    assert (pool.stats().cancelled, pool.stats().failures) == (1, 0)
    _assert_balanced(pool)


async def test_an_exit_passes_and_gives_the_resource_back() -> None:
    """What is no Exception ends the call as it is."""
    policy = Policy("t").with_retry(3, wait=0).rotating(pool := _keys())

    class Exit(BaseException):
        pass

    with pytest.raises(Exit):
        await policy.call(scripted(Exit))

    _assert_balanced(pool)


async def test_a_lease_that_its_own_task_displaces_runs_on() -> None:
    """A task cannot be stopped by itself: the cancel would come at some later await."""
    policy = Policy("t").rotating(pool := _keys())

    async with pool.lease() as older:

        async def search(_key: object) -> str:
            older.cooldown(30)
            return "kept"

        result = await _counting(policy.call(search))

    assert result == ("kept", 0)
    assert pool.stats().displaced == 0
    _assert_balanced(pool)


async def test_an_attempt_can_cool_its_own_resource_and_go_on() -> None:
    """Younger ones move; the one that said so keeps its result."""
    policy = Policy("t").rotating(pool := _keys())

    async def search(_key: object) -> str:
        await asyncio.sleep(1)
        current_lease().cooldown(30, reason="nearly empty")
        await asyncio.sleep(1)
        return "kept"

    younger = scripted(takes(5, "never"), takes(1, "moved"))

    results = await asyncio.gather(policy.call(search), policy.call(younger))

    assert results == ["kept", "moved"]
    assert _ids(younger) == ["a", "b"]
    _assert_balanced(pool)


async def test_a_displaced_call_gives_up_what_it_waits_for_further_in() -> None:
    """Given an operation that stands in another policy's line, then its place is free again."""
    inner = Policy("inner").with_concurrency(1)
    outer = Policy("outer").rotating(pool := _keys())
    work = scripted(then=takes(5, "done"))

    async def search(_key: object) -> str:
        return await inner.call(work)

    tasks = _start(inner.call(work))
    async with pool.lease() as older:
        tasks += _start(_counting(outer.call(search)))
        await asyncio.sleep(1)
        older.cooldown(30)
        await asyncio.sleep(0)
        facts = inner.snapshot()["stages"][0]
        results = await asyncio.gather(*tasks)

    assert results == ["done", ("done", 0)]
    assert (facts["in_flight"], facts["waiting"]) == (1, 1)
    assert work.times == [0, 5]
    _assert_balanced(pool)


@pytest.mark.parametrize(
    ("lost", "outer_ids", "inner_ids"),
    [
        ("outer", ["a", "b"], ["a", "a"]),
        ("inner", ["a"], ["a", "b"]),
        ("both", ["a", "b"], ["a", "b"]),
        ("both, inner first", ["a", "b"], ["a", "b"]),
    ],
)
async def test_two_leases_in_one_task_are_told_apart(
    lost: str, outer_ids: list[str], inner_ids: list[str]
) -> None:
    """Whichever pool cancels the task, that pool's attempt is run again."""
    servers, keys = _keys(), _keys()
    outer, inner = Policy("outer").rotating(servers), Policy("inner").rotating(keys)
    used: list[str] = []
    work = scripted(then=takes(5, "done"))

    async def on_server(server: Resource[str]) -> str:
        used.append(str(server.id))
        return await inner.call(work)

    async with servers.lease() as older_server, keys.lease() as older_key:
        (caller,) = _start(_counting(outer.call(on_server)))
        await asyncio.sleep(1)
        for older in [older_key, older_server] if "first" in lost else [older_server, older_key]:
            if "both" in lost or older is (older_server if lost == "outer" else older_key):
                older.cooldown(30)
        result = await caller

    assert result == ("done", 0)
    assert (used, _ids(work)) == (outer_ids, inner_ids)
    _assert_balanced(servers)
    _assert_balanced(keys)


async def test_a_call_of_the_same_pool_inside_a_call_is_displaced_alone() -> None:
    """The outer attempt is older than the inner one of the same key, and runs on."""
    policy = Policy("t").rotating(pool := _keys())
    outer_ids: list[str] = []
    inner = scripted(takes(5, "never"), takes(1, "moved"))

    async def outer(key: Resource[str]) -> str:
        outer_ids.append(str(key.id))
        return await policy.call(inner)

    (caller,) = _start(_counting(policy.call(outer)))
    await asyncio.sleep(0)
    pool.machine.serial += 1  # the culprit stands between the two
    culprit = next(iter(pool.machine.main.candidates["a"].leases.values()))
    culprit.cooldown(30)

    assert await caller == ("moved", 0)
    assert (outer_ids, _ids(inner)) == (["a"], ["a", "b"])
    _assert_balanced(pool)


async def test_a_call_is_displaced_as_often_as_it_loses_its_resource() -> None:
    """Three keys fail one after another under it, and it ends on the fourth."""
    policy = Policy("t").rotating(pool := _keys(4))
    victim = scripted(then=takes(10, "done"))
    (caller,) = _start(_counting(policy.call(victim)))
    await asyncio.sleep(0)
    for lost in "abc":
        await asyncio.sleep(1)
        candidate = pool.machine.main.candidates[lost]
        (lease,) = candidate.leases.values()
        lease.displaced = "test"
        lease.is_cancelled = True
        assert lease.task is not None
        lease.task.cancel()
        pool.disable(lost)

    assert await caller == ("done", 0)
    assert _ids(victim) == ["a", "b", "c", "d"]
    _assert_balanced(pool)


async def test_a_lease_lost_in_the_step_in_which_it_was_handed_over_is_not_used() -> None:
    """The waiter never starts on a resource that is already resting; it waits on."""
    keys = [Resource("A", "a", max_in_flight=2)]
    pool = Pool(keys, cooldown=30, probe_on_recovery=False)
    policy = Policy("t").with_timeout(100).rotating(pool)
    waiting = scripted("served")

    async with pool.lease() as older:

        async def other(_key: object) -> None:
            await asyncio.sleep(1)
            # It runs between the step in which the slot is handed on and the waiter's next one.
            asyncio.get_running_loop().call_soon(older.cooldown, 30)

        first = asyncio.ensure_future(policy.call(other))
        await asyncio.sleep(0)
        result = await _counting(policy.call(waiting))
        await first

    assert result == ("served", 0)
    assert waiting.times == [31]
    assert pool.stats().displaced == 1
    _assert_balanced(pool)


# Waiting


async def test_without_a_deadline_nobody_waits() -> None:
    """It could be for ever: the caller is told what is the matter, and when to come back."""
    log = EventLog()
    policy = Policy("search", observers=[log]).rotating({"a": "A"}, cooldown=30)
    search = scripted(CooldownResource)
    with pytest.raises(CooldownResource):
        await policy.call(search)

    with pytest.raises(NoResourceError) as refusal:
        await policy.call(search)

    assert (refusal.value.case, refusal.value.retry_after) == ("all_cooling", 30)
    assert "'search'" in str(refusal.value)
    assert str(refusal.value).endswith("1 cooling down (the first is back in 30 s)")
    assert log.only(CallRejected).stage == "rotation"
    assert len(search.calls) == 1


async def test_a_deadline_lets_a_call_wait_for_a_return() -> None:
    """It is served in the very moment in which the rest ends."""
    log = EventLog()
    policy = Policy("t", observers=[log]).with_timeout(60).rotating({"a": "A"}, cooldown=30)
    search = scripted(CooldownResource, "found")
    with pytest.raises(CooldownResource):
        await policy.call(search)

    assert await policy.call(search) == "found"

    assert search.times == [0, 30]
    assert (log.only(WaitEnded).stage, log.only(WaitEnded).seconds) == ("cooldown", 30)
    assert [(e.old, e.new) for e in log.of(ResourceChanged)] == [
        ("ready", "cooling"),
        ("cooling", "ready"),
    ]
    assert [e.resource for e in log.of(AttemptStarted)] == ["a", "a"]


async def test_a_wait_that_cannot_end_in_time_is_not_begun() -> None:
    """The caller has its answer now and not at the deadline."""
    policy = Policy("t").with_timeout(20).rotating({"a": "A"}, cooldown=30)
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource))

    with pytest.raises(NoResourceError, match="in the time that is left") as refusal:
        await policy.call(scripted("never"))

    assert (refusal.value.case, _now()) == ("deadline", 0)


async def test_max_wait_bounds_the_wait_for_a_slot() -> None:
    """After that the caller is refused, and its place in line is free."""
    keys = [Resource("A", "a", max_in_flight=1)]
    policy = Policy("t").rotating(keys, max_wait=2)
    tasks = _start(policy.call(scripted(takes(10, "done"))))
    await asyncio.sleep(1)

    with pytest.raises(NoResourceError) as refusal:
        await policy.call(scripted("never"))

    assert (_now(), refusal.value.case) == (3, "deadline")
    assert _pool_of(policy).stats().waiting == 0
    assert await asyncio.gather(*tasks) == ["done"]
    _assert_balanced(policy)


async def test_a_full_queue_refuses() -> None:
    """``max_queue`` calls wait, the next one does not."""
    keys = [Resource("A", "a", max_in_flight=1)]
    policy = Policy("t").with_timeout(100).rotating(keys, max_queue=1)
    search = scripted(then=takes(5, "done"))
    tasks = _start(policy.call(search), policy.call(search))
    await asyncio.sleep(1)

    with pytest.raises(NoResourceError) as refusal:
        await policy.call(search)

    assert (refusal.value.case, _now()) == ("queue_full", 1)
    assert await asyncio.gather(*tasks) == ["done", "done"]
    _assert_balanced(policy)


async def test_slots_go_out_in_order_and_by_priority() -> None:
    """First come, first served within one priority."""
    policy = Policy("t").with_timeout(100).rotating([Resource("A", "a", max_in_flight=1)])
    search = scripted(then=takes(1))

    await asyncio.gather(
        policy.call(search, "under way"),
        policy.call(search, "normal"),
        policy.using(priority=-1).call(search, "low"),
        policy.using(priority=5).call(search, "high"),
        policy.call(search, "normal too"),
    )

    order = [call.args[1] for call in search.calls]
    assert order == ["under way", "high", "normal", "normal too", "low"]
    assert search.most_in_flight == 1


async def test_one_call_probes_a_resource_that_comes_back() -> None:
    """Ten wait for it; one is served until it has succeeded, then all are."""
    policy = Policy("t").with_timeout(100).rotating({"a": "A"}, cooldown=30)
    search = scripted(CooldownResource, then=takes(2, "found"))
    with pytest.raises(CooldownResource):
        await policy.call(search)

    await asyncio.gather(*(policy.call(search) for _ in range(10)))

    assert search.times == [0, 30, *[32] * 9]
    _assert_balanced(policy)


async def test_those_who_wait_in_vain_are_told_at_once() -> None:
    """The last resource is disabled: nobody waits for a return that never comes."""
    policy = Policy("t").with_timeout(100).rotating(pool := _keys(1, cooldown=30))
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource))
    (waiter,) = _start(policy.call(scripted("never")))
    await asyncio.sleep(5)

    pool.disable("a")

    with pytest.raises(NoResourceError) as refusal:
        await waiter
    assert (refusal.value.case, _now()) == ("all_disabled", 5)
    _assert_balanced(pool)


@pytest.mark.parametrize("what", ["add", "enable", "resize"])
async def test_a_waiter_is_served_by_whatever_comes(what: str) -> None:
    """A new resource, an enabled one, a raised cap: all of them end the wait."""
    pool = Pool([Resource("A", "a", max_in_flight=1), "B"])
    pool.disable("2")
    policy = Policy("t").with_timeout(100).rotating(pool)
    tasks = _start(policy.call(scripted(takes(50))), policy.call(waiting := scripted("served")))
    await asyncio.sleep(5)

    change: dict[str, Callable[[], object]] = {
        "add": lambda: pool.add("C", id="c"),
        "enable": lambda: pool.enable("2"),
        "resize": lambda: pool.resize("a", 2),
    }
    change[what]()
    await asyncio.gather(*tasks)

    assert waiting.times == [5]
    _assert_balanced(pool)


# Overrides, dimensions, groups


async def test_calls_with_one_key_stick_to_one_resource() -> None:
    """``using(key=)`` is what ``sticky`` reads; another key may go elsewhere."""
    policy = Policy("t").rotating(dict.fromkeys("abcdef", "value"), pick="sticky")
    search = scripted(then="found")

    for user in ("ann", "bob", "cid", "dan", "eve", "ann", "bob", "cid", "dan", "eve"):
        await policy.using(key=user).call(search)

    assert _ids(search)[:5] == _ids(search)[5:]
    assert len(set(_ids(search))) > 1


async def test_a_waiter_keeps_its_key() -> None:
    """Served later, it is still served by the resource that its key belongs to."""
    caps = [Resource("A", "a", max_in_flight=1), Resource("B", "b", max_in_flight=1)]
    policy = Policy("t").with_timeout(100).rotating(caps, pick="sticky")
    pool = _pool_of(policy)
    search = scripted(then="found")
    homes = {user: await _home_of(policy, user) for user in "abcdefgh"}
    users = {home: user for user, home in homes.items()}

    tasks = _start(policy.call(scripted(takes(5))), policy.call(scripted(takes(5))))
    await asyncio.sleep(0)
    tasks += _start(*(policy.using(key=users[home]).call(search) for home in ("b", "a")))
    await asyncio.gather(*tasks)

    assert sorted(users) == ["a", "b"]
    assert search.times == [5, 5]
    _assert_balanced(pool)


async def _home_of(policy: Policy, user: str) -> str:
    async def whoami(resource: Resource[str]) -> str:
        return str(resource.id)

    return str(await policy.using(key=user).call(whoami))  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["model", lambda call: call.kwargs["model"]])
async def test_health_is_kept_apart_by_dimension(how: Any) -> None:
    """A key that is rate limited for one model goes on serving the other."""
    log = EventLog()
    policy = Policy("t", observers=[log]).rotating(_keys(2, cooldown=30, dimension=how))
    search = scripted(CooldownResource, then="found")

    with pytest.raises(CooldownResource):
        await policy.call(search, model="large")
    for model in ("small", "large"):
        await policy.call(search, model=model)

    assert _ids(search) == ["a", "a", "b"]
    assert log.only(ResourceChanged).dimension == "large"
    shown = policy.snapshot()["stages"][0]["resources"]["a"]["dimensions"]
    assert [(name, facts["standing"]) for name, facts in shown.items()] == [
        ("large", "cooling"),
        ("small", "ready"),
    ]
    _assert_balanced(policy)


async def test_a_displacement_stays_in_its_dimension() -> None:
    """Younger calls for another model run on, under the same key."""
    policy = Policy("t").rotating(_keys(dimension="model"))
    other, same = scripted(takes(5, "kept")), scripted(takes(5, "never"), "moved")

    _, *results = await asyncio.gather(
        policy.call(scripted(takes(1, CooldownResource)), model="large"),
        policy.call(other, model="small"),
        policy.call(same, model="large"),
        return_exceptions=True,
    )

    assert results == ["kept", "moved"]
    assert (_ids(other), _ids(same)) == (["a"], ["a", "b"])
    _assert_balanced(policy)


async def test_a_cap_holds_over_all_dimensions() -> None:
    """A slot that comes free goes to whoever has waited longest, for whichever model."""
    keys = [Resource("A", "a", max_in_flight=1)]
    policy = Policy("t").with_timeout(100).rotating(keys, dimension="model")
    search = scripted(then=takes(1))

    await asyncio.gather(*(policy.call(search, model=m) for m in ("x", "y", "x", "z", "y")))

    assert search.most_in_flight == 1
    assert [c.kwargs["model"] for c in search.calls] == ["x", "y", "x", "z", "y"]
    _assert_balanced(policy)


async def test_a_quota_group_cools_together() -> None:
    """Keys of one account: the next call goes to the other account at once."""
    keys = {name: Resource(name, name, group=name[0]) for name in ("a1", "a2", "b1")}
    policy = Policy("t").with_retry(3, wait=9).rotating(keys, pick="primary_backup", cooldown=30)
    younger = scripted(takes(5, "never"), "moved")
    _pool_of(policy).disable("a1")
    tasks = _start(policy.call(younger))
    await asyncio.sleep(0)
    _pool_of(policy).enable("a1")
    search = scripted(takes(1, CooldownResource), "found")

    result = await policy.call(search)

    # The one on "a2" is older than the culprit, and runs on.
    assert (result, _ids(search), search.times) == ("found", ["a1", "b1"], [0, 1])
    assert await asyncio.gather(*tasks) == ["never"]
    standings = {n: f["standing"] for n, f in _pool_of(policy).snapshot()["resources"].items()}
    assert standings == {"a1": "cooling", "a2": "cooling", "b1": "ready"}
    _assert_balanced(policy)


async def test_a_group_is_displaced_together() -> None:
    """Younger calls on any key of the account would meet the same limit."""
    keys = {name: Resource(name, name, group=name[0]) for name in ("a1", "a2", "b1")}
    policy = Policy("t").rotating(pool := Pool(keys, pick="primary_backup"))
    younger = scripted(takes(5, "never"), "moved")

    async with pool.lease() as older:
        pool.disable("a1")
        (task,) = _start(_counting(policy.call(younger)))
        await asyncio.sleep(1)
        pool.enable("a1")
        older.cooldown(30)
        result = await task

    assert (result, _ids(younger)) == (("moved", 0), ["a2", "b1"])
    _assert_balanced(pool)


# Cancellation at any point


async def _sound(policy: Policy, fn: Any) -> None:
    """Make a call that leaves no cancel request behind."""
    _, left = await _counting(policy.call(fn))
    assert left == 0


async def _loses(pool: Pool[str], at: float, seconds: float = 30) -> None:
    """Hold the first resource that is ready, and lose it."""
    async with pool.lease() as lease:
        await asyncio.sleep(at)
        lease.cooldown(seconds)


async def _assert_serves(pool: Pool[str]) -> None:
    """The books balance, and every resource that was in use can be used again."""
    _assert_balanced(pool)
    policy = Policy().with_timeout(1000).rotating(pool)
    calls = 2 * len(pool.machine.members)
    await asyncio.gather(*(policy.call(scripted(takes(1))) for _ in range(calls)))
    _assert_balanced(pool)


def test_a_cancel_at_any_point_of_an_attempt_gives_the_resource_back() -> None:
    """Before, during and after the operation."""

    async def scenario(sweep: Sweep) -> Pool[str]:
        policy = Policy().rotating(pool := _keys())
        search = scripted(then=takes(1))
        sweep.victim(_sound(policy, search))
        sweep.beside(_sound(policy, search))
        return pool

    assert cancel_sweep(scenario, _assert_serves) >= 4


@pytest.mark.parametrize("max_wait", [None, 1, 2.5])
def test_a_cancel_at_any_point_of_a_wait_for_a_slot_passes_it_on(max_wait: float | None) -> None:
    """In line, in the step of the grant, in the step in which patience ends."""

    async def scenario(sweep: Sweep) -> Pool[str]:
        pool = Pool([Resource("A", "a", max_in_flight=1)])
        policy = Policy().with_timeout(100).rotating(pool)
        patient = Policy().with_timeout(100).rotating(pool, max_wait=max_wait)
        search = scripted(then=takes(1))
        sweep.beside(_sound(policy, search))
        sweep.victim(_sound(patient, search))
        sweep.beside(_sound(policy, search), _sound(policy, search))
        return pool

    assert cancel_sweep(scenario, _assert_serves, raises=NoResourceError) >= 8


@pytest.mark.parametrize("limited", [True, False], ids=["at the gate", "in line"])
def test_a_cancel_at_any_point_of_a_wait_for_a_return_passes_it_on(limited: bool) -> None:
    """Whoever stands behind the victim probes in its place."""

    async def scenario(sweep: Sweep) -> Pool[str]:
        pool = _keys(1, cooldown=3)
        policy = Policy().with_timeout(100)
        if limited:
            policy = policy.with_rate("2/s").with_concurrency(2)
        rotating = policy.rotating(pool)
        async with pool.lease() as lease:
            lease.cooldown()
        search = scripted(then=takes(1))
        sweep.beside(_sound(rotating, search))
        sweep.victim(_sound(rotating, search))
        sweep.beside(_sound(rotating, search))
        return pool

    assert cancel_sweep(scenario, _assert_serves) >= 8


def test_a_cancel_at_any_point_of_a_probe_lets_the_next_one_probe() -> None:
    """The victim is the one use of a resource that is coming back."""

    async def scenario(sweep: Sweep) -> Pool[str]:
        policy = Policy().with_timeout(100).rotating(pool := _keys(1, cooldown=3))
        async with pool.lease() as lease:
            lease.cooldown()
        search = scripted(then=takes(1))
        sweep.victim(_sound(policy, search))
        sweep.beside(_sound(policy, search), _sound(policy, search))
        return pool

    assert cancel_sweep(scenario, _assert_serves) >= 6


@pytest.mark.parametrize("retries", [True, False])
def test_a_cancel_at_any_point_of_a_displacement_ends_the_caller(retries: bool) -> None:
    """Before the loss, in its step, on the way to the other resource, on that one."""

    async def scenario(sweep: Sweep) -> Pool[str]:
        pool = _keys()
        policy = Policy().with_retry(1) if retries else Policy().with_rate(10).with_concurrency(2)
        rotating = policy.rotating(pool)
        search = scripted(then=takes(2))
        sweep.beside(_loses(pool, at=1))
        sweep.victim(_sound(rotating, search))
        sweep.beside(_sound(rotating, search))
        return pool

    assert cancel_sweep(scenario, _assert_serves) >= 8


@pytest.mark.parametrize("keys", [1, 2])
def test_a_cancel_at_any_point_of_a_fail_over_ends_the_caller(keys: int) -> None:
    """With another resource at once, without one in the wait for the return."""

    async def scenario(sweep: Sweep) -> Pool[str]:
        pool = _keys(keys, cooldown=3)
        policy = Policy().with_timeout(100).with_retry(3, wait=50).rotating(pool)
        search = scripted(takes(1, CooldownResource), then=takes(1, "found"))
        sweep.victim(_sound(policy, search))
        sweep.beside(_sound(policy, scripted(then=takes(2))))
        return pool

    assert cancel_sweep(scenario, _assert_serves) >= 5


def test_a_cancel_at_any_point_of_nested_leases_frees_both() -> None:
    """Both pools lose the resource that the one task uses, in the same step."""

    async def scenario(sweep: Sweep) -> tuple[Pool[str], Pool[str]]:
        servers, keys = _keys(), _keys()
        outer, inner = Policy().rotating(servers), Policy().rotating(keys)
        work = scripted(then=takes(2))

        async def on_server(_server: object) -> Any:
            return await inner.call(work)

        sweep.beside(_loses(servers, at=1), _loses(keys, at=1))
        sweep.victim(_sound(outer, on_server))
        return servers, keys

    async def check(pools: tuple[Pool[str], Pool[str]]) -> None:
        for pool in pools:
            await _assert_serves(pool)

    assert cancel_sweep(scenario, check) >= 6


# Streams


async def _lines(key: Resource[str], count: int = 3, every: float = 1) -> AsyncIterator[str]:
    for number in range(count):
        yield f"{key.id}{number}"
        await asyncio.sleep(every)


async def test_a_stream_holds_its_resource_until_it_is_closed() -> None:
    """Also after a break."""
    policy = Policy().rotating(pool := _keys())

    async with policy.stream(_lines) as lines:
        async for line in lines:
            if line == "a1":
                break
        held = pool.stats().in_flight

    assert held == 1
    assert pool.stats().successes == 1
    _assert_balanced(pool)


async def test_a_stream_that_has_begun_is_not_displaced() -> None:
    """Its items have been handed on: nobody could run it again."""
    policy = Policy().rotating(pool := _keys())

    async def read() -> list[str]:
        async with policy.stream(_lines) as lines:
            return [line async for line in lines]

    async with pool.lease() as older:
        (reader,) = _start(_counting(read()))
        await asyncio.sleep(1.5)
        older.cooldown(30)
        result = await reader

    assert result == (["a0", "a1", "a2"], 0)
    assert pool.stats().displaced == 0
    _assert_balanced(pool)


async def test_a_stream_that_has_no_item_yet_begins_elsewhere() -> None:
    """What has not been handed on can be made again."""
    policy = Policy().rotating(pool := _keys())

    async def slow(key: Resource[str]) -> AsyncIterator[str]:
        await asyncio.sleep(5)
        yield str(key.id)

    async def read() -> list[str]:
        async with policy.stream(slow) as lines:
            return [line async for line in lines]

    async with pool.lease() as older:
        (reader,) = _start(_counting(read()))
        await asyncio.sleep(1)
        older.cooldown(30)
        result = await reader

    assert result == (["b"], 0)
    _assert_balanced(pool)


async def test_a_cancelled_reader_gives_the_resource_back() -> None:
    """Whoever waits for it is served in that step."""
    pool = Pool([Resource("A", "a", max_in_flight=1)])
    policy = Policy().with_timeout(100).rotating(pool)

    async def read() -> None:
        async with policy.stream(_lines, 100) as lines:
            async for _ in lines:
                pass

    (reader, other) = _start(read(), policy.call(waiting := scripted("served")))
    await asyncio.sleep(2.5)
    reader.cancel()
    await asyncio.wait([reader, other])

    assert reader.cancelled()
    assert waiting.times == [2.5]
    assert pool.stats().cancelled == 1
    _assert_balanced(pool)


async def test_a_stream_that_is_collected_gives_the_resource_back() -> None:
    """It was entered and never closed; the collector does it."""
    policy = Policy().rotating(pool := _keys())
    stream = policy.stream(_lines)
    await stream.__aenter__()
    held = pool.stats().in_flight

    del stream
    gc.collect()
    await asyncio.sleep(0)

    assert held == 1
    assert pool.stats().cancelled == 1
    _assert_balanced(pool)


async def test_a_stream_that_fails_tells_the_pool() -> None:
    """The reader gets the failure, the resource its rest."""
    policy = Policy().rotating(pool := _keys())

    async def limited(_key: object) -> AsyncIterator[str]:
        yield "first"
        raise CooldownResource(30)

    async def read() -> None:
        async with policy.stream(limited) as lines:
            async for _ in lines:
                pass

    with pytest.raises(CooldownResource):
        await read()

    assert pool.snapshot()["resources"]["a"]["standing"] == "cooling"
    _assert_balanced(pool)


# Plain functions in threads


class Blocking:
    """A plain function that stands in its thread until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go = threading.Event()
        self.ids: list[str | None] = []

    def __call__(self, key: Resource[str]) -> str:
        self.ids.append(key.id)
        self.started.set()
        self.go.wait(5)
        return "done"


async def test_a_thread_that_was_given_up_keeps_its_slot() -> None:
    """It goes on with the resource in its hand; the slot comes back when it ends."""
    pool = Pool([Resource("A", "a", max_in_flight=1)])
    policy = Policy().rotating(pool)
    work = Blocking()

    (caller,) = _start(policy.call(work))
    await asyncio.to_thread(work.started.wait, 5)
    caller.cancel()
    await asyncio.wait([caller])
    while_running = pool.stats().in_flight
    work.go.set()
    await Policy().with_timeout(100).rotating(pool).call(scripted("next"))

    assert caller.cancelled()
    assert while_running == 1
    _assert_balanced(pool)


async def test_a_thread_runs_on_where_an_attempt_would_be_displaced() -> None:
    """It cannot be stopped: to run it again would be to do the work twice."""
    policy = Policy().rotating(pool := _keys())
    work = Blocking()

    async with pool.lease() as older:
        (caller,) = _start(_counting(policy.call(work)))
        await asyncio.to_thread(work.started.wait, 5)
        older.cooldown(30)
        work.go.set()
        result = await caller

    assert result == ("done", 0)
    assert work.ids == ["a"]
    _assert_balanced(pool)


async def test_an_awaitable_that_is_no_future_runs_on_too() -> None:
    """It may take a cancel for anything."""
    policy = Policy().rotating(pool := _keys())
    used: list[str | None] = []

    class Plain:
        def __await__(self) -> Any:
            yield from asyncio.sleep(5).__await__()
            return "kept"

    def work(key: Resource[str]) -> Plain:
        used.append(key.id)
        return Plain()

    async with pool.lease() as older:
        (caller,) = _start(_counting(policy.call(work)))
        # Its first call was made in a thread, to see what kind of function it is.
        while not used:  # noqa: ASYNC110 - a thread has no event of this loop
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        older.cooldown(30)
        result = await caller

    assert result == ("kept", 0)
    assert used == ["a"]
    _assert_balanced(pool)


async def test_a_plain_function_can_tell_the_pool_from_its_thread() -> None:
    """What follows happens in the loop's own thread: younger calls move, waiters are woken."""
    threads: list[int] = []
    pool = _keys(on_state_change=lambda _: threads.append(threading.get_ident()))
    policy = Policy().rotating(pool)
    started, go = threading.Event(), threading.Event()

    def work(_key: Resource[str]) -> str:
        started.set()
        go.wait(5)
        current_lease().cooldown(30)
        return "kept"

    younger = scripted(takes(500, "never"), "moved")
    tasks = _start(policy.call(work))
    await asyncio.to_thread(started.wait, 5)
    tasks += _start(policy.call(younger))
    await asyncio.sleep(0)
    go.set()

    assert await asyncio.gather(*tasks) == ["kept", "moved"]
    assert threads == [threading.get_ident()]
    _assert_balanced(pool)


# Loops


def test_one_policy_serves_one_loop_after_another() -> None:
    """Rests, caps and displacement go on in the next loop."""
    pool = Pool([Resource("A", "a", max_in_flight=2), Resource("B", "b", max_in_flight=2)])
    policy = Policy().with_timeout(100).rotating(pool)
    search = scripted(then=takes(1))

    async def main() -> None:
        await asyncio.gather(*(policy.call(search) for _ in range(8)))

    for _ in range(3):
        run(main())

    assert search.most_in_flight == 4
    assert search.times == [0, 0, 0, 0, 1, 1, 1, 1] * 3
    _assert_balanced(pool)


def test_displacement_works_in_a_loop_beside_one_that_only_stopped() -> None:
    """The first loop was left open, in the same thread."""
    policy = Policy().rotating(pool := _keys())
    victim = scripted(takes(5, "never"), "moved")
    first, second = VirtualTimeLoop(), VirtualTimeLoop()

    async def main() -> Any:
        culprit = policy.call(scripted(takes(1, CooldownResource)))
        results = await asyncio.gather(
            culprit, _counting(policy.call(victim)), return_exceptions=True
        )
        return results[1]

    try:
        first.run_until_complete(policy.call(scripted("done")))
        result = second.run_until_complete(main())
    finally:
        first.close()
        second.close()

    assert result == ("moved", 0)
    assert _ids(victim) == ["a", "b"]
    _assert_balanced(pool)


def _die_with_calls_under_way(policy: Policy, calls: int) -> list[Any]:
    """Close a loop without a word to its tasks; return them, so that nothing collects them."""
    loop = VirtualTimeLoop()
    never = scripted(then=takes(1000))
    tasks = [loop.create_task(policy.call(never)) for _ in range(calls)]
    loop.call_later(1, loop.stop)
    loop.run_forever()
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    return tasks


def test_leases_held_by_a_dead_loop_come_back() -> None:
    """A loop that was closed in the middle of its calls does not starve the next."""
    pool = Pool([Resource("A", "a", max_in_flight=2)])
    policy = Policy().with_timeout(5000).rotating(pool)
    search = scripted(then=takes(1))
    tasks = _die_with_calls_under_way(policy, calls=5)
    before = (pool.stats().in_flight, pool.stats().waiting)

    async def main() -> None:
        await asyncio.gather(*(policy.call(search) for _ in range(4)))

    run(main())

    assert before == (2, 3)
    assert search.times == [0, 0, 1, 1]
    assert pool.stats().cancelled == 2
    _assert_balanced(pool)
    assert len(tasks) == 5


def test_a_task_of_a_dead_loop_that_is_collected_moves_nothing() -> None:
    """Its ``finally`` block gives back a lease that has been forfeited before."""
    pool = Pool([Resource("A", "a", max_in_flight=1)])
    policy = Policy().with_timeout(5000).rotating(pool)
    search = scripted(then=takes(1))
    tasks = _die_with_calls_under_way(policy, calls=1)

    async def main() -> int:
        call = asyncio.ensure_future(policy.call(search))
        await asyncio.sleep(0)
        tasks.clear()
        gc.collect()
        in_flight = pool.stats().in_flight
        await call
        return in_flight

    assert run(main()) == 1
    _assert_balanced(pool)


async def test_two_running_loops_are_refused() -> None:
    """The second loop gets an error with advice; the first goes on undisturbed."""
    pool = Pool([Resource("A", "a", max_in_flight=1)])
    policy = Policy().with_timeout(100).rotating(pool)
    tasks = _start(policy.call(search := scripted(then=takes(5, "ok"))), policy.call(search))
    await asyncio.sleep(1)

    def in_a_thread() -> None:
        run(Policy().rotating(pool).call(scripted("never")))

    with pytest.raises(PolicyError, match=r"another running event loop.*policy\.fresh\(\)"):
        await asyncio.to_thread(in_a_thread)

    assert (pool.stats().in_flight, pool.stats().waiting) == (1, 1)
    assert await asyncio.gather(*tasks) == ["ok", "ok"]
    _assert_balanced(pool)


@pytest.mark.parametrize("shared", [True, False], ids=["a pool", "resources"])
async def test_a_fresh_policy_has_the_resources_and_not_their_state(shared: bool) -> None:
    """What rests here is ready there; the options are the same."""
    keys: Any = _keys(cooldown=7) if shared else {"a": "A", "b": "B"}
    policy = Policy().rotating(keys) if shared else Policy().rotating(keys, cooldown=7)
    with pytest.raises(CooldownResource):
        await policy.call(scripted(CooldownResource))

    fresh = policy.fresh()

    assert policy.health().ready == 1
    assert fresh.health().ready == 2
    assert _pool_of(fresh) is not _pool_of(policy)
    assert _pool_of(fresh).options == _pool_of(policy).options
    assert type(_pool_of(fresh)) is type(_pool_of(policy))


# Many calls, and none in a loop


def test_run_sync_rotates() -> None:
    """Code without a loop is given resources as any other."""
    policy = Policy().with_retry(3, wait=9).rotating(pool := _keys())

    async def search(key: Resource[str], query: str) -> str:
        if key.id == "a":
            raise DisableResource("revoked")
        return f"{key.id} {query}"

    assert policy.run_sync(search, "query") == "b query"
    _assert_balanced(pool)


async def test_gather_rotates() -> None:
    """Each item is a call of its own; those that lose their key move."""
    policy = Policy().with_retry(3, wait=9).rotating(pool := _keys(3))

    async def search(key: Resource[str], number: int) -> tuple[int, str]:
        await asyncio.sleep(1 + number / 10)
        if key.id == "a":
            raise CooldownResource(30)
        return number, str(key.id)

    results = await policy.gather(search, range(6))

    assert results == [(number, "b") for number in range(6)]
    assert pool.stats().resources[0].displaced == 5
    _assert_balanced(pool)


async def test_a_batch_that_is_left_gives_its_resources_back() -> None:
    """The reader of ``map`` stops after the first result."""
    pool = Pool([Resource("A", "a", max_in_flight=2)])
    policy = Policy().with_timeout(100).rotating(pool)

    async def search(_key: object, number: int) -> int:
        await asyncio.sleep(1 + number)
        return number

    async with contextlib.aclosing(policy.map(search, range(6))) as results:
        first = await anext(results)

    assert first == 0
    _assert_balanced(pool)


async def test_a_timeout_that_cuts_an_attempt_off_blames_the_resource() -> None:
    """Given a picker by latency, then the slow one counts as slow although it never answered."""
    policy = Policy().with_timeout(2).rotating(pool := Pool({"a": "A"}, pick="p2c_ewma"))

    with pytest.raises(CallTimeoutError):
        await policy.call(scripted(takes(50)))

    assert pool.machine.main.candidates["a"].latency == 5
    assert (pool.stats().failures, pool.stats().cancelled) == (1, 0)
    _assert_balanced(pool)
