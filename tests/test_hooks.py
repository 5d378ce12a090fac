from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from penstock.errors import PolicyError
from penstock.hooks import Hook
from penstock.testing import run


class Told:
    """Notes what a hook was told, and what was reported of it."""

    def __init__(self) -> None:
        self.facts: list[tuple[Any, ...]] = []
        self.errors: list[BaseException] = []

    def note(self, *facts: Any) -> None:
        self.facts.append(facts)

    def hook(self, function: Callable[..., object]) -> Hook:
        return Hook(function, self.errors.append)


def fail_with(error: BaseException, *_: object) -> None:
    """Raise the error, whatever the hook is told."""
    raise error


@pytest.mark.parametrize("facts", [(), ("open",), ("closed", "open"), (1, None, ["x"])])
def test_a_hook_passes_on_what_it_is_told(facts: tuple[Any, ...]) -> None:
    """However many facts there are, the function gets them in order."""
    told = Told()

    told.hook(told.note)(*facts)

    assert told.facts == [facts]
    assert told.errors == []


@pytest.mark.parametrize("error", [RuntimeError("x"), asyncio.CancelledError()])
def test_what_a_plain_function_raises_is_reported(error: BaseException) -> None:
    """An error, and a CancelledError that nobody sent, stop at the hook."""
    told = Told()

    told.hook(partial(fail_with, error))("fact")

    assert told.errors == [error]


def test_an_exit_passes_through() -> None:
    """A hook that ends the program ends it."""
    told = Told()

    with pytest.raises(SystemExit):
        told.hook(partial(fail_with, SystemExit(3)))()

    assert told.errors == []


def test_a_function_with_other_parameters_is_reported() -> None:
    """A hook that does not take what it is told changes nothing for the caller."""
    told = Told()

    told.hook(lambda: None)("fact")

    assert [type(error) for error in told.errors] == [TypeError]


@pytest.mark.virtual_time
async def test_an_async_hook_takes_its_time() -> None:
    """It is not awaited, and the task lives although nobody else holds it."""
    told = Told()

    async def slow(fact: str) -> None:
        await asyncio.sleep(60)
        told.note(fact)

    hook = told.hook(slow)
    hook("fact")
    gc.collect()
    before = list(told.facts)
    await asyncio.sleep(61)

    assert before == []
    assert told.facts == [("fact",)]


@pytest.mark.virtual_time
async def test_a_hook_is_kept_until_it_has_ended() -> None:
    """A task that nobody else holds is not collected while it waits, and not kept when it ended."""
    tasks: list[weakref.ref[asyncio.Task[Any]]] = []
    waits: list[weakref.ref[asyncio.Future[None]]] = []

    async def wait() -> None:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task is not None
        tasks.append(weakref.ref(task))
        waits.append(weakref.ref(future))
        await future

    hook = Told().hook(wait)
    hook()
    await asyncio.sleep(1)
    gc.collect()
    future = waits[0]()

    assert tasks[0]() is not None
    assert future is not None

    future.set_result(None)
    await asyncio.sleep(1)
    del future
    gc.collect()

    assert tasks[0]() is None


@pytest.mark.virtual_time
async def test_what_an_async_hook_raises_is_reported() -> None:
    """The error of the task reaches the report."""
    told = Told()
    error = RuntimeError("x")

    async def fails() -> None:
        raise error

    told.hook(fails)()
    await asyncio.sleep(1)

    assert told.errors == [error]


def test_a_cancelled_hook_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """The end of the loop cancels its tasks; there is nothing to report."""
    told = Told()

    async def forever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        told.hook(forever)()
        await asyncio.sleep(1)

    run(main())

    assert told.errors == []
    assert caplog.records == []


async def look() -> None:
    """Do nothing, where there is a loop."""


class Plain:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Any:
        yield


@pytest.mark.parametrize("answer", [look, Plain])
def test_an_async_hook_outside_of_a_loop_is_reported(answer: Callable[[], Awaitable[None]]) -> None:
    """Nobody can run it: the report says so, and no coroutine is left unawaited."""
    told = Told()

    told.hook(answer)()
    gc.collect()

    assert [type(error) for error in told.errors] == [PolicyError]
    assert "needs a running event loop" in str(told.errors[0])


def test_an_async_hook_is_pending_until_it_has_ended() -> None:
    """Whoever comes to an end may wait for it."""
    told = Told()

    async def nap() -> None:
        await asyncio.sleep(1)

    async def main() -> list[int]:
        hook = told.hook(nap)
        hook()
        seen = [len(hook.pending)]
        await asyncio.wait(hook.pending)
        return [*seen, len(hook.pending)]

    assert run(main()) == [1, 0]
