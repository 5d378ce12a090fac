"""pool.map: bounded, in order or as they come, one failure per item, closed cleanly."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from penstock import ConfigError, CooldownResource, WorkerDiedError
from penstock.testing import run
from penstock.workers import WorkerPool
from penstock.workers.chunks import Pace, chunk_target, outcomes_of
from penstock.workers.envelope import Envelope
from penstock.workers.target import Target

pytestmark = pytest.mark.virtual_time


class Clerk:
    """Doubles; counts what is under way, over all clerks."""

    calls: int = 0
    most: int = 0
    now: int = 0
    cancelled: int = 0

    async def double(self, number: int) -> int:
        Clerk.calls += 1
        Clerk.now += 1
        Clerk.most = max(Clerk.most, Clerk.now)
        try:
            # Later ones are faster.
            await asyncio.sleep(1 / (number + 1))
        except asyncio.CancelledError:
            Clerk.cancelled += 1
            raise
        finally:
            Clerk.now -= 1
        if number == 13:
            raise ValueError("thirteen")
        return number * 2

    def sync_double(self, number: int) -> int:
        return number * 2


@pytest.fixture(autouse=True)
def _anew() -> None:
    Clerk.calls = Clerk.most = Clerk.now = Clerk.cancelled = 0


async def all_of(items: Any, into: list[Any] | None = None) -> list[Any]:
    """Read all results, into a list that is there when one of them is a failure."""
    read: list[Any] = [] if into is None else into
    async for item in items:
        read.append(item)  # noqa: PERF401 - what was read before a failure is wanted
    return read


@pytest.mark.parametrize("chunk", [None, 3])
def test_results_come_in_the_order_of_the_items(chunk: int | None):
    """However long each takes, in chunks too."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=4) as pool:
            results = await all_of(pool.map(Clerk.double, range(10), chunk=chunk))

        assert results == [number * 2 for number in range(10)]
        assert Clerk.calls == 10
        assert Clerk.most == 4

    run(main())


def test_results_come_as_they_are_ready():
    """The fastest first."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=4) as pool:
            results = await all_of(pool.map(Clerk.double, range(4), ordered=False))

        assert results == [6, 4, 2, 0]

    run(main())


def test_a_map_over_four_workers_takes_a_quarter_of_the_time():
    """All workers are kept busy."""

    class Slow:
        async def work(self, item: int) -> int:
            await asyncio.sleep(1)
            return item

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with WorkerPool(Slow, size=4) as pool:
            began = loop.time()
            await all_of(pool.map("work", range(40)))
            return loop.time() - began

    assert run(main()) == pytest.approx(10)


def test_the_first_failure_is_raised_in_its_place_and_ends_the_rest():
    """What came before is read, what is under way is cancelled."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=2) as pool:
            read: list[int] = []
            with pytest.raises(ValueError, match="thirteen"):
                await all_of(pool.map(Clerk.double, range(100)), read)

            assert read == [number * 2 for number in range(13)]
            assert Clerk.now == 0
            assert Clerk.calls < 20
            assert pool._run.dispatcher.unfinished == 0

    run(main())


