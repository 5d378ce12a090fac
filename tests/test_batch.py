"""``policy.gather`` and ``policy.map``: order, bounds, ends, and what a batch leaves behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from importlib.abc import MetaPathFinder
from typing import Any

import pytest

from penstock import ConfigError, Policy, PolicyError
from penstock.progress import reporter
from penstock.testing import Sweep, cancel_sweep, scripted, takes

pytestmark = pytest.mark.virtual_time

VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=-1)


async def _double(number: int) -> int:
    await asyncio.sleep(1)
    return 2 * number


async def _backwards(number: int) -> int:
    await asyncio.sleep(10 - number)
    return number


async def _endless(taken: list[int]) -> AsyncIterator[int]:
    for number in itertools.count():
        taken.append(number)
        yield number


async def _mapped(results: Any) -> list[Any]:
    return [result async for result in results]


def _others() -> set[Any]:
    return asyncio.all_tasks() - {asyncio.current_task()}


Batch = Callable[..., Any]


async def _gather(policy: Policy, *args: Any, **kwargs: Any) -> list[Any]:
    return await policy.gather(*args, **kwargs)


async def _map(policy: Policy, *args: Any, **kwargs: Any) -> list[Any]:
    return await _mapped(policy.map(*args, **kwargs))


both = pytest.mark.parametrize("batch", [_gather, _map])


# --- order and bounds -------------------------------------------------------------------------


async def test_gather_keeps_the_order_of_the_items_or_gives_that_of_completion():
    """Whatever finishes first."""
    policy = Policy()

    assert await policy.gather(_backwards, range(5)) == [0, 1, 2, 3, 4]
    assert await policy.gather(_backwards, range(5), ordered=False) == [4, 3, 2, 1, 0]


async def test_map_gives_results_as_they_come():
    """The reader has each at the moment it is done."""
    loop = asyncio.get_running_loop()

    times = [(result, loop.time()) async for result in Policy().map(_backwards, range(5))]

    assert times == [(4, 6), (3, 7), (2, 8), (1, 9), (0, 10)]


@both
@pytest.mark.parametrize("concurrency", [1, 3, 7, 100])
async def test_exactly_so_many_calls_are_under_way(batch: Batch, concurrency: int):
    """Never more, and no fewer while there are items."""
    work = scripted(then=takes(1, "done"))

    await batch(Policy(), work, range(20), concurrency=concurrency)

    assert work.most_in_flight == min(concurrency, 20)
    assert asyncio.get_running_loop().time() == -(-20 // concurrency)


class Counting:
    """A stage that counts the calls under way."""

    name = "concurrency"

    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0

    async def __call__(self, call: Any, call_next: Any) -> Any:
        """Count one."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await call_next(call)
        finally:
            self.under_way -= 1


@both
@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ([], 100),
        ([{"limit": 3}], 6),
        ([{"limit": 3, "max_queue": 1}], 4),
        ([{"limit": 3, "max_queue": 0}], 3),
        ([{"limit": 8}, {"limit": 3}], 6),
        ([{"limit": 150}], 200),
    ],
)
async def test_without_a_number_the_policys_own_limit_counts(
    batch: Batch, limits: list[dict[str, int]], most: int
):
    """As many run as may, and as many again stand ready; a hundred where there is no limit."""
    counting = Counting()
    policy = Policy().with_stage(counting).with_retry(2)
    for limit in limits:
        policy = policy.with_concurrency(**limit)

    await batch(policy, _double, range(200))

    assert counting.most == most


@both
async def test_the_limit_counts_as_it_is_when_the_batch_begins(batch: Batch):
    """It may have been resized."""
    counting = Counting()
    policy = Policy().with_stage(counting).with_concurrency(3)
    stage: Any = policy.stages[1]

    stage.resize(7)
    await batch(policy, _double, range(50))

    assert counting.most == 14


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "3", True])
async def test_a_number_that_is_not_allowed_is_refused(concurrency: Any):
    """Before an item is taken."""
    items = iter([1, 2])

    with pytest.raises(ConfigError, match="'concurrency' must be a whole number of at least 1"):
        await Policy().gather(_double, items, concurrency=concurrency)
    with pytest.raises(ConfigError, match="'concurrency' must be"):
        Policy().map(_double, items, concurrency=concurrency)
    assert list(items) == [1, 2]


