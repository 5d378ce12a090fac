"""What concurry's retry does, done with a Policy (rows C14 to C17 of docs/parity.md)."""

from __future__ import annotations

import asyncio

import pytest

from penstock import ConfigError, InvalidResultError, Policy
from penstock.stages.retry import Exponential, Fibonacci, Linear
from penstock.testing import scripted

pytestmark = pytest.mark.virtual_time


class FlakyError(Exception):
    """A failure of the user's own type."""


async def test_c14_n_retries_are_n_plus_1_calls_and_the_error_is_the_original() -> None:
    """The last failure comes out as the object that was raised."""
    failures = [FlakyError(1), FlakyError(2), FlakyError(3)]
    policy = Policy("worker").with_retry(attempts=3, wait=0)
    work = scripted(*failures)

    with pytest.raises(FlakyError) as caught:
        await policy.call(work)

    assert caught.value is failures[2]
    assert caught.value.__cause__ is None


async def test_c14_types_and_callables_say_together_what_is_retried() -> None:
    """Any of them is enough; a callable sees the failure, an async one is awaited."""

    async def is_busy(failure: Exception) -> bool:
        await asyncio.sleep(0)
        return str(failure) == "busy"

    policy = Policy("worker").with_retry(attempts=5, wait=0, retry_on=[ConnectionError, is_busy])
    work = scripted(ConnectionError, FlakyError("busy"), FlakyError("broken"))

    with pytest.raises(FlakyError, match="broken"):
        await policy.call(work)

    assert len(work.calls) == 3


@pytest.mark.parametrize(
    ("wait", "starts"),
    [
        (Exponential(initial=1, max=100, jitter="none"), [0, 1, 3, 7, 15]),
        (Linear(initial=1, max=100, jitter="none"), [0, 1, 3, 6, 10]),
        (Fibonacci(initial=1, max=100, jitter="none"), [0, 1, 2, 4, 7]),
    ],
)
async def test_c14_the_three_algorithms(wait: object, starts: list[float]) -> None:
    """Pauses of 1, 2, 4, 8, of 1, 2, 3, 4, and of 1, 1, 2, 3 seconds."""
    policy = Policy("worker").with_retry(attempts=5, wait=wait)
    work = scripted(*[FlakyError] * 4, "done")

    await policy.call(work)

    assert work.times == starts


async def test_c14_what_an_attempt_held_is_free_between_attempts() -> None:
    """A limit inside retry is taken anew by each attempt and by nobody in between."""
    policy = Policy("worker").with_retry(attempts=2, wait=10).with_concurrency(1)
    held: list[int] = []

    async def look_during_the_pause() -> None:
        await asyncio.sleep(5)
        held.append(policy.snapshot()["stages"][1]["in_flight"])

    await asyncio.gather(policy.call(scripted(FlakyError, "done")), look_during_the_pause())

    assert held == [0]


async def test_c15_invalid_results_are_retried_and_all_of_them_are_in_the_error() -> None:
    """Every validator has to agree; one that raises counts as "invalid"."""

    def is_even(result: int) -> bool:
        return result % 2 == 0

    def is_known(result: int) -> bool:
        if result == 4:
            raise LookupError(result)
        return result > 10

    policy = Policy("worker").with_retry(attempts=3, wait=0, accept=[is_even, is_known])
    work = scripted(3, 4, 6)

    with pytest.raises(InvalidResultError, match="after 3 attempts") as caught:
        await policy.call(work)

    assert caught.value.results == (3, 4, 6)
    assert [type(failure) for failure in caught.value.failures] == [LookupError]


async def test_c15_a_valid_result_ends_the_attempts() -> None:
    """What passes all validators is the result."""
    policy = Policy("worker").with_retry(attempts=5, wait=0, accept=lambda result: result == "good")

    assert await policy.call(scripted("bad", "bad", "good")) == "good"


async def test_c15_results_are_validated_with_0_retries_too() -> None:
    """One attempt, one look."""
    policy = Policy("worker").with_retry(attempts=1, accept=str.isdigit)

    with pytest.raises(InvalidResultError) as caught:
        await policy.call(scripted("abc"))

    assert caught.value.results == ("abc",)


async def test_c16_only_the_named_method_is_retried() -> None:
    """A policy belongs to the method it decorates, so there are no names to misspell."""
    policy = Policy("worker").with_retry(attempts=3, wait=0)

    class Worker:
        def __init__(self) -> None:
            self.fetched = self.stored = 0

        @policy
        async def fetch(self) -> None:
            self.fetched += 1
            raise FlakyError

        async def store(self) -> None:
            self.stored += 1
            raise FlakyError

    worker = Worker()
    for method in (worker.fetch, worker.store):
        with pytest.raises(FlakyError):
            await method()

    assert (worker.fetched, worker.stored) == (3, 1)


async def test_c17_a_jitter_of_a_tenth_varies_the_wait_by_a_tenth_at_most() -> None:
    """A ratio is a ratio; full jitter has a word of its own."""
    policy = Policy("worker").with_retry(
        attempts=200, wait=Exponential(initial=10, factor=1, max=100, jitter=0.1), seed=1
    )
    work = scripted(*[FlakyError] * 199, "done")

    await policy.call(work)

    pauses = [after - before for before, after in zip(work.times, work.times[1:], strict=False)]
    assert min(pauses) >= 9 - 1e-6
    assert max(pauses) <= 11 + 1e-6
    assert max(pauses) - min(pauses) > 1.5


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan"), "some"])
def test_c17_a_jitter_that_means_nothing_is_refused(jitter: object) -> None:
    """From 0 to 1, or one of three words."""
    with pytest.raises(ConfigError, match="'jitter' must be none, full, equal, or a ratio"):
        Exponential(jitter=jitter)  # type: ignore[arg-type]
