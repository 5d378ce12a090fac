from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from pybreaker import (
    STATE_CLOSED,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitMemoryStorage,
)

from penstock.errors import CircuitOpenError, ConfigError, RateLimitedError
from penstock.events import CallRejected, CircuitChanged, HookFailed
from penstock.policy import Policy
from penstock.stages.breaker import Breaker, PybreakerStage, breaker_stage, is_pybreaker
from penstock.testing import EventLog, Sweep, cancel_sweep, scripted
from penstock.verdict import CooldownResource, DisableResource


class Recorder(CircuitBreakerListener):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def before_call(self, cb, func, *args, **kwargs) -> None:
        """Write down the arguments."""
        self.told.append(f"before{args}{kwargs}")

    def success(self, cb) -> None:
        """Write down a success."""
        self.told.append("success")

    def failure(self, cb, exc) -> None:
        """Write down a failure."""
        self.told.append(f"failure {type(exc).__name__}")

    def state_change(self, cb, old_state, new_state) -> None:
        """Write down a change."""
        self.told.append(f"{old_state.name} to {new_state.name}")


class Raiser(CircuitBreakerListener):
    """Raises whenever it is told something."""

    def _raise(self, *_args: object, **_kwargs: object) -> None:
        raise RuntimeError("listener")

    before_call = success = failure = state_change = _raise  # type: ignore[assignment]


class Hold:
    """An operation that goes on until it is told how to end."""

    def __init__(self) -> None:
        self.ends: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        """Wait for the end."""
        end = asyncio.get_running_loop().create_future()
        self.ends.append(end)
        return await end


def guarded(
    breaker: CircuitBreaker, log: EventLog | None = None, probes: int = 1
) -> tuple[Policy, PybreakerStage]:
    """Return a policy round the caller's breaker, and its stage."""
    stage = PybreakerStage(breaker, probes)
    observers = [] if log is None else [log]
    return Policy("search", observers=observers).with_stage(stage), stage


async def fail(policy: Policy, times: int = 1, error: object = OSError) -> None:
    """Make calls that fail, one after another."""
    kind = error if isinstance(error, type) else type(error)
    for _ in range(times):
        with pytest.raises(kind):  # type: ignore[arg-type]
            await policy.call(scripted(error))


def let_pass(breaker: CircuitBreaker, seconds: float) -> None:
    """Make the circuit open for that much longer already; pybreaker reads the wall clock."""
    storage = breaker._state_storage
    assert storage.opened_at is not None
    storage.opened_at -= timedelta(seconds=seconds)


async def opened(
    breaker: CircuitBreaker, log: EventLog | None = None, probes: int = 1
) -> tuple[Policy, PybreakerStage]:
    """Return a policy and its stage once failures have opened the breaker, ready for a trial."""
    policy, stage = guarded(breaker, log, probes)
    await fail(policy, breaker.fail_max)
    let_pass(breaker, breaker.reset_timeout)
    return policy, stage


async def test_the_callers_breaker_opens_and_refuses():
    """``fail_max`` failures; then the error gives what is left of ``reset_timeout``."""
    breaker = CircuitBreaker(fail_max=3, reset_timeout=60, name="index")
    policy, stage = guarded(breaker)
    operation = scripted()
    await fail(policy, 3)
    let_pass(breaker, 47)

    with pytest.raises(
        CircuitOpenError, match=r"^circuit 'index' is open; retry after 1"
    ) as caught:
        await policy.call(operation)

    assert breaker.current_state == stage.state == "open"
    assert caught.value.retry_after == pytest.approx(13, abs=1)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert operation.calls == []


@pytest.mark.parametrize("throw_new_error", [True, False])
async def test_the_failure_that_opens_the_circuit_reaches_the_caller_as_it_is(
    throw_new_error: object,
):
    """Pybreaker's own error does not replace it, nor do its frames stand in the traceback."""
    breaker = CircuitBreaker(fail_max=1, throw_new_error_on_trip=bool(throw_new_error))
    policy, _ = guarded(breaker)
    error = OSError("refused")

    with pytest.raises(OSError, match="refused") as caught:
        await policy.call(scripted(error))

    assert caught.value is error
    assert "pybreaker" not in {f.name for f in traceback.extract_tb(error.__traceback__)}
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert not any("site-packages" in name and "pybreaker" in name for name in files)


async def test_successes_of_a_trial_close_the_circuit():
    """As many as ``success_threshold``; a failure before that opens it again."""
    breaker = CircuitBreaker(fail_max=1, success_threshold=2)
    policy, stage = await opened(breaker)

    await policy.call(scripted("one"))
    await fail(policy)
    reopened = stage.state
    let_pass(breaker, 60)
    await policy.call(scripted("one"))
    between = stage.state
    await policy.call(scripted("two"))

    assert (reopened, between, stage.state) == ("open", "half_open", "closed")