@both
async def test_the_policy_holds_for_each_call(batch: Batch):
    """Every item is retried for itself."""
    work = scripted(ConnectionError, ConnectionError, then="done")

    results = await batch(Policy().with_retry(3, wait=1), work, range(2), concurrency=1)

    assert results == ["done", "done"]
    assert len(work.calls) == 4


# --- items ------------------------------------------------------------------------------------


async def _agen() -> AsyncIterator[int]:
    for number in range(4):
        await asyncio.sleep(1)
        yield number


class Sentinel:
    """An iterator that must not be asked again after its end."""

    def __init__(self) -> None:
        self.ended = False

    def __iter__(self) -> Sentinel:
        return self

    def __next__(self) -> int:
        assert not self.ended, "asked again after its end"
        self.ended = True
        raise StopIteration


class AsyncSentinel(Sentinel):
    """The same, asynchronously."""

    def __aiter__(self) -> AsyncSentinel:
        return self

    async def __anext__(self) -> int:
        assert not self.ended, "asked again after its end"
        self.ended = True
        raise StopAsyncIteration


class Unsure(list[int]):
    """Has a length and does not know it."""

    def __len__(self) -> int:
        raise TypeError("a stream has no length")


class Liar(list[int]):
    """Says that it is empty."""

    def __len__(self) -> int:
        return 0


