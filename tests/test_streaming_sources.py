"""What ``policy.stream`` can read besides async iterators: context managers, and calls of gRPC."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, Self

import pytest

from penstock import CallTimeoutError, Policy, Pool
from penstock.testing import run

pytestmark = pytest.mark.virtual_time


def _like(error: BaseException) -> BaseException:
    # What was raised has a traceback, and whoever is in it has what was raised: a cycle.
    return type(error)(*error.args)


class Manager:
    """A context manager that brings items, and remembers how it was left.

    Args:
        items: What it brings; an exception is raised in its place.
        refuses: Raised by entering.
        answers: What leaving returns; an exception is raised by it.
    """

    def __init__(self, *items: Any, refuses: Exception | None = None, answers: Any = None) -> None:
        self.items = items
        self.refuses = refuses
        self.answers = answers
        self.story: list[Any] = []

    async def __aenter__(self) -> Any:
        if self.refuses is not None:
            raise self.refuses
        self.story.append("entered")
        return self._read()

    async def __aexit__(self, kind: Any, failure: Any, traceback: Any) -> Any:  # noqa: PYI036 - asserted
        assert kind is (None if failure is None else type(failure))
        assert traceback is (None if failure is None else failure.__traceback__)
        self.story.append(kind and kind.__name__)
        if isinstance(self.answers, BaseException):
            raise _like(self.answers)
        return self.answers

    async def _read(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                await asyncio.sleep(1)
                if isinstance(item, Exception):
                    raise _like(item)
                yield item
        finally:
            self.story.append("closed")


async def _read(stream: Any, read: list[Any] | None = None) -> list[Any]:
    read = [] if read is None else read
    async with stream as items:
        async for item in items:
            read.append(item)
    return read


# --- entered and left ---------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", ["end", "break", "error"])
async def test_a_context_manager_is_entered_read_and_left(leaves: str):
    """Without a failure where the source had none; its generator is closed before."""
    manager = Manager(1, 2)
    policy = Policy().with_concurrency(1)
    read: list[int] = []

    async def reader() -> None:
        async with policy.stream(lambda: manager) as items:
            async for item in items:
                read.append(item)
                if leaves == "break":
                    break
                if leaves == "error":
                    raise KeyError

    await asyncio.gather(reader(), return_exceptions=True)

    assert read == ([1, 2] if leaves == "end" else [1])
    assert manager.story == ["entered", "closed", None]
    assert policy.snapshot()["stages"][0]["in_flight"] == 0


async def test_a_context_manager_hears_of_the_failure_of_its_source():
    """That is how it knows what to do with its connection."""
    manager = Manager(1, ConnectionError("off"))
    read: list[int] = []

    with pytest.raises(ConnectionError, match="off"):
        await _read(Policy().stream(lambda: manager), read)

    assert read == [1]
    assert manager.story == ["entered", "closed", "ConnectionError"]


async def test_each_attempt_enters_a_manager_of_its_own():
    """What cannot be entered, and what fails before its first item, is tried again."""
    managers = [Manager(refuses=OSError("down")), Manager(ConnectionError("off")), Manager(1, 2)]
    waiting = iter(managers)

    assert await _read(Policy().with_retry(3, wait=0).stream(lambda: next(waiting))) == [1, 2]
    assert [manager.story for manager in managers] == [
        [],
        ["entered", "closed", "ConnectionError"],
        ["entered", "closed", None],
    ]


@pytest.mark.parametrize("limited", [False, True])
async def test_a_cancel_reaches_the_manager(limited: bool):
    """The reader's own, and that of a time limit."""
    manager = Manager(1, 2, 3)
    policy = Policy().with_timeout(2.5) if limited else Policy()
    task = asyncio.create_task(_read(policy.stream(lambda: manager)))
    if not limited:
        asyncio.get_running_loop().call_at(2.5, task.cancel)

    with pytest.raises(CallTimeoutError if limited else asyncio.CancelledError):
        await task

    assert manager.story == ["entered", "closed", "CancelledError"]


