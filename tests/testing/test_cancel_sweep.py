from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from penstock.testing import CancelSweepError, Sweep, cancel_sweep


class Permits:
    """A semaphore written well: the yardstick of the leaky ones below."""

    def __init__(self, free: int = 1) -> None:
        self.free = free
        self.line: deque[asyncio.Future[None]] = deque()

    async def use(self, seconds: float) -> None:
        """Work under a permit."""
        await self.take()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.give()

    async def take(self) -> None:
        """Take a permit or wait for one."""
        if self.free:
            self.free -= 1
            return
        granted = asyncio.get_running_loop().create_future()
        self.line.append(granted)
        try:
            await granted
        except BaseException:
            self.on_cancel(granted)
            raise

    def on_cancel(self, granted: asyncio.Future[None]) -> None:
        """Leave the line, or give the permit back."""
        if granted in self.line:
            self.line.remove(granted)
        elif not granted.cancelled():
            self.give()

    def give(self) -> None:
        """Hand the permit on, or put it back."""
        while self.line:
            granted = self.line.popleft()
            if not granted.done():
                granted.set_result(None)
                return
        self.free += 1


class LosesAGrant(Permits):
    """Cancelled in the step of its grant, it forgets that it holds a permit."""

    def on_cancel(self, granted: asyncio.Future[None]) -> None:
        """Leave the line, or give the permit back."""
        if granted in self.line:
            self.line.remove(granted)


class GrantsTheCancelled(Permits):
    """It hands the permit to whoever is first, also when that one has just been cancelled."""

    def give(self) -> None:
        """Hand the permit on, or put it back."""
        if self.line:
            self.line.popleft().set_result(None)
        else:
            self.free += 1


class DoublesAPermit(Permits):
    """It gives back what a cancelled waiter never had."""

    def on_cancel(self, granted: asyncio.Future[None]) -> None:
        """Leave the line, or give the permit back."""
        super().on_cancel(granted)
        self.free += 1


class HoldsNothingBack(Permits):
    """It does not give the permit back when the call is cancelled in its work."""

    async def use(self, seconds: float) -> None:
        """Work under a permit."""
        await self.take()
        await asyncio.sleep(seconds)
        self.give()


class SwallowsTheCancel(Permits):
    """A cancelled waiter goes on as if it had been served."""

    async def take(self) -> None:
        """Take a permit or wait for one."""
        try:
            await super().take()
        except asyncio.CancelledError:
            await self.take()


class GivesToTheGone(Permits):
    """It takes a cancelled waiter that was passed over for one that had been served."""

    def on_cancel(self, granted: asyncio.Future[None]) -> None:
        """Leave the line, or give the permit back."""
        if granted in self.line:
            self.line.remove(granted)
        else:
            self.give()


LEAKY = {
    LosesAGrant: "deadlock",
    GrantsTheCancelled: "InvalidStateError",
    DoublesAPermit: "2 permits are free",
    HoldsNothingBack: "deadlock|0 permits are free",
    SwallowsTheCancel: "the cancel was swallowed: the victim returned None",
    GivesToTheGone: "2 permits are free",
}


def _scenario_of(kind: type[Permits]) -> Callable[[Sweep], Coroutine[Any, Any, Permits]]:
    async def scenario(sweep: Sweep) -> Permits:
        permits = kind()
        sweep.beside(permits.use(1))
        sweep.victim(permits.use(1))
        sweep.beside(permits.use(1))
        return permits

    return scenario


def _balanced(permits: Permits) -> None:
    assert permits.free == 1, f"{permits.free} permits are free"
    assert not permits.line


def test_a_stage_without_a_leak_passes_at_every_point() -> None:
    """All points at which the victim can be cancelled are tried."""
    tried = cancel_sweep(_scenario_of(Permits), _balanced)

    assert tried >= 8


@pytest.mark.parametrize(("kind", "symptom"), LEAKY.items(), ids=str)
def test_a_leak_is_found(kind: type[Permits], symptom: str) -> None:
    """Each classic mistake breaks at some step, and the message names step and symptom."""
    with pytest.raises(CancelSweepError, match=symptom) as failure:
        cancel_sweep(_scenario_of(kind), _balanced)

    assert failure.value.step >= 1
    assert f"victim was cancelled in step {failure.value.step}, " in str(failure.value)
    assert failure.value.__cause__ is not None


def test_a_victim_is_cancelled_in_every_order_with_its_grant() -> None:
    """Before it has begun, while it waits, before its grant, after it, and in its work."""
    seen: set[str] = set()

    async def scenario(sweep: Sweep) -> None:
        granted = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1, lambda: granted.done() or granted.set_result(None))
        state = ["not begun"]

        async def victim() -> None:
            state[0] = "waiting"
            try:
                await granted
                state[0] = "working"
                await asyncio.sleep(1)
                state[0] = "done"
            finally:
                when = asyncio.get_running_loop().time()
                seen.add(f"{state[0]} at {when:g}, granted {not granted.cancelled()}")

        sweep.victim(victim())

    cancel_sweep(scenario, lambda _state: None)

    assert seen == {
        "waiting at 0, granted False",
        "waiting at 1, granted False",
        "waiting at 1, granted True",
        "working at 1, granted True",
        "working at 2, granted True",
        "done at 2, granted True",
    }