@both
@pytest.mark.parametrize(
    ("items", "results"),
    [
        ([], []),
        ((1, 2), [2, 4]),
        ({3: "x"}, [6]),
        (iter([1, 2]), [2, 4]),
        ((n for n in range(3)), [0, 2, 4]),
        (_agen, [0, 2, 4, 6]),
        (Sentinel(), []),
        (AsyncSentinel(), []),
        (Unsure([1, 2]), [2, 4]),
        (Liar([1, 2]), [2, 4]),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_items_may_be_any_iterable(batch: Batch, items: Any, results: list[int]):
    """Plain or async, with or without a length, empty or not."""
    if isinstance(items, Sentinel):
        items.ended = False
    elif isinstance(items, Iterator):
        items = iter([n // 2 for n in results])

    given = items() if items is _agen else items

    assert await batch(Policy(), _double, given) == results


@both
@pytest.mark.parametrize("items", [5, None])
async def test_what_cannot_be_iterated_is_a_mistake_of_the_caller(batch: Batch, items: Any):
    """It is Python's own error."""
    with pytest.raises(TypeError, match="not iterable"):
        await batch(Policy(), _double, items)
    assert _others() == set()


async def test_items_are_read_as_they_are_needed():
    """A source without end is not drained ahead: an item is taken when its call can begin."""
    taken: list[int] = []
    loop = asyncio.get_running_loop()

    async for result in Policy().map(_double, _endless(taken), concurrency=3):
        assert len(taken) <= result // 2 + 1 + 6
        if loop.time() >= 5:
            break

    assert len(taken) <= 18


async def test_a_slow_reader_slows_the_calls_down():
    """At most twice as many results wait as calls may be under way."""
    taken: list[int] = []

    async with aclosing(Policy().map(_double, _endless(taken), concurrency=2)) as results:  # type: ignore[type-var]
        await anext(results)
        await asyncio.sleep(1000)
        assert len(taken) == 5
        await anext(results)
        await asyncio.sleep(1000)
        assert len(taken) == 6


@both
async def test_a_source_that_is_slow_keeps_nobody_busy(batch: Batch):
    """One task waits for the next item, not one per call that could be."""
    waiting: list[int] = []

    async def slow() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(10)
            waiting.append(len(_others()))
            yield number

    await batch(Policy(), _double, slow(), concurrency=50)

    assert max(waiting) <= 2


@both
async def test_the_context_of_one_item_does_not_reach_the_next(batch: Batch):
    """Each call starts from the caller's context."""
    seen: list[int] = []

    async def work(number: int) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set(number)
        await asyncio.sleep(0)

    VARIABLE.set(7)
    await batch(Policy(), work, range(4), concurrency=2)

    assert seen == [7] * 4


# --- errors -----------------------------------------------------------------------------------


class Work:
    """Sleeps, and fails at one item; remembers what was started and what was cleaned up."""

    def __init__(self, fails_at: int, failure: Any, *, cleanup: float = 0) -> None:
        self.fails_at = fails_at
        self.failure = failure
        self.cleanup = cleanup
        self.started: list[int] = []
        self.cleaned: list[int] = []

    async def __call__(self, number: int) -> int:
        """Work on one item."""
        self.started.append(number)
        try:
            await asyncio.sleep(1 if number == self.fails_at else 20)
            if number == self.fails_at:
                raise self.failure
        finally:
            await asyncio.sleep(self.cleanup)
            self.cleaned.append(number)
        return number


FAILURES = [KeyError("the first"), asyncio.CancelledError(), GeneratorExit()]


@both
@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("cleanup", [0, 5])
async def test_the_first_failure_ends_the_batch(batch: Batch, failure: Any, cleanup: float):
    """The others are cancelled and waited for; no further item is taken."""
    work = Work(2, failure, cleanup=cleanup)
    items = iter(range(100))

    with pytest.raises(type(failure)):
        await batch(Policy(), work, items, concurrency=4)

    assert work.started == [0, 1, 2, 3]
    assert sorted(work.cleaned) == [0, 1, 2, 3]
    assert next(items) == 4
    assert _others() == set()
    assert asyncio.get_running_loop().time() == 1 + 2 * cleanup


async def test_what_was_done_before_the_failure_is_still_read_from_map():
    """Then comes the error."""
    work = scripted("a", "b", takes(1, KeyError("c")), then=takes(5))
    results: Any = Policy().map(work, range(9), concurrency=3)

    assert [await anext(results), await anext(results)] == ["a", "b"]
    with pytest.raises(KeyError):
        await anext(results)
    assert await anext(results, "over") == "over"


@both
async def test_a_call_that_swallows_its_cancel_is_the_last_of_the_batch(batch: Batch):
    """Nothing more is called once the batch has failed."""
    started = []

    async def stubborn(number: int) -> int:
        started.append(number)
        if number == 1:
            raise KeyError(number)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            await asyncio.sleep(5)
        return number

    with pytest.raises(KeyError):
        await batch(Policy(), stubborn, itertools.count(), concurrency=2)

    assert started == [0, 1]


@both
async def test_a_source_that_swallows_the_cancel_starts_no_call(batch: Batch):
    """Whatever it still brings."""
    started = []

    async def stubborn() -> AsyncIterator[int]:
        yield 0
        while True:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                yield 1

    async def work(number: int) -> None:
        started.append(number)
        await asyncio.sleep(1)
        raise KeyError(number)

    with pytest.raises(KeyError):
        await batch(Policy(), work, stubborn(), concurrency=2)

    assert started == [0]


@both
async def test_an_error_of_the_items_ends_the_batch(batch: Batch):
    """It reaches the caller as it is; what was under way is cancelled."""
    work = Work(-1, None)

    def broken() -> Iterator[int]:
        yield 0
        raise OSError("the file ends here")

    async def broken_later() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(1)
        raise OSError("the file ends here")

    for items in (broken(), broken_later()):
        with pytest.raises(OSError, match="the file ends here"):
            await batch(Policy(), work, items)
        assert _others() == set()
    assert work.started == work.cleaned == [0, 0]


@both
async def test_errors_may_take_their_items_place(batch: Batch):
    """Also a cancellation that the operation raised by itself; the batch goes on."""
    failures = {1: KeyError("one"), 3: asyncio.CancelledError("three")}

    async def work(number: int) -> int:
        await asyncio.sleep(1)
        if number in failures:
            raise failures[number]
        return number

    results = await batch(Policy(), work, range(5), return_exceptions=True)

    if batch is _map:
        assert sorted(results, key=repr) == [0, 2, 4, failures[3], failures[1]]
    else:
        assert results == [0, failures[1], 2, failures[3], 4]


@both
async def test_a_mistake_in_the_items_is_no_result(batch: Batch):
    """``return_exceptions`` is about the calls."""

    def broken() -> Iterator[int]:
        yield 0
        raise OSError("the file ends here")

    with pytest.raises(OSError, match="the file ends here"):
        await batch(Policy(), _double, broken(), return_exceptions=True)


@both
async def test_an_exit_is_never_put_in_an_items_place(batch: Batch):
    """It is not an error of the item."""
    with pytest.raises(GeneratorExit):
        await batch(Policy(), Work(0, GeneratorExit()), range(2), return_exceptions=True)


# --- leaving and cancelling -------------------------------------------------------------------


@both
@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("cleanup", [0, 5])
async def test_a_cancelled_caller_takes_its_calls_along(
    batch: Batch, return_exceptions: bool, cleanup: float
):
    """Their ``finally`` blocks have run when the caller ends."""
    work = Work(-1, None, cleanup=cleanup)
    coroutine = batch(
        Policy(), work, itertools.count(), concurrency=3, return_exceptions=return_exceptions
    )
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.started == sorted(work.cleaned) == [0, 1, 2]
    assert _others() == set()


async def test_a_break_out_of_map_ends_its_calls():
    """At once where it is closed, else when the generator is collected."""
    work = Work(-1, None)

    async for _ in Policy().map(work, range(100), concurrency=3):
        break
    gc.collect()
    await asyncio.sleep(0.5)

    assert work.started[:6] == work.started
    assert sorted(work.cleaned) == work.started
    assert _others() == set()


async def test_a_map_that_is_never_read_takes_nothing():
    """It begins with the first result asked for."""
    items = iter([1, 2])

    results: Any = Policy().map(_double, items)
    await results.aclose()

    assert list(items) == [1, 2]


async def test_a_batch_that_was_cancelled_cancels_nothing_twice():
    """A second cancel would interrupt the cleaning up that the first one asked for."""
    story = []

    async def work(number: int) -> None:
        if number == 0:
            raise KeyError(number)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
            story.append("cleaned up")
            raise

    with pytest.raises(KeyError):
        await Policy().gather(work, range(2))
    assert story == ["cleaned up"]


@pytest.mark.parametrize("reads_slowly", [False, True])
def test_cancelled_at_any_point_a_batch_leaves_nothing_behind(reads_slowly: bool):
    """Permits, tasks, and the bar."""

    async def scenario(sweep: Sweep) -> Policy:
        policy = Policy().with_retry(2, wait=1).with_concurrency(2)
        work = scripted(takes(1), ConnectionError, then=takes(1))

        async def reader() -> None:
            async with aclosing(policy.map(work, _agen(), concurrency=3)) as results:  # type: ignore[type-var]
                async for _ in results:
                    await asyncio.sleep(3 if reads_slowly else 0)

        sweep.victim(reader() if reads_slowly else policy.gather(work, _agen(), concurrency=3))
        sweep.beside(policy.call(scripted(takes(1))))
        return policy

    def check(policy: Policy) -> None:
        facts = policy.snapshot()["stages"][1]
        assert (facts["in_flight"], facts["waiting"]) == (0, 0)

    assert cancel_sweep(scenario, check) > 10


# --- progress ---------------------------------------------------------------------------------


@both
async def test_progress_is_told_after_each_item(batch: Batch):
    """With the total where it is known; async callables are awaited."""
    told: list[Any] = []

    async def tell(done: int, total: int | None) -> None:
        await asyncio.sleep(0)
        told.append((done, total))

    await batch(Policy(), _double, [1, 2], progress=lambda *args: told.append(args))
    await batch(Policy(), _double, iter([1, 2]), progress=tell)
    await batch(Policy(), _double, Unsure([1]), progress=tell)

    assert told == [(1, 2), (2, 2), (1, None), (2, None), (1, None)]


@both
async def test_a_progress_callable_that_raises_changes_nothing(
    batch: Batch, caplog: pytest.LogCaptureFixture
):
    """It is reported once; the results are those of the calls."""

    def tell(done: int, total: int | None) -> None:
        raise ZeroDivisionError(done)

    with caplog.at_level(logging.ERROR, "penstock"):
        assert await batch(Policy(), _double, range(3), progress=tell) == [0, 2, 4]

    assert [record.message for record in caplog.records] == [
        "progress callable raised; further errors of it are not shown"
    ]


@both
async def test_failed_items_count_as_done_where_errors_are_kept(batch: Batch):
    """The bar reaches its end."""
    told: list[int] = []

    await batch(
        Policy(),
        scripted(KeyError, "b"),
        range(2),
        return_exceptions=True,
        progress=lambda done, _: told.append(done),
    )

    assert told == [1, 2]


@both
@pytest.mark.parametrize("progress", [False, None])
async def test_no_progress_is_told_to_nobody(batch: Batch, progress: Any):
    """It is the default."""
    assert await batch(Policy(), _double, [1], progress=progress) == [2]


@pytest.mark.parametrize("progress", ["yes", 5, [print]])
def test_a_progress_that_is_nothing_of_the_kind_is_refused(progress: Any):
    """The error says what is allowed."""
    with pytest.raises(ConfigError, match="'progress' must be true, false or a callable"):
        reporter(progress, None)


@both
@pytest.mark.parametrize("has_total", [False, True])
async def test_a_bar_is_drawn_and_taken_down(
    batch: Batch, has_total: bool, capsys: pytest.CaptureFixture[str]
):
    """Of a batch with a length and of one without."""
    items: Any = range(3) if has_total else iter(range(3))
    threads = set(threading.enumerate())

    assert await batch(Policy(), _double, items, progress=True) == [0, 2, 4]
    with pytest.raises(KeyError):
        await batch(Policy(), scripted(KeyError), range(3), progress=True)

    assert "Traceback" not in "".join(capsys.readouterr())
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive()


async def test_a_bar_shows_how_many_of_how_many():
    """In words that rich can draw at any moment, the first one too."""
    from rich.console import Console  # noqa: PLC0415 - the extra that a bar needs

    for total, shown in ((3, "1/3"), (None, "1/?")):
        bar: Any = reporter(True, total)
        console = Console(width=80, record=True)
        console.print(bar._bar.get_renderable())
        await bar.advance()
        console.print(bar._bar.get_renderable())
        bar.close()
        assert shown in console.export_text()


class _Without(MetaPathFinder):
    """Makes a package look as if it were not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Refuse it."""
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(name)


@pytest.fixture
def without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has no rich."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Without("rich"), *sys.meta_path])


@both
@pytest.mark.usefixtures("without_rich")
async def test_a_bar_without_rich_is_refused_before_anything_is_called(batch: Batch):
    """The error says what to install, and what else would do."""
    items = iter([1])
    work = scripted()

    with pytest.raises(ConfigError, match=r"needs rich: pip install 'penstock\[cli\]', or pass a"):
        await batch(Policy(), work, items, progress=True)

    assert list(items) == [1]
    assert _others() == set()


# --- many -------------------------------------------------------------------------------------


@both
async def test_twenty_thousand_items_cost_no_more_each_than_a_thousand(batch: Batch):
    """And no task is left; the bound is wide, since machines are busy."""

    async def work(number: int) -> int:
        return number

    costs = []
    for count in (1000, 20_000):
        began = time.process_time()
        assert len(await batch(Policy(), work, range(count))) == count
        costs.append((time.process_time() - began) / count)

    assert costs[1] < 4 * costs[0]
    assert _others() == set()


async def test_a_batch_leaves_no_reference_cycle():
    """Read to the end."""
    policy = Policy()
    await policy.gather(_double, range(3))
    gc.collect()

    await policy.gather(_double, range(30))
    await _mapped(policy.map(_double, range(30)))

    assert gc.collect() == 0


async def test_a_rejection_of_the_policy_is_an_error_like_any_other():
    """The batch asks for more than another caller has left over."""
    policy = Policy().with_concurrency(1, max_queue=0)
    other = asyncio.create_task(policy.call(scripted(takes(5))))
    await asyncio.sleep(1)

    with pytest.raises(PolicyError, match="all 1 permits are taken"):
        await policy.gather(_double, range(3))

    await other