async def test_a_coroutine_may_bring_the_manager():
    """Opening and entering are two things."""
    manager = Manager(1, 2)

    async def connect() -> Manager:
        return manager

    assert await _read(Policy().stream(connect)) == [1, 2]  # type: ignore[arg-type]
    assert manager.story == ["entered", "closed", None]


async def test_a_manager_of_contextlib_is_one_like_any_other():
    """Its generator sees the failure where it waits."""
    seen: list[str] = []

    @asynccontextmanager
    async def connection() -> AsyncGenerator[AsyncIterator[int]]:
        try:
            yield Manager(1, ConnectionError("off"))._read()
        except ConnectionError as failure:
            seen.append(str(failure))
            raise

    with pytest.raises(ConnectionError, match="off"):
        await _read(Policy().stream(connection))
    assert seen == ["off"]


async def test_what_is_both_a_manager_and_iterable_is_read_and_closed():
    """As the streams of SDKs are."""
    story: list[str] = []

    class Stream:
        async def __aenter__(self) -> Self:
            raise AssertionError("read it instead")

        async def __aexit__(self, *_: object) -> None:
            raise AssertionError("close it instead")

        async def __aiter__(self) -> AsyncIterator[int]:
            yield 1

        async def close(self) -> None:
            story.append("closed")

    assert await _read(Policy().stream(Stream)) == [1]
    assert story == ["closed"]


async def test_what_entering_brought_is_left_for_the_manager_to_close():
    """It may be somebody else's too."""
    closed: list[str] = []

    class Shared:
        def __init__(self) -> None:
            self.left = 1

        def __aiter__(self) -> Shared:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

        async def aclose(self) -> None:
            closed.append("never")

    @asynccontextmanager
    async def subscribed() -> AsyncGenerator[Shared]:
        yield Shared()

    assert await _read(Policy().stream(subscribed)) == [0]
    assert closed == []


# --- what leaving makes of a failure ------------------------------------------------------------


async def test_a_manager_may_make_an_error_of_its_own_of_a_failure():
    """That is the failure, for retry as well."""
    managers = iter(
        [Manager(KeyError("the caller's"), answers=ConnectionError("translated")), Manager(1)]
    )

    assert await _read(Policy().with_retry(2, wait=0).stream(lambda: next(managers))) == [1]


async def test_a_manager_may_swallow_a_failure():
    """Then the stream has ended."""
    policy = Policy().with_breaker(failures=1)

    assert await _read(policy.stream(lambda: Manager(1, OSError("off"), answers=True))) == [1]
    assert policy.snapshot()["stages"][0]["state"] == "closed"


async def test_an_error_of_leaving_does_not_hide_a_cancel(caplog: pytest.LogCaptureFixture):
    """It is logged without its text, which may hold keys."""
    policy = Policy().with_timeout(1.5)

    with pytest.raises(CallTimeoutError):
        await _read(policy.stream(lambda: Manager(1, 2, answers=OSError("sk-1"))))

    assert "closing a stream's source raised OSError" in caplog.text
    assert "sk-1" not in caplog.text


async def test_an_error_of_leaving_reaches_a_reader_that_saw_no_other():
    """As with ``async with``."""
    with pytest.raises(OSError, match="gone"):
        await _read(Policy().stream(lambda: Manager(1, answers=OSError("gone"))))


# --- what cannot be read ------------------------------------------------------------------------


async def test_a_response_that_is_no_iterable_is_left_again_and_the_error_says_what_to_do():
    """``client.stream("GET", url)`` brings one; it is the caller's mistake and not tried again."""
    story: list[str] = []

    class Response:
        """Neither iterable nor awaitable."""

    @asynccontextmanager
    async def get() -> AsyncGenerator[Response]:
        story.append("entered")
        try:
            yield Response()
        finally:
            story.append("left")

    stream: Any = Policy().with_retry(3, wait=0).stream(get)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"and \S+Response is none; give it an async generator"):
        await _read(stream)
    assert story == ["entered", "left"]