@pytest.mark.parametrize("chunk", [None, 1, 4, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_an_item_that_fails_fails_alone(chunk: int | None, *, ordered: bool):
    """Its error takes its place, in a chunk too."""

    async def main() -> list[Any]:
        async with WorkerPool(Clerk, size=2) as pool:
            how: dict[str, Any] = {"ordered": ordered, "chunk": chunk, "return_exceptions": True}
            return await all_of(pool.map("double", range(20), **how))

    results = run(main())

    failed = [result for result in results if isinstance(result, ValueError)]
    assert len(failed) == 1
    assert sorted(result for result in results if result not in failed) == [
        number * 2 for number in range(20) if number != 13
    ]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_signal_in_a_chunk_reaches_the_pool_and_the_other_items_are_served(*, ordered: bool):
    """The pool hears of it, and each item has its own outcome."""

    class Tired:
        asked = 0

        async def work(self, item: int) -> int:
            if item == 2:
                Tired.asked += 1
                raise CooldownResource(5)
            return item

    async def main() -> tuple[list[Any], Any]:
        async with WorkerPool(Tired, size=1) as pool:
            how: dict[str, Any] = {"ordered": ordered, "chunk": 6, "return_exceptions": True}
            results = await all_of(pool.map("work", range(6), **how))
            members = pool._run.workers.machine.members
            return results, [m.counts.cooldowns for m in members.values()]

    results, cooldowns = run(main())

    assert sum(isinstance(result, CooldownResource) for result in results) == 1
    assert [r for r in results if isinstance(r, int)] == [0, 1, 3, 4, 5]
    assert cooldowns == [1]


def test_no_more_items_are_read_than_the_window_holds():
    """Items may be endless, and whoever reads slowly slows it down."""
    given = []

    def endless() -> Any:
        number = 100
        while True:
            given.append(number)
            yield number
            number += 1

    async def main() -> None:
        async with WorkerPool(Clerk, size=2) as pool:
            results = pool.map(Clerk.double, endless(), concurrency=5)
            assert await anext(results) == 200
            await asyncio.sleep(10)

            assert len(given) <= 6
            await results.aclose()
            assert pool._run.dispatcher.unfinished == 0

    run(main())


def test_leaving_the_loop_cancels_what_is_under_way():
    """Nothing runs on behind it."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=2) as pool:
            async for _ in pool.map(Clerk.double, range(20, 1000)):
                break
            await asyncio.sleep(0.01)
            calls = Clerk.calls
            await asyncio.sleep(5)

            assert Clerk.calls == calls
            assert pool._run.dispatcher.unfinished == 0

    run(main())


def test_items_may_be_async_and_slow():
    """A result does not wait for the next item."""

    async def slow() -> Any:
        for number in range(3):
            yield number
            await asyncio.sleep(100)

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        async with WorkerPool(Clerk, size=1) as pool:
            return [loop.time() async for _ in pool.map(Clerk.double, slow())]

    assert run(main()) == pytest.approx([1, 100.5, 200 + 1 / 3])


def test_items_that_raise_end_the_map():
    """With their own error, after what came before them."""

    def broken() -> Any:
        yield 1
        raise LookupError("no more")

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            read: list[int] = []
            with pytest.raises(LookupError):
                await all_of(pool.map(Clerk.double, broken()), read)
            assert read == [2]

    run(main())


def test_a_job_that_somebody_else_cancels_is_a_failure_of_its_item():
    """Whoever reads was not cancelled."""

    async def main() -> list[Any]:
        async with WorkerPool(Clerk, size=1) as pool:
            results = pool.map(Clerk.double, [1, 2], return_exceptions=True)

            async def meddle() -> None:
                await asyncio.sleep(0.1)
                next(iter(pool._run.dispatcher.active)).cancel()

            meddling = asyncio.create_task(meddle())
            read = await all_of(results)
            await meddling
            return read

    cancelled, result = run(main())

    assert isinstance(cancelled, asyncio.CancelledError)
    assert result == 4


def test_progress_is_told():
    """With the number done and the total."""
    told = []

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            items = pool.map("double", range(3), progress=lambda *facts: told.append(facts))
            await all_of(items)

    run(main())

    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("given", [{"concurrency": 0}, {"chunk": 0}, {"chunk": 1.5}])
def test_a_number_that_is_not_allowed_is_refused(given: dict[str, Any]):
    """By name, before anything is read."""

    async def main() -> None:
        async with WorkerPool(Clerk, size=1) as pool:
            with pytest.raises(ConfigError, match=next(iter(given))):
                pool.map("double", [1], **given)

    run(main())


def test_sync_methods_are_mapped_in_chunks():
    """In the worker's thread, all of a chunk at once."""

    async def main() -> list[int]:
        async with WorkerPool(Clerk, size=2) as pool:
            return await all_of(pool.map(Clerk.sync_double, range(50), chunk=7))

    assert asyncio.run(main()) == [number * 2 for number in range(50)]


def test_sync_items_of_a_chunk_fail_alone_and_a_signal_begins_the_next_chunk():
    """In the thread, as on the loop."""

    class Sync:
        def work(self, item: int) -> int:
            if item == 1:
                raise ValueError(item)
            if item == 3:
                raise CooldownResource(0)
            return item

    async def main() -> list[Any]:
        async with WorkerPool(Sync, size=1) as pool:
            return await all_of(pool.map("work", range(6), chunk=6, return_exceptions=True))

    results = asyncio.run(main())

    assert [result for result in results if isinstance(result, int)] == [0, 2, 4, 5]
    assert isinstance(results[1], ValueError)
    assert isinstance(results[3], CooldownResource)


def test_failures_that_have_to_travel_are_sealed():
    """And opened where they are read."""

    class Failing:
        def work(self, item: int) -> int:
            raise ValueError(item)

    target = chunk_target(Target("work", None, Failing.work), Failing.work, seals=True)
    again: Target = pickle.loads(pickle.dumps(target))

    answer = again.of(Failing())([1])
    ((ok, failure),) = outcomes_of(answer)

    assert isinstance(answer[0][1], Envelope)
    assert not ok
    assert isinstance(failure, ValueError)


def test_chunks_grow_while_calls_are_short_and_shrink_when_they_are_long():
    """Up to a hundred items; a number that the user gave stays."""
    pace, fixed = Pace(None), Pace(7)

    sizes = []
    for now, seconds in enumerate((0.001, 0.001, 0.05, 0.2), 1):
        pace.took(pace.size, now - seconds, now)
        sizes.append(pace.size)
        fixed.took(7, now - seconds, now)
    for now in range(10, 30):
        pace.took(pace.size, now - 0.001, now)

    assert sizes == [2, 4, 4, 2]
    assert pace.size == pace.most == 100
    assert fixed.size == fixed.most == 7


def test_a_worker_that_dies_fails_every_item_of_its_chunk():
    """Nobody knows how far it had come, so none is run again."""

    class Mortal:
        calls = 0

        async def work(self, item: int) -> int:
            Mortal.calls += 1
            if item == 2:
                raise SystemExit
            return item

    async def main() -> list[Any]:
        async with WorkerPool(Mortal, size=1, restart_delay=0) as pool:
            return await all_of(pool.map("work", range(8), chunk=4, return_exceptions=True))

    results = run(main())

    assert all(isinstance(result, WorkerDiedError) for result in results[:4])
    assert results[4:] == [4, 5, 6, 7]
    assert Mortal.calls == 7
