from __future__ import annotations

import asyncio
import threading

import pytest

from penstock.errors import PolicyError
from penstock.parking import Home, park_until_granted, wake
from penstock.testing import VirtualTimeLoop
from penstock.waitlist import WaiterState, WaitList

pytestmark = pytest.mark.virtual_time


async def test_a_parked_waiter_sleeps_until_it_is_woken() -> None:
    """The wait ends in the step of the grant."""
    line, loop = WaitList(), asyncio.get_running_loop()
    waiter = line.park()
    loop.call_later(3, lambda: wake(line.grant() or waiter))

    woken = await park_until_granted(waiter)

    assert woken is True
    assert loop.time() == 3


async def test_patience_ends_the_wait() -> None:
    """False says that nothing was granted in time; the waiter is still in line."""
    line, loop = WaitList(), asyncio.get_running_loop()
    waiter = line.park()

    woken = await park_until_granted(waiter, 5)

    assert woken is False
    assert loop.time() == 5
    assert waiter.state is WaiterState.PARKED


async def test_a_grant_in_time_ends_the_timer() -> None:
    """A wait that has been left leaves nothing scheduled."""
    line, loop = WaitList(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    waiter = line.park()
    loop.call_later(1, lambda: wake(line.grant() or waiter))

    woken = await park_until_granted(waiter, 1000)

    assert woken is True
    assert not [timer for timer in loop._scheduled if not timer.cancelled()]


@pytest.mark.parametrize("grant_first", [True, False])
async def test_a_grant_in_the_step_in_which_patience_ends_is_kept(grant_first: bool) -> None:
    """Whichever comes first, the state of the waiter tells what it holds."""
    line, loop, complaints = WaitList(), asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    waiter = line.park()
    if grant_first:
        loop.call_at(5, lambda: wake(line.grant() or waiter))
        woken = await park_until_granted(waiter, 5)
    else:
        parked = asyncio.ensure_future(park_until_granted(waiter, 5))
        await asyncio.sleep(0)
        loop.call_at(5, lambda: wake(line.grant() or waiter))
        woken = await parked

    assert woken is grant_first
    assert complaints == []
    assert waiter.state is WaiterState.GRANTED
    assert line.abandon(waiter) is False


async def test_a_cancelled_wait_leaves_the_waiter_to_its_caller() -> None:
    """The caller abandons it, and nothing is left scheduled."""
    line, loop = WaitList(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    waiter = line.park()
    task = asyncio.ensure_future(park_until_granted(waiter, 100))
    await asyncio.sleep(1)

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert line.abandon(waiter) is True
    assert not [timer for timer in loop._scheduled if not timer.cancelled()]


async def test_waking_whoever_has_been_cancelled_does_nothing() -> None:
    """A grant and a cancel may come in one step, in either order."""
    line = WaitList()
    waiter = line.park()
    task = asyncio.ensure_future(park_until_granted(waiter))
    await asyncio.sleep(1)

    task.cancel()
    wake(line.grant() or waiter)
    await asyncio.wait([task])

    assert task.cancelled()
    assert line.abandon(waiter) is False


def test_waking_whoever_waited_in_a_closed_loop_does_nothing() -> None:
    """A closed loop takes no callbacks, and nobody there is left to be told."""
    line = WaitList()
    waiter = line.park()
    loop = VirtualTimeLoop()

    async def park() -> bool:
        return await park_until_granted(waiter)

    task = loop.create_task(park())
    loop.call_later(1, loop.stop)
    loop.run_forever()
    task._log_destroy_pending = False
    loop.close()

    wake(waiter)

    assert not task.done()


async def test_the_first_loop_becomes_the_home() -> None:
    """Nothing is lost by moving in for the first time, or by looking again."""
    home = Home()

    moves = [home.move("t"), home.move("t")]

    assert moves == [False, False]
    assert home.loop is asyncio.get_running_loop()
    assert home.thread == threading.get_ident()
    assert not home.is_closed()


def _moves_of(home: Home, loop: asyncio.AbstractEventLoop) -> bool:
    async def move() -> bool:
        return home.move("t")

    return loop.run_until_complete(move())


def test_nobody_is_at_home_before_the_first_call() -> None:
    """A new home looks like a closed one: the first call moves in."""
    home = Home()

    assert home.is_closed()
    assert home.thread == 0


def test_what_a_closed_loop_held_is_lost() -> None:
    """The move says so, once, and the closing can be seen before it."""
    home, first, second = Home(), VirtualTimeLoop(), VirtualTimeLoop()
    _moves_of(home, first)
    first.close()

    closed = home.is_closed()
    moves = [_moves_of(home, second), _moves_of(home, second)]
    second.close()

    assert closed
    assert moves == [True, False]


def test_what_a_resting_loop_holds_is_not_lost() -> None:
    """A loop that is not running but open may go on later."""
    home, first, second = Home(), VirtualTimeLoop(), VirtualTimeLoop()

    moves = [_moves_of(home, loop) for loop in (first, second, first)]
    first.close()
    second.close()

    assert moves == [False, False, False]


async def test_a_home_is_not_shared_by_two_running_loops() -> None:
    """The second loop is refused with advice."""
    home = Home()
    home.move("t")

    def in_a_thread() -> bool:
        other = VirtualTimeLoop()
        try:
            return _moves_of(home, other)
        finally:
            other.close()

    with pytest.raises(PolicyError) as refusal:
        await asyncio.to_thread(in_a_thread)

    assert str(refusal.value) == (
        "stage 't' is in use by another running event loop; "
        "give each loop its own copy with policy.fresh()"
    )