@pytest.mark.parametrize("exclude", [KeyError, lambda error: isinstance(error, KeyError)])
async def test_what_is_excluded_counts_as_a_success(exclude: Any):
    """By type or by callable; that is what it means in pybreaker."""
    breaker = CircuitBreaker(fail_max=2, exclude=[exclude])
    policy, _ = guarded(breaker)
    await fail(policy)

    await fail(policy, error=KeyError)

    assert breaker.fail_counter == 0


async def test_what_is_not_excluded_counts_even_where_the_verdict_table_is_neutral():
    """The caller's exclusions stand in place of the table's view of programming errors."""
    breaker = CircuitBreaker(fail_max=1)
    policy, stage = guarded(breaker)

    await fail(policy, error=ValueError)

    assert stage.state == "open"


@pytest.mark.parametrize(
    "failure",
    [
        asyncio.CancelledError,
        CooldownResource,
        DisableResource("revoked"),
        RateLimitedError,
        type("Exit", (BaseException,), {}),
    ],
)
async def test_what_says_nothing_of_the_service_is_neutral(failure: Any):
    """Cancellation, a resource to blame, a refusal further in: neither counted nor a success."""
    breaker = CircuitBreaker(fail_max=2)
    policy, _ = guarded(breaker)
    await fail(policy)

    await fail(policy, error=failure)

    assert breaker.fail_counter == 1


async def test_an_exclusion_that_raises_excludes_nothing():
    """It is reported, and the failure counts."""
    log = EventLog()
    breaker = CircuitBreaker(fail_max=1, exclude=[lambda error: error.missing])
    policy, stage = guarded(breaker, log)

    await fail(policy)

    assert stage.state == "open"
    assert log.only(HookFailed).error_type == "AttributeError"


async def test_listeners_are_told_what_pybreaker_tells_them():
    """Calls with their arguments, outcomes, changes: in pybreaker's order."""
    recorder = Recorder()
    breaker = CircuitBreaker(fail_max=1, listeners=[recorder])
    policy, _ = await opened(breaker)

    await policy.call(scripted("fine"), 1, key=2)

    assert recorder.told == [
        "before(){}",
        "failure OSError",
        "closed to open",
        "open to half-open",
        "before(1,){'key': 2}",
        "half-open to closed",
        "success",
    ]


async def test_a_listener_that_raises_changes_nothing():
    """The circuit opens, is probed and closes; callers get their own outcome."""
    log = EventLog()
    breaker = CircuitBreaker(fail_max=1, listeners=[Raiser()])
    policy, stage = guarded(breaker, log)

    await fail(policy)
    state = stage.state
    let_pass(breaker, 60)
    result = await policy.call(scripted("fine"))

    assert (state, result, stage.state) == ("open", "fine", "closed")
    assert len(log.of(HookFailed, hook="pybreaker", error_type="RuntimeError")) == 7


async def test_a_change_made_by_another_process_is_noticed():
    """The storage says so; a listener hears of it, and what it raises is reported."""
    storage = CircuitMemoryStorage(STATE_CLOSED)
    log, recorder = EventLog(), Recorder()
    mine = CircuitBreaker(state_storage=storage, listeners=[Raiser(), recorder])
    policy, _ = guarded(mine, log)
    CircuitBreaker(state_storage=storage).open()

    with pytest.raises(CircuitOpenError):
        await policy.call(scripted())

    assert (log.only(CircuitChanged).old, log.only(CircuitChanged).new) == ("closed", "open")
    assert log.only(HookFailed).error_type == "RuntimeError"


async def test_the_callers_own_hands_work():
    """``open()`` and ``close()`` of the breaker count at the next call."""
    breaker = CircuitBreaker()
    policy, _ = guarded(breaker)

    breaker.open()
    with pytest.raises(CircuitOpenError):
        await policy.call(scripted())
    breaker.close()

    assert await policy.call(scripted("fine")) == "fine"


async def test_a_storage_that_fails_does_not_hide_the_outcome():
    """The result is returned and the failure raised; the storage's error is reported."""
    log = EventLog()

    class Broken(CircuitMemoryStorage):
        def reset_counter(self) -> None:
            raise ConnectionError("storage")

        def increment_counter(self) -> None:
            raise ConnectionError("storage")

    policy, _ = guarded(CircuitBreaker(state_storage=Broken(STATE_CLOSED)), log)

    result = await policy.call(scripted("fine"))
    await fail(policy)

    assert result == "fine"
    assert len(log.of(HookFailed, error_type="ConnectionError")) == 2


