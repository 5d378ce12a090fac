"""``policy.stream``: retried until the first item, held until closed."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from penstock import CallTimeoutError, Policy, PolicyError, current_resource
from penstock.events import AttemptEnded, CallEnded, CallStarted
from penstock.testing import EventLog, Sweep, cancel_sweep

pytestmark = pytest.mark.virtual_time

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Source:
    """Makes async generators and remembers what became of them.

    Args:
        plays: What each opening yields; an exception is raised in its place.
        pause: Seconds before each item.
    """

    def __init__(self, *plays: list[Any], pause: float = 0) -> None:
        self.plays = list(plays)
        self.pause = pause
        self.opened = 0
        self.closed = 0
        self.endings: list[type[BaseException] | None] = []

    async def __call__(self, *args: Any) -> AsyncIterator[Any]:
        """Play the next opening."""
        self.opened += 1
        ending: type[BaseException] | None = None
        try:
            for item in self.plays.pop(0):
                await asyncio.sleep(self.pause)
                if isinstance(item, Exception):
                    raise item
                yield item
        except BaseException as error:
            ending = type(error)
            raise
        finally:
            self.endings.append(ending)
            self.closed += 1


class Holder:
    """A custom stage that counts what is held, with a plain ``finally``."""

    def __init__(self) -> None:
        self.held = 0
        self.released = 0

    async def __call__(self, call: Any, call_next: Any) -> Any:
        """Hold while the rest runs."""
        self.held += 1
        try:
            return await call_next(call)
        finally:
            self.released += 1


async def _read(stream: Any) -> list[Any]:
    async with stream as items:
        return [item async for item in items]


async def _read_into(read: list[Any], stream: Any, *, leaves: bool = False) -> None:
    async with stream as items:
        async for item in items:
            read.append(item)
            if leaves:
                break


# --- opening, and the first item --------------------------------------------------------------


async def test_until_the_first_item_the_source_is_opened_again():
    """Errors while opening and errors before the first item are both retried."""
    source = Source([ConnectionError("while opening")], [ConnectionError("again")], [1, 2])
    policy = Policy().with_retry(3, wait=1)

    assert await _read(policy.stream(source)) == [1, 2]
    assert source.opened == source.closed == 3


async def test_an_error_in_the_middle_reaches_the_reader_and_the_breaker_and_is_not_retried():
    """The reader has seen items: nothing may be handed out twice."""
    source = Source([1, ConnectionError("broken off")], [1, 2])
    policy = Policy().with_retry(3, wait=1).with_breaker(failures=1)
    read: list[int] = []

    with pytest.raises(ConnectionError, match="broken off"):
        await _read_into(read, policy.stream(source))

    assert read == [1]
    assert source.opened == source.closed == 1
    assert policy.snapshot()["stages"][1]["state"] == "open"


async def test_a_stage_that_refuses_opens_nothing():
    """The error comes from entering, and the block is not run."""
    source = Source([1])
    policy = Policy().with_concurrency(1, max_queue=0)

    async with policy.stream(Source([1])):
        with pytest.raises(PolicyError, match="all 1 permits are taken"):
            await _read(policy.stream(source))

    assert source.opened == 0


async def test_the_items_of_an_empty_source_are_none():
    """It is a success with nothing in it."""
    policy = Policy().with_retry(3, wait=1).with_breaker(failures=1).with_concurrency(1)

    assert await _read(policy.stream(Source([]))) == []
    assert policy.snapshot()["stages"][2]["in_flight"] == 0


async def test_items_may_be_anything():
    """None, exceptions as values, and falsy things are items like any other."""
    odd: list[Any] = [None, 0, "", [], StopAsyncIteration, asyncio.CancelledError]

    assert await _read(Policy().stream(Source(odd))) == odd


async def test_entering_waits_for_the_first_item():
    """And for no more than that."""
    source = Source([1, 2], pause=3)

    async with Policy().stream(source) as items:
        assert asyncio.get_running_loop().time() == 3
        assert await anext(items) == 1
        assert asyncio.get_running_loop().time() == 3
        assert await anext(items) == 2
        assert asyncio.get_running_loop().time() == 6


async def test_the_arguments_reach_the_source():
    """Positional and by keyword."""

    async def source(*args: int, **kwargs: int) -> AsyncIterator[Any]:
        yield args, kwargs

    assert await _read(Policy().stream(source, 1, 2, key=3)) == [((1, 2), {"key": 3})]


# --- sources of every shape -------------------------------------------------------------------


class Plain:
    """An async iterable that is no generator; some have a way to close them."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.closings: list[str] = []

    def __aiter__(self) -> Plain:
        return self

    async def __anext__(self) -> int:
        if not self.numbers:
            raise StopAsyncIteration
        return self.numbers.pop(0)


