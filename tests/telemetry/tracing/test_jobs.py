"""Jobs of a pool of workers in traces: from whoever hands them in to what their methods do."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from opentelemetry import trace

from penstock import Escalation, Policy, TripBreaker, TryAgain, WorkerPool

virtual = pytest.mark.virtual_time

IDS = tuple[int, int]


class Site:
    """A worker that knows in whose span it works."""

    async def do(self, what: object = None, seconds: float = 0) -> object:
        """Raise an exception, or the first of a list; return anything else."""
        if seconds:
            await asyncio.sleep(seconds)
        if isinstance(what, list):
            what = what.pop(0) if what else "done"
        if isinstance(what, BaseException):
            raise what
        return what

    async def where(self) -> IDS:
        """Return the ids of the current span, and make one below it."""
        return here()

    def where_sync(self) -> IDS:
        """Return the same from a plain method."""
        return here()


def here() -> IDS:
    """Return the trace and the span that are current."""
    tracer = trace.get_tracer("method")
    current = trace.get_current_span().get_span_context()
    with tracer.start_as_current_span("below"):
        return current.trace_id, current.span_id


@virtual
async def test_a_job_is_a_span_from_when_it_was_handed_in(spans: Any):
    """The time in line is a wait before its first attempt."""
    async with WorkerPool(Site, size=1, name="crew") as pool:
        jobs = [await pool.submit(Site.do, "done", seconds=5) for _ in range(2)]
        await asyncio.gather(*jobs)

    # By the wall clock, which has not gone on, the one that waited began earlier.
    assert spans.tree() == [
        "crew Site.do 0-10 attempts=1 outcome=success",
        "  attempt 5-10 attempt.number=1 resource.name=worker-0 verdict=ok wait.queue=5",
        "crew Site.do 0-5 attempts=1 outcome=success",
        "  attempt 0-5 attempt.number=1 resource.name=worker-0 verdict=ok",
    ]


@virtual
async def test_a_job_hangs_below_what_was_current_where_it_was_handed_in(spans: Any):
    """Also when that has ended, and when the same task serves several."""
    tracer = trace.get_tracer("test")
    async with WorkerPool(Site, size=1, name="crew") as pool:
        jobs = []
        for name in ("one", "two"):
            with tracer.start_as_current_span(name):
                jobs.append(await pool.submit(Site.where))
        await asyncio.gather(*jobs)

    for root in spans.roots():
        (job,) = spans.below(root)
        (attempt,) = spans.below(job)
        assert (job.name, [s.name for s in spans.below(attempt)]) == ("crew Site.where", ["below"])
    assert len(spans.roots()) == 2


@virtual
async def test_a_call_past_the_line_is_a_span_too(spans: Any):
    """It has waited for nothing."""
    async with WorkerPool(Site, size=1, name="crew") as pool:
        await pool.workers.do(seconds=2)

    assert spans.tree() == [
        "crew Site.do 0-2 attempts=1 outcome=success",
        "  attempt 0-2 attempt.number=1 resource.name=worker-0 verdict=ok",
    ]


@virtual
async def test_a_job_that_pauses_the_pool_is_a_call_each_time(spans: Any):
    """The pause is the time in line of the second one."""
    async with WorkerPool(Site, size=1, name="crew") as pool:
        assert await (await pool.submit(Site.do, [TripBreaker()])) == "done"

    by_outcome = {root.attributes["penstock.outcome"]: root for root in spans.roots()}
    assert set(by_outcome) == {"failure", "success"}
    (attempt,) = spans.below(by_outcome["success"])
    assert attempt.attributes["penstock.wait.queue"] == 10.0


@virtual
@pytest.mark.parametrize("with_observer", [False, True])
@pytest.mark.parametrize("seed", range(8))
async def test_waits_and_attempts_make_up_the_whole_job(seed: int, with_observer: bool, spans: Any):
    """To a millisecond, whatever happens: retries, pauses, cooldowns, busy workers."""
    chance = Random(seed)
    policy = Policy("p").with_retry(3, wait=chance.uniform(0, 2)).with_rate(3)
    observers = [lambda event: None] if with_observer else []
    pool = WorkerPool(
        Site,
        size=2,
        name="crew",
        policy=policy,
        observers=observers,
        escalation=Escalation(failures=3, trips=9),
    )
    async with pool:
        jobs = []
        for _ in range(25):
            outcome = chance.choice([[], [], [TryAgain()], [OSError(), OSError(), OSError()]])
            jobs.append(await pool.submit(Site.do, outcome, seconds=chance.uniform(0, 3)))
            await asyncio.sleep(chance.uniform(0, 0.5))
        await asyncio.gather(*jobs, return_exceptions=True)

    assert len(spans.roots()) >= 25
    for root in spans.roots():
        attempts = spans.below(root)
        known = sum(_waits(span) for span in (root, *attempts)) + sum(map(_duration, attempts))
        assert abs(_duration(root) - known) < 1e-3


def _duration(span: Any) -> float:
    return (span.end_time - span.start_time) / 1e9


def _waits(span: Any) -> float:
    return sum(v for name, v in span.attributes.items() if name.startswith("penstock.wait."))


@pytest.mark.integration
@pytest.mark.parametrize("method", ["where", "where_sync"])
@pytest.mark.parametrize("mode", ["asyncio", "thread", "process"])
async def test_the_trace_goes_on_in_the_worker_in_every_mode(mode: str, method: str, spans: Any):
    """The attempt's span is the current one in the method, wherever that runs."""
    tracer = trace.get_tracer("test")
    async with WorkerPool(Site, size=1, mode=mode, name="crew") as pool:
        with tracer.start_as_current_span("outer"):
            direct = await getattr(pool.workers, method)()
            in_line = await (await pool.submit(method))

    (outer,) = spans.roots()
    jobs = spans.below(outer)
    attempts = [attempt for job in jobs for attempt in spans.below(job)]
    assert len(jobs) == 2
    assert [(a.context.trace_id, a.context.span_id) for a in attempts] == [direct, in_line]
    if mode != "process":
        # In another process they go to the provider that is set there.
        assert [[s.name for s in spans.below(a)] for a in attempts] == [["below"], ["below"]]