@pytest.mark.parametrize("aware", [True, False])
async def test_the_time_open_is_read_with_and_without_a_time_zone(aware: object):
    """Older versions of pybreaker store UTC without saying so."""
    breaker = CircuitBreaker(reset_timeout=60)
    _, stage = guarded(breaker)
    breaker.open()
    at = breaker._state_storage.opened_at
    assert isinstance(at, datetime)

    breaker._state_storage.opened_at = at if aware else at.replace(tzinfo=None)

    assert stage.snapshot()["retry_after"] == pytest.approx(60, abs=1)


async def test_half_a_second_before_its_time_a_circuit_is_still_open():
    """The trial begins when ``reset_timeout`` is over, not in the second before."""
    breaker = CircuitBreaker(fail_max=1, reset_timeout=60)
    policy, _ = guarded(breaker)
    await fail(policy)
    let_pass(breaker, 59.5)

    with pytest.raises(CircuitOpenError):
        await policy.call(scripted())


async def test_an_open_circuit_that_never_noted_when_is_tried_at_once():
    """As pybreaker does."""
    breaker = CircuitBreaker(state_storage=CircuitMemoryStorage(STATE_OPEN))
    policy, _ = guarded(breaker)

    assert await policy.call(scripted("fine")) == "fine"


async def test_no_lock_is_held_while_a_call_is_under_way():
    """Another thread can use the breaker meanwhile."""
    breaker = CircuitBreaker()
    policy, _ = guarded(breaker)
    hold = Hold()
    task = asyncio.ensure_future(policy.call(hold))
    await asyncio.sleep(0)

    result = await asyncio.to_thread(breaker.call, threading.get_ident)

    assert result != threading.get_ident()
    hold.ends[0].set_result("fine")
    assert await task == "fine"


@pytest.mark.parametrize("probes", [1, 3])
async def test_a_trial_admits_a_bounded_number_of_probes(probes: int):
    """Ten calls at once; those too many are refused and nobody knows for how long."""
    breaker = CircuitBreaker(fail_max=1, success_threshold=10)
    policy, stage = await opened(breaker, probes=probes)
    hold = Hold()

    tasks = [asyncio.ensure_future(policy.call(hold)) for _ in range(10)]
    await asyncio.sleep(0.01)
    out = stage.snapshot()["probes_out"]
    for end in hold.ends:
        end.set_result("fine")
    results = await asyncio.gather(*tasks, return_exceptions=True)

    refused = [r for r in results if isinstance(r, CircuitOpenError)]
    assert (out, len(hold.ends), len(refused)) == (probes, probes, 10 - probes)
    assert {r.retry_after for r in refused} == {None}
    assert stage.snapshot()["probes_out"] == 0


def test_a_cancel_at_any_point_gives_the_probe_back():
    """The next call is the probe, and closes the circuit."""

    async def scenario(sweep: Sweep) -> tuple[Policy, PybreakerStage]:
        policy, stage = await opened(CircuitBreaker(fail_max=1))
        slow = scripted(lambda: asyncio.sleep(1))

        async def victim() -> None:
            await policy.call(slow)

        sweep.victim(victim())
        return policy, stage

    async def check(found: tuple[Policy, PybreakerStage]) -> None:
        policy, stage = found
        assert stage.snapshot()["probes_out"] == 0
        await policy.call(scripted("fine"))
        assert stage.state == "closed"

    assert cancel_sweep(scenario, check) > 1


def test_a_probe_that_died_with_its_loop_goes_back():
    """A module-level policy survives many loops."""
    loop = asyncio.new_event_loop()
    policy, stage = loop.run_until_complete(opened(CircuitBreaker(fail_max=1)))
    probe = loop.create_task(policy.call(Hold()))
    loop.run_until_complete(asyncio.sleep(0))
    out = stage.snapshot()["probes_out"]
    loop.close()

    result = asyncio.run(policy.call(scripted("fine")))

    assert (out, result, stage.state) == (1, "fine", "closed")
    probe.get_coro().close()
    # What asyncio would say of the task that was left is not about this.
    probe._log_destroy_pending = False


@pytest.mark.parametrize(
    "end",
    [
        lambda future: future.set_result("fine"),
        lambda future: future.set_exception(OSError()),
        lambda future: future.cancel(),
    ],
    ids=["success", "failure", "cancelled"],
)
async def test_a_call_that_began_before_a_change_does_not_move_the_new_state(
    end: Callable[[asyncio.Future[str]], None],
):
    """Neither the open circuit nor the trial listens to it."""
    breaker = CircuitBreaker(fail_max=1)
    policy, stage = guarded(breaker)
    hold = Hold()
    late = [asyncio.ensure_future(policy.call(hold)) for _ in range(2)]
    await asyncio.sleep(0)
    await fail(policy)
    opened_at = breaker._state_storage.opened_at

    end(hold.ends[0])
    await asyncio.wait(late[:1])
    in_open = (stage.state, breaker._state_storage.opened_at)
    let_pass(breaker, 60)
    probe = asyncio.ensure_future(policy.call(hold))
    await asyncio.sleep(0)
    end(hold.ends[1])
    await asyncio.wait(late)

    assert in_open == ("open", opened_at)
    assert (stage.state, stage.snapshot()["probes_out"]) == ("half_open", 1)
    hold.ends[2].set_result("fine")
    await probe
    await asyncio.gather(*late, return_exceptions=True)