# --- nobody closes it ---------------------------------------------------------------------------


async def test_a_stream_of_a_manager_that_is_dropped_gives_back_what_it_held():
    """At once; the manager is left in a task of its own."""
    manager = Manager(1, 2)
    policy = Policy().with_concurrency(1)
    stream: Any = policy.stream(lambda: manager).reading(idle=5)
    await stream.__aenter__()

    del stream
    gc.collect()

    assert policy.snapshot()["stages"][0]["in_flight"] == 0
    await asyncio.sleep(0)
    assert manager.story == ["entered", "closed", "GeneratorExit"]


@pytest.mark.parametrize("answers", [OSError("gone"), asyncio.CancelledError()])
async def test_nobody_is_troubled_by_a_dropped_stream_that_cannot_be_closed(
    answers: Any, caplog: pytest.LogCaptureFixture
):
    """An error of it is logged without its text."""
    manager = Manager(1, 2, answers=answers)
    stream: Any = Policy().stream(lambda: manager)
    await stream.__aenter__()

    del stream
    gc.collect()
    await asyncio.sleep(0)

    assert manager.story == ["entered", "closed", "GeneratorExit"]
    assert ("raised OSError" in caplog.text) == isinstance(answers, OSError)
    assert "gone" not in caplog.text


def test_a_stream_that_outlives_its_loop_is_dropped_in_peace():
    """Nothing can be closed any more, and nothing is reported; what is held is given back."""
    held: list[Any] = []
    policy = Policy().with_concurrency(1)

    async def enter() -> None:
        stream: Any = policy.stream(lambda: Manager(1, 2))
        await stream.__aenter__()
        held.append(stream)

    async def drop() -> None:
        held.clear()
        gc.collect()
        assert len(asyncio.all_tasks()) == 1

    run(enter())
    run(drop())
    run(enter())
    held.clear()
    gc.collect()

    assert policy.snapshot()["stages"][0]["in_flight"] == 0


async def test_no_reference_cycle_is_left_by_a_manager():
    """Read, left early, failed."""

    async def all_of_them() -> None:
        policy = Policy().with_concurrency(1)
        await _read(policy.stream(lambda: Manager(1)).reading(idle=5))
        async with policy.stream(lambda: Manager(1, 2)):
            pass
        for answers in (None, True, OSError("gone")):
            broken = policy.stream(lambda answers=answers: Manager(1, KeyError(), answers=answers))
            with suppress(KeyError, OSError):
                await _read(broken)

    await all_of_them()
    gc.collect()
    await all_of_them()

    assert gc.collect() == 0


# --- what a source is closed with, and what it says at its opening ------------------------------


async def test_a_call_that_can_only_be_cancelled_is_cancelled():
    """Those of gRPC have no other way to be closed; the server is told."""
    story: list[str] = []

    class Call:
        async def __aiter__(self) -> AsyncIterator[int]:
            yield 1
            yield 2

        def cancel(self) -> bool:
            story.append("cancelled")
            return True

    async with Policy().stream(Call) as items:
        assert await anext(items) == 1

    assert story == ["cancelled"]


async def test_the_quota_in_the_headers_of_a_stream_is_told_to_the_pool():
    """The streams of SDKs have the response that they are read from."""
    pool = Pool({"ann": "sk-1", "bob": "sk-2"})
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}

    class Stream:
        response = SimpleNamespace(headers=headers)

        async def __aiter__(self) -> AsyncIterator[int]:
            yield 1

    async with Policy().rotating(pool, inject=None).stream(Stream) as items:
        assert pool.stats().by_standing["cooling"] == 1
        assert await anext(items) == 1