def test_a_scenario_that_is_broken_anyway_says_so() -> None:
    """A failure without any cancel is not blamed on one."""

    async def scenario(sweep: Sweep) -> None:
        sweep.victim(asyncio.sleep(1))

    def check(_state: None) -> None:
        raise AssertionError("never balanced")

    with pytest.raises(
        CancelSweepError, match=r"broke without any cancel: .*never balanced"
    ) as err:
        cancel_sweep(scenario, check)

    assert err.value.step == 0


def test_a_victim_that_fails_by_itself_needs_to_be_announced() -> None:
    """Otherwise a scenario that never gets anywhere would pass."""

    async def failing() -> None:
        await asyncio.sleep(1)
        raise ConnectionError("lost")

    async def scenario(sweep: Sweep) -> None:
        sweep.victim(failing())

    with pytest.raises(CancelSweepError, match="without any cancel: ConnectionError: lost"):
        cancel_sweep(scenario, lambda _state: None)
    assert cancel_sweep(scenario, lambda _state: None, raises=ConnectionError) > 0


def test_a_cancel_that_turns_into_another_error_fails() -> None:
    """The caller asked to be cancelled and must see that it was."""

    async def rude() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            raise TimeoutError from None

    async def scenario(sweep: Sweep) -> None:
        sweep.victim(rude())

    with pytest.raises(CancelSweepError, match="cancel was swallowed: the victim raised Timeout"):
        cancel_sweep(scenario, lambda _state: None, raises=TimeoutError)


def test_a_task_beside_the_victim_must_succeed() -> None:
    """A cancel that hits a bystander is a bug."""

    async def scenario(sweep: Sweep) -> None:
        async def bystander() -> None:
            raise asyncio.CancelledError

        sweep.victim(asyncio.sleep(1))
        sweep.beside(bystander())

    with pytest.raises(CancelSweepError, match="task beside-1 failed: CancelledError"):
        cancel_sweep(scenario, lambda _state: None)


def test_a_callback_that_fails_is_found() -> None:
    """The loop would only log it, and the waiter that it should have woken would be lost."""

    async def scenario(sweep: Sweep) -> None:
        loop = asyncio.get_running_loop()
        granted = loop.create_future()
        loop.call_later(1, granted.set_result, None)

        async def victim() -> None:
            await granted

        sweep.victim(victim())
        sweep.beside(asyncio.sleep(2))

    with pytest.raises(CancelSweepError, match=r"Exception in callback .*InvalidStateError"):
        cancel_sweep(scenario, lambda _state: None)


def test_the_check_comes_when_all_has_settled() -> None:
    """What the end of the victim sets off in the loop has happened before the check."""

    async def scenario(sweep: Sweep) -> list[str]:
        loop = asyncio.get_running_loop()
        history: list[str] = []

        def settle(steps: int) -> None:
            if steps:
                loop.call_soon(settle, steps - 1)
            else:
                history.append("settled")

        async def victim() -> None:
            history.append("begun")
            try:
                await asyncio.sleep(1)
            finally:
                settle(5)

        sweep.victim(victim())
        return history

    def check(history: list[str]) -> None:
        assert history in ([], ["begun", "settled"])

    assert cancel_sweep(scenario, check) >= 3


def test_a_task_left_behind_is_found() -> None:
    """Whatever still runs when all is over is named."""

    async def scenario(sweep: Sweep) -> None:
        async def victim() -> None:
            work = asyncio.create_task(asyncio.sleep(100), name="work")
            await asyncio.sleep(1)
            work.cancel()

        sweep.victim(victim())

    with pytest.raises(CancelSweepError, match=r"left running behind the victim: work \(sleep\)"):
        cancel_sweep(scenario, lambda _state: None)


def test_the_check_may_be_async() -> None:
    """It runs in the loop of its scenario, for checks that need to make a call."""
    checked: list[float] = []

    async def scenario(sweep: Sweep) -> Permits:
        permits = Permits()
        sweep.victim(permits.use(1))
        return permits

    async def check(permits: Permits) -> None:
        await permits.use(5)
        checked.append(asyncio.get_running_loop().time())

    tried = cancel_sweep(scenario, check)

    # Once undisturbed, once for each point, and once where the victim has finished first.
    assert len(checked) == tried + 2


def test_a_scenario_without_a_victim_is_refused() -> None:
    """There would be nothing to sweep."""

    async def scenario(sweep: Sweep) -> None:
        sweep.beside(asyncio.sleep(1))

    with pytest.raises(CancelSweepError, match=r"started no victim; call sweep.victim\(...\)"):
        cancel_sweep(scenario, lambda _state: None)


def test_a_scenario_with_two_victims_is_refused() -> None:
    """One is cancelled; the others belong beside it."""

    async def scenario(sweep: Sweep) -> None:
        sweep.victim(asyncio.sleep(1))
        sweep.victim(asyncio.sleep(1))

    with pytest.raises(CancelSweepError, match="a scenario has one victim"):
        cancel_sweep(scenario, lambda _state: None)


def test_a_victim_that_never_ends_is_given_up() -> None:
    """A scenario that spins does not spin for ever."""

    async def scenario(sweep: Sweep) -> None:
        async def stubborn() -> None:
            while True:  # noqa: ASYNC110 - it is meant to spin
                await asyncio.sleep(0)

        sweep.victim(stubborn())

    with pytest.raises(CancelSweepError, match="the victim did not end within"):
        cancel_sweep(scenario, lambda _state: None)