async def test_observers_see_changes_and_rejections():
    """In the words of penstock, under the breaker's name or the policy's."""
    log = EventLog()
    breaker = CircuitBreaker(fail_max=1)
    policy, _ = guarded(breaker, log)
    await fail(policy)
    with pytest.raises(CircuitOpenError):
        await policy.call(scripted())
    let_pass(breaker, 60)
    await policy.call(scripted("fine"))

    changes = [(e.breaker, e.old, e.new) for e in log.of(CircuitChanged)]

    assert changes == [
        ("search", "closed", "open"),
        ("search", "open", "half_open"),
        ("search", "half_open", "closed"),
    ]
    assert log.only(CallRejected).error_type == "CircuitOpenError"


async def test_fresh_gives_a_copy_with_new_state():
    """Settings are kept, lists are the copy's own, the original stays as it is."""
    breaker = CircuitBreaker(
        fail_max=1, reset_timeout=7, listeners=[Recorder()], exclude=[KeyError]
    )
    policy, stage = guarded(breaker, probes=2)
    await fail(policy)

    twin = stage.fresh()
    twin.breaker.add_listener(Recorder())
    twin.breaker.add_excluded_exception(ValueError)

    assert (stage.state, twin.state, twin.options.probes) == ("open", "closed", 2)
    assert (twin.breaker.fail_max, twin.breaker.reset_timeout) == (1, 7)
    assert (len(breaker.listeners), len(breaker.excluded_exceptions)) == (1, 1)
    assert twin.breaker._lock is not breaker._lock


async def test_a_fresh_copy_moves_itself_and_not_the_original():
    """A state object of pybreaker knows its breaker; the copy has one of its own."""
    policy, stage = guarded(CircuitBreaker(fail_max=1))
    await policy.call(scripted("fine"))
    twin = stage.fresh()

    await fail(Policy("twin").with_stage(twin))

    assert (stage.state, twin.state) == ("closed", "open")


def test_fresh_shares_a_storage_that_is_shared_on_purpose():
    """What several processes agree on is not forgotten by one of them."""

    class Shared(CircuitMemoryStorage):
        pass

    storage = Shared(STATE_OPEN)
    _, stage = guarded(CircuitBreaker(state_storage=storage))

    twin = stage.fresh()

    assert twin.breaker._state_storage is storage
    assert twin.state == "open"


@pytest.mark.parametrize("probes", [0, True, 1.5])
def test_probes_are_checked(probes: Any):
    """As the option of the same name is."""
    with pytest.raises(ConfigError, match="breaker: 'probes' must be "):
        PybreakerStage(CircuitBreaker(), probes)


def test_a_circuit_breaker_is_told_by_its_class():
    """Subclasses too; a class of the same name is not one."""

    class Theirs(CircuitBreaker):
        pass

    fake = type("CircuitBreaker", (), {})

    assert is_pybreaker(CircuitBreaker())
    assert is_pybreaker(Theirs())
    assert not is_pybreaker(fake())
    assert not is_pybreaker(5)


def test_what_with_breaker_is_given_becomes_a_stage():
    """A number, nothing, or the caller's own breaker."""
    ours = breaker_stage(3, recover_after=5)
    default = breaker_stage()
    theirs = breaker_stage(CircuitBreaker(), probes=2)
    cautious = breaker_stage(CircuitBreaker())

    assert isinstance(ours, Breaker)
    assert isinstance(default, Breaker)
    assert (ours.options.failures, ours.options.recover_after) == (3, 5)
    assert isinstance(theirs, PybreakerStage)
    assert (theirs.options.probes, cautious.options.probes) == (2, 1)


def test_options_of_ours_do_not_go_with_a_circuit_breaker():
    """The error names the first of them."""
    with pytest.raises(ConfigError, match="breaker: 'recover_after' must be left out: "):
        breaker_stage(CircuitBreaker(), recover_after=5)


def test_pybreaker_is_not_imported_for_breakers_of_our_own():
    """Only who passes one pays for it."""
    code = (
        "import sys; from penstock.stages.breaker import breaker_stage; breaker_stage(5);"
        "sys.exit('pybreaker' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