class WithAclose(Plain):
    """Closed by a coroutine method."""

    async def aclose(self) -> None:
        """Close."""
        self.closings.append("aclose")


class WithAsyncClose(Plain):
    """Closed by a coroutine method of another name, as SDK streams are."""

    async def close(self) -> None:
        """Close."""
        self.closings.append("close")


class WithPlainClose(Plain):
    """Closed by a plain method."""

    def close(self) -> None:
        """Close."""
        self.closings.append("close")


class WithFieldClose(Plain):
    """Has a field of that name."""

    close = "at five"


class AlsoAwaitable(Plain):
    """Could be awaited too, for something else."""

    def __await__(self) -> Any:
        raise AssertionError("read it instead")


@pytest.mark.parametrize(
    ("kind", "closings"),
    [
        (Plain, []),
        (AlsoAwaitable, []),
        (WithAclose, ["aclose"]),
        (WithAsyncClose, ["close"]),
        (WithPlainClose, ["close"]),
        (WithFieldClose, []),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_source_that_is_no_generator_is_read_and_closed_once(
    kind: type[Plain], closings: list[str], wrapped: bool, leaves: bool
):
    """Returned at once or by a coroutine; read to the end or left early."""
    source = kind(1, 2, 3)

    async def opened() -> Plain:
        return source

    fn: Any = opened if wrapped else (lambda: source)
    async with Policy().stream(fn) as items:
        first = await anext(items)
        rest = [] if leaves else [item async for item in items]

    assert [first, *rest] == ([1] if leaves else [1, 2, 3])
    assert source.closings == closings


async def test_an_iterator_and_its_source_are_both_closed():
    """SDK streams hold a response and read it with a generator of their own."""
    story: list[str] = []

    class Stream:
        async def __aiter__(self) -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                story.append("generator closed")

        async def close(self) -> None:
            story.append("response closed")

    async with Policy().stream(Stream) as items:
        async for _ in items:
            break

    assert story == ["generator closed", "response closed"]


async def test_a_source_that_cannot_be_hashed_or_whose_iterator_is_not_iterable_is_read():
    """What ``async for`` reads can be read here."""

    class Iterator:
        def __init__(self) -> None:
            self.left = 2

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __aiter__(self) -> Iterator:
            return Iterator()

    assert await _read(Policy().stream(Unhashable)) == [1, 0]


@pytest.mark.parametrize("returned", [5, [1, 2], "text", None])
async def test_what_cannot_be_iterated_asynchronously_is_a_mistake_of_the_caller(returned: Any):
    """It is not tried again."""
    opened = []

    def fn() -> Any:
        opened.append(1)
        return returned

    with pytest.raises(TypeError, match="async iter"):
        await _read(Policy().with_retry(3, wait=1).stream(fn))
    assert opened == [1]


# --- leaving ----------------------------------------------------------------------------------


def _held() -> tuple[Policy, Holder]:
    holder = Holder()
    policy = Policy().with_stage(holder).with_rate(100).with_breaker(failures=1)
    return policy.with_concurrency(1).with_timeout(100), holder


def _balance(policy: Policy) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for stage in policy.snapshot()["stages"]:
        facts.update(stage)
    return {k: facts[k] for k in ("in_flight", "waiting", "probes_out", "failures", "running")}


BALANCED = {"in_flight": 0, "waiting": 0, "probes_out": 0, "failures": 0, "running": 0}


async def test_permits_are_held_until_the_stream_is_closed():
    """Also while the reader does something else between two items."""
    policy, holder = _held()

    async with policy.stream(Source([1, 2])) as items:
        await anext(items)
        await asyncio.sleep(1)
        assert _balance(policy) == BALANCED | {"in_flight": 1, "running": 1}

    assert _balance(policy) == BALANCED
    assert holder.released == 1


async def test_a_break_closes_the_source_and_counts_as_a_success():
    """At the end of the block, not when the collector comes by."""
    policy, holder = _held()
    source = Source([1, 2, 3])

    async with policy.stream(source) as items:
        async for _ in items:
            break

    assert source.endings == [GeneratorExit]
    assert holder.released == 1
    assert _balance(policy) == BALANCED


async def test_an_error_in_the_body_closes_the_source_and_passes():
    """It is the reader's own: the breaker does not count it."""
    policy, _ = _held()
    source = Source([1, 2, 3])

    with pytest.raises(KeyError, match="the reader's own"):
        async with policy.stream(source):
            raise KeyError("the reader's own")

    assert source.closed == 1
    assert _balance(policy) == BALANCED


@pytest.mark.parametrize("where", ["body", "anext", "entering"])
async def test_a_cancel_reaches_the_reader_wherever_it_waits(where: str):
    """In the body, in the source's own wait, while the first item is awaited."""
    policy, holder = _held()
    source = Source([1, 2], pause={"body": 0, "anext": 5, "entering": 5}[where])

    async def reader() -> None:
        async with policy.stream(source) as items:
            async for _ in items:
                await asyncio.sleep(5 if where == "body" else 0)

    task = asyncio.create_task(reader())
    await asyncio.sleep(7 if where == "anext" else 1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed == 1
    assert holder.released == 1
    assert _balance(policy) == BALANCED


async def test_a_cancel_that_comes_while_the_source_cleans_up_ends_the_reader():
    """Whatever made the reader leave: a break, an error of its own, a cancel before."""
    ended = []

    async def slow_to_close() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(10)
            ended.append("never")

    async def reader(leave: str) -> None:
        async with Policy().stream(slow_to_close):
            if leave == "error":
                raise KeyError("the reader's own")
            if leave == "cancel":
                await asyncio.sleep(10)

    for leave in ("break", "error", "cancel"):
        task = asyncio.create_task(reader(leave))
        await asyncio.sleep(1)
        task.cancel()
        if leave == "cancel":
            await asyncio.sleep(1)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ended == []


async def test_the_source_may_wait_while_it_cleans_up():
    """The stages hold what they hold until it has."""
    policy, _ = _held()

    async def slow_to_close() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(2)
            assert _balance(policy)["in_flight"] == 1

    async with policy.stream(slow_to_close):
        pass

    assert asyncio.get_running_loop().time() == 2
    assert _balance(policy) == BALANCED


class Grumpy(Plain):
    """Cannot be closed in peace."""

    async def aclose(self) -> None:
        """Fail."""
        raise OSError("already gone")


class Broken(Grumpy):
    """Fails, and then cannot be closed in peace."""

    async def __anext__(self) -> int:
        if self.numbers:
            return self.numbers.pop(0)
        raise ConnectionError("broken off")


async def test_an_error_of_closing_reaches_a_reader_that_saw_no_other():
    """As with ``contextlib.aclosing``; and everything is given back."""
    policy, holder = _held()

    for leaves in (False, True):
        stream = policy.fresh().stream(lambda: Grumpy(1, 2))
        with pytest.raises(OSError, match="already gone"):
            await _read_into([], stream, leaves=leaves)
    assert holder.held == holder.released == 2


async def test_an_error_of_closing_does_not_hide_the_failure(caplog: pytest.LogCaptureFixture):
    """It is logged without its text, which may hold keys."""
    with pytest.raises(ConnectionError, match="broken off"):
        await _read(Policy().stream(lambda: Broken(1)))

    assert "closing a stream's source raised OSError" in caplog.text
    assert "already gone" not in caplog.text


async def test_an_error_of_closing_does_not_hide_a_cancel():
    """The caller asked for an end and gets it."""

    async def reader() -> None:
        async with Policy().stream(lambda: Grumpy(1)):
            await asyncio.sleep(10)

    task = asyncio.create_task(reader())
    await asyncio.sleep(1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_source_is_closed_although_its_iterator_cannot_be():
    """One error does not leave the connection open."""
    closed = []

    class Stream:
        def __aiter__(self) -> Grumpy:
            return Grumpy(1)

        def close(self) -> None:
            closed.append(True)

    with pytest.raises(OSError, match="already gone"):
        await _read(Policy().stream(Stream))
    assert closed == [True]


async def test_reading_on_after_the_end_brings_nothing_more():
    """After the last item, after an error, after the block."""
    stream: Any = Policy().stream(Source([1, ConnectionError("off")]))

    async with stream as items:
        assert await anext(items) == 1
        with pytest.raises(ConnectionError):
            await anext(items)
        assert await anext(items, "over") == "over"
    assert await anext(stream, "over") == "over"


async def test_a_first_item_that_was_not_read_is_not_read_after_the_block():
    """The source is closed: so is the stream."""
    async with Policy().stream(Source([1])) as items:
        pass

    assert await anext(items, "over") == "over"


# --- misuse -----------------------------------------------------------------------------------


async def test_a_stream_is_entered_once():
    """Again means another call."""
    stream = Policy().stream(Source([1], [2]))

    async with stream:
        with pytest.raises(PolicyError, match=r"can be entered once; call policy\.stream"):
            await stream.__aenter__()


async def test_a_stream_has_to_be_entered():
    """The error shows how."""
    stream: Any = Policy().stream(Source([1]))

    with pytest.raises(PolicyError, match=r"enter the stream first: async with policy\.stream"):
        aiter(stream)
    with pytest.raises(PolicyError, match="enter the stream first"):
        await anext(stream)


async def test_two_tasks_cannot_read_one_stream_at_a_time():
    """The first reads on; what it waits for is not taken from it."""
    async with Policy().stream(Source([1, 2], pause=1)) as items:
        await anext(items)
        first = asyncio.create_task(anext(items))  # type: ignore[arg-type]
        await asyncio.sleep(0.5)
        with pytest.raises(PolicyError, match="read by one task at a time"):
            await anext(items)
        assert await first == 2


async def test_a_stage_that_runs_the_rest_in_a_task_gets_a_clear_error():
    """The text names what it did."""
    source = Source([1, 2])

    async def hurried(call: Any, call_next: Any) -> Any:
        return await asyncio.create_task(call_next(call))

    with pytest.raises(RuntimeError, match="a stage must not run call_next in a task of its own"):
        await _read(Policy().with_stage(hurried).stream(source))
    assert source.closed == 1


async def test_a_stage_that_calls_again_after_every_end_is_closed_for_good():
    """Leaving ends what it has opened anew."""
    source = Source([1], [2], [3])

    async def thrice(call: Any, call_next: Any) -> None:
        for _ in range(3):
            await call_next(call)

    assert await _read(Policy().with_stage(thrice).stream(source)) == [1, 2, 3]

    again = Source([1], [2], [3])
    async with Policy().with_stage(thrice).stream(again):
        pass
    assert again.opened == again.closed == 3


# --- nobody closes it -------------------------------------------------------------------------


async def test_a_stream_that_is_dropped_gives_back_what_it_held():
    """The collector runs the stages' own ``finally`` blocks; the source is closed by the loop."""
    policy, holder = _held()
    source = Source([1, 2])
    log = EventLog()
    stream: Any = Policy(observers=[log]).with_stage(holder).stream(source)

    await stream.__aenter__()
    del stream
    gc.collect()

    assert holder.released == 1
    assert log.only(CallEnded).outcome == "cancelled"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert source.closed == 1
    assert _balance(policy) == BALANCED


async def test_a_reader_that_is_closed_while_it_waits_closes_the_stream():
    """A coroutine that nobody awaits any more gets a GeneratorExit in its wait."""
    policy, holder = _held()
    stream = policy.stream(Source([1, 2], pause=5))

    async def reader() -> None:
        async with stream as items:
            await anext(items)

    coroutine = reader()
    coroutine.send(None)
    coroutine.close()

    assert holder.released == 1
    assert _balance(policy) == BALANCED


async def test_a_generator_over_a_stream_closes_it_when_it_is_closed():
    """A stream can be handed on."""
    policy, holder = _held()
    source = Source([1, 2, 3])

    async def doubled() -> AsyncIterator[int]:
        async with policy.stream(source) as items:
            async for item in items:
                yield 2 * item

    generator: Any = doubled()
    assert await anext(generator) == 2
    await generator.aclose()

    assert source.closed == holder.released == 1


async def test_a_stream_that_is_closed_in_another_context_is_closed_in_peace():
    """By the collector, or by the loop that ends a generator somebody has left."""
    policy = Policy().with_rate(100, cost=2).with_concurrency(1)

    async def numbers() -> AsyncIterator[int]:
        async with policy.stream(Source([1, 2])) as items:
            async for item in items:
                yield item

    async def leave() -> None:
        async for _ in numbers():
            break

    async def drop(streams: list[Any]) -> None:
        streams.clear()

    await leave()
    await asyncio.sleep(1)
    assert policy.snapshot()["stages"][1]["in_flight"] == 0

    streams: list[Any] = [policy.stream(Source([1, 2]))]
    await streams[0].__aenter__()
    await asyncio.create_task(drop(streams))
    assert policy.snapshot()["stages"][1]["in_flight"] == 0


async def test_no_reference_cycle_is_left_by_a_stream():
    """Read to the end, left early, failed, cancelled."""

    async def all_of_them() -> None:
        policy = Policy().with_concurrency(1)
        await _read(policy.stream(Source([1, 2])))
        async with policy.stream(Source([1, 2])):
            pass
        try:
            async with policy.stream(Source([1], pause=1)):
                asyncio.get_running_loop().call_later(1, _current().cancel)
                await asyncio.sleep(5)
        except asyncio.CancelledError:
            _current().uncancel()

    await all_of_them()
    gc.collect()
    await all_of_them()

    assert gc.collect() == 0


def _current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


# --- time -------------------------------------------------------------------------------------


async def test_an_attempts_limit_ends_with_the_first_item():
    """How long the reader takes is the reader's affair."""
    policy = Policy().with_retry(2, wait=0).with_timeout(5)
    slow, quick = Source([1], [1, 2], pause=9), Source([1, 2], pause=1)
    loop = asyncio.get_running_loop()

    with pytest.raises(CallTimeoutError, match="attempt 2 timed out after 5 s"):
        await _read(policy.stream(slow))
    assert loop.time() == 10

    async with policy.stream(quick) as items:
        async for _ in items:
            await asyncio.sleep(20)
    assert loop.time() == 52


@pytest.mark.parametrize("where", ["between the items", "in the source", "while closing"])
async def test_a_total_limit_ends_the_block_wherever_the_reader_is(where: str):
    """As its own error, and with the task's count of cancels as it was."""

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(100 if where == "in the source" else 0)
            yield 2
        finally:
            await asyncio.sleep(100 if where == "while closing" else 0)

    policy = Policy().with_timeout(5).with_concurrency(1)

    async def reader() -> None:
        async with policy.stream(numbers) as items:
            async for _ in items:
                await asyncio.sleep(100 if where == "between the items" else 0)
                if where == "while closing":
                    break

    with pytest.raises(CallTimeoutError, match="the call timed out after 5 s") as caught:
        await reader()

    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert _current().cancelling() == 0
    assert asyncio.get_running_loop().time() == 5
    assert policy.snapshot()["stages"][1]["in_flight"] == 0


async def test_a_cancel_from_outside_is_no_timeout():
    """Also when both come while the reader is in its body."""
    policy = Policy().with_timeout(5)

    async def reader() -> None:
        async with policy.stream(Source([1])):
            await asyncio.sleep(100)

    task = asyncio.create_task(reader())
    asyncio.get_running_loop().call_at(5, task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reader_that_makes_an_error_of_its_own_out_of_the_timeout_keeps_it():
    """As in a block of ``asyncio.timeout``."""

    async def reader() -> None:
        async with Policy().with_timeout(5).stream(Source([1])):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise KeyError("made of it") from None

    with pytest.raises(KeyError, match="made of it"):
        await reader()

    assert _current().cancelling() == 0
    await asyncio.sleep(1)


async def test_a_limit_inside_the_source_is_the_sources_own():
    """A cancel scope that is open across a yield stays in one task, and works."""

    async def impatient() -> AsyncIterator[int]:
        async with asyncio.timeout(5):
            yield 1
            await asyncio.sleep(100)
            yield 2

    read: list[int] = []
    with pytest.raises(TimeoutError) as caught:
        await _read_into(read, Policy().with_timeout(50).stream(impatient))

    assert not isinstance(caught.value, CallTimeoutError)
    assert read == [1]
    assert asyncio.get_running_loop().time() == 5


# --- one task, one context --------------------------------------------------------------------


async def test_source_and_reader_share_a_task_and_no_context():
    """The source sees what was set when it was opened; what either sets later stays its own."""
    tasks, seen = [], []

    async def source() -> AsyncIterator[str]:
        tasks.append(asyncio.current_task())
        seen.append(VARIABLE.get())
        VARIABLE.set("by the source")
        yield VARIABLE.get()
        yield VARIABLE.get()

    policy = Policy().with_retry(2).with_rate(10).with_breaker().with_concurrency(1).with_timeout(9)
    VARIABLE.set("before")
    async with policy.stream(source) as items:
        assert await anext(items) == "by the source"
        assert VARIABLE.get() == "before"
        VARIABLE.set("by the reader")
        assert await anext(items) == "by the source"

    assert seen == ["before"]
    assert tasks == [asyncio.current_task()]


async def test_the_call_of_a_stream_is_current_in_its_source_alone():
    """A reader between two items is not taken for the operation that reads them."""
    policy = Policy().rotating({"ann": "sk-1"}, inject=None)

    async def source() -> AsyncIterator[str | None]:
        yield current_resource().id
        yield current_resource().id

    async with policy.stream(source) as items:
        assert await anext(items) == "ann"
        with pytest.raises(PolicyError):
            current_resource()
        assert await anext(items) == "ann"


async def test_streams_may_be_nested_and_interleaved():
    """Each holds its own permit and reads its own source."""
    policy = Policy().with_concurrency(3)

    async def outer() -> AsyncIterator[int]:
        async with policy.stream(Source([10, 20])) as tens:
            async for ten in tens:
                yield ten + 1

    async with policy.stream(outer) as first, policy.stream(Source([1, 2])) as second:
        read = [await anext(first), await anext(second), await anext(first), await anext(second)]
        assert policy.snapshot()["stages"][0]["in_flight"] == 3

    assert read == [11, 1, 21, 2]
    assert policy.snapshot()["stages"][0]["in_flight"] == 0


async def test_many_readers_at_once_keep_their_items_apart():
    """Results never cross between calls."""
    policy = Policy().with_concurrency(5).with_retry(2, wait=1)

    async def read(number: int) -> list[Any]:
        plays = [[ConnectionError("first"), 0], [number] * 3] if number % 2 else [[number] * 3]
        return await _read(policy.stream(Source(*plays, pause=0.1 * number)))

    assert await asyncio.gather(*map(read, range(20))) == [[number] * 3 for number in range(20)]


# --- answers in place of the source -----------------------------------------------------------


async def _answer(**fallback: Any) -> list[Any]:
    policy = Policy().with_fallback(**fallback).with_concurrency(1)
    return await _read(policy.stream(Source([ConnectionError("down")])))


@pytest.mark.parametrize(
    ("value", "items"), [([1, 2], [1, 2]), ((), []), (None, []), (range(2), [0, 1])]
)
async def test_a_fallbacks_value_is_read_as_the_items(value: Any, items: list[int]):
    """A list is what a fixed value can be; None is an empty stream."""
    assert await _answer(value=value) == items


@pytest.mark.parametrize("value", ["sorry", b"sorry", {"a": 1}, 5])
async def test_a_fallbacks_value_without_items_is_refused(value: Any):
    """A text is not taken for its letters; the block is not run."""
    stream = Policy().with_fallback(value=value).stream(Source([ConnectionError("down")]))

    name = type(value).__name__
    with pytest.raises(PolicyError, match=f"answered with {name}; answer it with a list"):
        await stream.__aenter__()


async def test_what_answers_a_stream_is_closed_when_it_is_left():
    """By a break, an error, a cancel and at its end; not when the collector comes by."""
    substitutes: list[tuple[Source, Any]] = []

    def substitute(failure: Exception) -> Any:
        source = Source([7, 8, 9])
        substitutes.append((source, source()))
        return substitutes[-1][1]

    policy = Policy().with_fallback(substitute)

    async def read(stream: Any, how: str) -> list[int]:
        found = []
        async with stream as items:
            async for item in items:
                found.append(item)
                if how == "break":
                    break
                if how == "error":
                    raise KeyError(how)
                if how == "cancel":
                    _current().cancel()
                await asyncio.sleep(0)
        return found

    for how, raised in (("break", None), ("error", KeyError), ("cancel", asyncio.CancelledError)):
        stream: Any = policy.stream(Source([ConnectionError("down")]))
        task = asyncio.create_task(read(stream, how))
        await asyncio.wait([task])
        assert (asyncio.CancelledError if task.cancelled() else type(task.exception())) == (
            raised or type(None)
        )
        assert substitutes[-1][0].closed == 1

    assert await read(policy.stream(Source([ConnectionError("down")])), "end") == [7, 8, 9]
    assert substitutes[-1][0].closed == 1


async def test_an_error_of_what_answers_reaches_the_reader():
    """It answered, so it is the stream now; nothing else is tried."""

    async def failing(failure: Exception) -> AsyncIterator[int]:
        yield 1
        raise OSError("worse")

    read: list[int] = []
    with pytest.raises(OSError, match="worse"):
        await _read_into(read, Policy().with_fallback(failing).stream(Source([OSError("down")])))
    assert read == [1]


async def test_a_result_that_a_stage_makes_of_a_stream_is_not_read_after_it():
    """A stage that times its calls may return what it likes."""

    async def timing(call: Any, call_next: Any) -> Any:
        return await call_next(call), "0.1 s"

    assert await _read(Policy().with_stage(timing).stream(Source([1, 2]))) == [1, 2]


async def test_a_streams_end_is_no_result_for_accept():
    """The items went to the reader; there is nothing to accept or to refuse."""
    policy = Policy().with_retry(3, wait=1, accept=bool)

    for plays in ([1, 2], []):
        source = Source(plays)
        assert await _read(policy.stream(source)) == plays
        assert source.opened == 1


# --- events -----------------------------------------------------------------------------------


async def test_events_name_the_users_function():
    """Not the wrapper that opens it."""
    log = EventLog()

    async def tokens() -> AsyncIterator[int]:
        yield 1

    await _read(Policy(observers=[log]).stream(tokens))

    assert log.only(CallStarted).operation.endswith("<locals>.tokens")
    assert log.names() == ["CallStarted", "AttemptStarted", "AttemptEnded", "CallEnded"]


@pytest.mark.parametrize(
    ("leaves", "outcome"), [("end", "success"), ("break", "success"), ("cancel", "cancelled")]
)
async def test_a_streams_events_last_as_long_as_the_stream(leaves: str, outcome: str):
    """The reader's time is part of the duration."""
    log = EventLog()
    policy = Policy(observers=[log])

    async def reader() -> None:
        async with policy.stream(Source([1, 2])) as items:
            async for _ in items:
                await asyncio.sleep(2)
                if leaves == "break":
                    break

    task = asyncio.create_task(reader())
    if leaves == "cancel":
        asyncio.get_running_loop().call_at(3, task.cancel)
    await asyncio.wait([task])

    seconds = {"end": 4, "break": 2, "cancel": 3}[leaves]
    assert log.only(CallEnded, outcome=outcome).duration == seconds
    assert log.only(AttemptEnded).duration == seconds


# --- cancel sweep -----------------------------------------------------------------------------


def _sweep(leaves: bool) -> Callable[[Sweep], Any]:
    async def scenario(sweep: Sweep) -> tuple[Policy, list[Source]]:
        policy = (
            Policy()
            .with_timeout(60)
            .with_retry(3, wait=1)
            .with_rate(2)
            .with_breaker(failures=20)
            .with_concurrency(1)
            .with_timeout(5)
        )
        sources = [
            Source([ConnectionError("down")], [1, 2, 3], pause=0.5),
            Source([ConnectionError("down")], [4, 5], pause=0.5),
        ]

        async def reader(source: Source) -> None:
            async with policy.stream(source) as items:
                async for _ in items:
                    await asyncio.sleep(0.25)
                    if leaves:
                        break

        sweep.victim(reader(sources[0]))
        sweep.beside(reader(sources[1]))
        return policy, sources

    return scenario


@pytest.mark.parametrize("leaves", [False, True])
def test_cancelled_at_any_point_a_stream_leaves_nothing_behind(leaves: bool):
    """Through retry, rate, breaker, concurrency and two timeouts; another reader goes on."""

    def check(state: tuple[Policy, list[Source]]) -> None:
        policy, sources = state
        facts = _balance(policy)
        assert facts | {"failures": 0} == BALANCED
        assert [source.opened - source.closed for source in sources] == [0, 0]
        assert sources[1].opened == 2

    assert cancel_sweep(_sweep(leaves), check) > 10
