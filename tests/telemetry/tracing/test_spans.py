"""The spans of a call, as trees: one line per span, its children indented below it.

A line says the span's name, its seconds (from the start of its call), ``!`` where its status
is an error, and its attributes without the prefix ``penstock.``.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from opentelemetry import trace

from penstock import (
    Call,
    CallTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    CooldownResource,
    Handler,
    Policy,
    Pool,
    RateLimitedError,
    Resource,
    TryAgain,
    VerdictKind,
    current_resource,
)
from penstock.telemetry.names import SPANS
from penstock.testing import scripted, takes

pytestmark = pytest.mark.virtual_time


async def _refused(call: Any, *errors: type[BaseException]) -> None:
    with pytest.raises(errors):
        await call


# --- golden trees -------------------------------------------------------------------------------


async def test_success(spans):
    """One attempt, as long as the call."""
    await Policy("pay").with_timeout(9).with_retry(3).call(scripted(takes(2), name="charge"))

    assert spans.tree() == [
        "pay charge 0-2 attempts=1 outcome=success",
        "  attempt 0-2 attempt.number=1 verdict=ok",
    ]


async def test_a_success_after_two_retries_is_no_error(spans):
    """The attempts that failed are; each says how long was waited before it."""
    operation = scripted(ConnectionError, TryAgain("later"), takes(1), name="charge")

    await Policy("pay").with_retry(3, wait=2).call(operation)

    assert spans.tree() == [
        "pay charge 0-5 attempts=3 outcome=success",
        "  attempt 0-0 ! error.type=ConnectionError attempt.number=1 verdict=transient",
        "  attempt 2-2 ! error.type=TryAgain attempt.number=2 verdict=transient wait.backoff=2",
        "  attempt 4-5 attempt.number=3 verdict=ok wait.backoff=2",
    ]


async def test_a_failure(spans):
    """The call's error is the last attempt's."""
    await _refused(
        Policy("pay").with_retry(2, 1).call(scripted(then=KeyError, name="charge")), KeyError
    )

    assert spans.tree() == [
        "pay charge 0-0 ! error.type=KeyError attempts=1 outcome=failure",
        "  attempt 0-0 ! error.type=KeyError attempt.number=1 verdict=caller_bug",
    ]


async def test_a_pool_alone(spans):
    """Its calls are traced under its name, each attempt with its resource."""
    pool = Pool({"a": 1, "b": 2}, name="keys", cooldown=[10])

    async def search(key):
        await asyncio.sleep(1)
        if key.id == "a":
            raise CooldownResource
        return "found"

    await pool.run(search)

    root = spans.roots()[0]
    attempts = spans.below(root)
    assert root.name.startswith("keys ")
    assert [span.attributes["penstock.resource.name"] for span in attempts] == ["a", "b"]
    assert root.attributes["penstock.outcome"] == "success"


async def test_rotation_with_a_cooldown(spans):
    """The attempt after the failed one has another resource, and the next call waits for a rest."""
    policy = (
        Policy("ask")
        .with_timeout(60)
        .with_retry(4)
        .rotating(
            [Resource("s3cr3t-1", id="a"), Resource("s3cr3t-2", id="b")], inject=None, cooldown=[10]
        )
    )

    await policy.call(scripted(CooldownResource(), CooldownResource(20), takes(1), name="find"))

    assert spans.tree() == [
        "ask find 0-11 attempts=3 outcome=success",
        (
            "  attempt 0-0 ! error.type=CooldownResource attempt.number=1 resource.name=a "
            "verdict=rate_limited"
        ),
        (
            "  attempt 0-0 ! error.type=CooldownResource attempt.number=2 resource.name=b "
            "verdict=rate_limited"
        ),
        "  attempt 10-11 attempt.number=3 resource.name=a verdict=ok wait.cooldown=10",
    ]


async def test_breaker_open(spans):
    """A call that is refused has no attempt."""
    policy = Policy("ask").with_breaker(failures=1, recover_after=30)
    await _refused(policy.call(scripted(ConnectionError, name="find")), ConnectionError)
    spans.tree()

    await _refused(policy.call(scripted("done", name="find")), CircuitOpenError)

    assert spans.tree() == [
        "ask find 0-0 ! error.type=CircuitOpenError attempts=0 outcome=rejected"
    ]


async def test_a_wait_for_the_rate(spans):
    """It stands on the attempt that followed it."""
    policy = Policy("ask").with_rate("1/5s")
    await policy.call(scripted("done", name="find"))
    spans.tree()

    await policy.call(scripted("done", name="find"))

    assert spans.tree() == [
        "ask find 0-5 attempts=1 outcome=success",
        "  attempt 5-5 attempt.number=1 verdict=ok wait.rate_limit=5",
    ]


async def test_a_total_timeout_during_an_attempt(spans):
    """What was cut off is a time-out, and not a cancel."""
    policy = Policy("ask").with_timeout(3)

    await _refused(policy.call(scripted(takes(9), name="find")), CallTimeoutError)

    assert spans.tree() == [
        "ask find 0-3 ! error.type=CallTimeoutError attempts=1 outcome=timeout",
        "  attempt 0-3 ! error.type=CallTimeoutError attempt.number=1 verdict=timeout",
    ]


async def test_a_total_timeout_during_a_wait(spans):
    """The wait that no attempt followed stands on the call."""
    policy = Policy("ask").with_timeout(3).with_concurrency(1)
    first = asyncio.create_task(policy.call(scripted(takes(2.5), takes(9), name="find")))
    await asyncio.sleep(0)
    second = asyncio.create_task(policy.call(scripted(takes(9), name="find")))
    third = asyncio.create_task(policy.call(scripted(takes(9), name="find")))

    await asyncio.wait([first, second, third])

    assert spans.tree() == [
        "ask find 0-2.5 attempts=1 outcome=success",
        "  attempt 0-2.5 attempt.number=1 verdict=ok",
        "ask find 0-3 ! error.type=CallTimeoutError attempts=1 outcome=timeout",
        (
            "  attempt 2.5-3 ! error.type=CallTimeoutError attempt.number=1 verdict=timeout "
            "wait.concurrency=2.5"
        ),
        "ask find 0-3 ! error.type=CallTimeoutError attempts=0 outcome=timeout wait.concurrency=3",
    ]


async def test_an_attempt_timeout(spans):
    """The attempt failed; the call did not."""
    policy = Policy("ask").with_retry(2, 1).with_timeout(3)

    await policy.call(scripted(takes(9), takes(1), name="find"))

    assert spans.tree() == [
        "ask find 0-5 attempts=2 outcome=success",
        "  attempt 0-3 ! error.type=CallTimeoutError attempt.number=1 verdict=timeout",
        "  attempt 4-5 attempt.number=2 verdict=ok wait.backoff=1",
    ]


async def test_a_cancel_by_the_caller_is_no_error(spans):
    """During an attempt, and during a pause."""
    policy = Policy("ask").with_retry(2, 5)
    during_attempt = asyncio.create_task(policy.call(scripted(takes(9), name="find")))
    during_pause = asyncio.create_task(policy.call(scripted(OSError, name="find")))
    await asyncio.sleep(2)

    for call in (during_attempt, during_pause):
        call.cancel()
    await asyncio.wait([during_attempt, during_pause])

    assert spans.tree() == [
        "ask find 0-2 attempts=1 outcome=cancelled",
        "  attempt 0-2 attempt.number=1 verdict=cancelled",
        "ask find 0-2 attempts=1 outcome=cancelled wait.backoff=2",
        "  attempt 0-0 ! error.type=OSError attempt.number=1 verdict=unknown",
    ]


async def test_a_fallback_answers(spans):
    """With a value, or with a function that takes its time; the call has succeeded."""

    async def answer(_: Exception) -> str:
        await asyncio.sleep(2)
        return "spare"

    await Policy("ask").with_fallback(value=1).call(scripted(OSError, name="find"))
    assert spans.tree() == [
        "ask find 0-0 attempts=1 outcome=success",
        "  attempt 0-0 ! error.type=OSError attempt.number=1 verdict=unknown",
    ]

    await Policy("ask").with_fallback(function=answer).call(scripted(OSError, name="find"))
    assert spans.tree() == [
        "ask find 0-2 attempts=1 outcome=success wait.fallback=2",
        "  attempt 0-0 ! error.type=OSError attempt.number=1 verdict=unknown",
    ]


async def test_a_policy_that_answers_for_another_stands_below_its_call(spans):
    """Its call is one of its own."""
    spare = Policy("spare").with_rate("1/5s")
    policy = Policy("ask").with_fallback(policy=spare)

    await policy.call(scripted(OSError, takes(1), name="find"))

    assert spans.tree() == [
        "ask find 0-1 attempts=1 outcome=success wait.fallback=1",
        "  attempt 0-0 ! error.type=OSError attempt.number=1 verdict=unknown",
        "  spare find 0-1 attempts=1 outcome=success",
        "    attempt 0-1 attempt.number=1 verdict=ok",
    ]


async def test_refused_at_the_door(spans):
    """By a full queue, and by a rate that cannot be had in time."""
    full = Policy("ask").with_concurrency(1, max_queue=0)
    first = asyncio.create_task(full.call(scripted(takes(2), name="find")))
    await asyncio.sleep(0)
    await _refused(full.call(scripted("done", name="find")), ConcurrencyLimitedError)
    late = Policy("ask").with_rate("1/5s", max_wait=1)
    await late.call(scripted("done", name="find"))
    await first
    spans_of_refused = [line for line in spans.tree() if "rejected" in line]
    await _refused(late.call(scripted("done", name="find")), RateLimitedError)

    assert spans_of_refused == [
        "ask find 0-0 ! error.type=ConcurrencyLimitedError attempts=0 outcome=rejected"
    ]
    assert spans.tree() == [
        "ask find 0-0 ! error.type=RateLimitedError attempts=0 outcome=rejected"
    ]


async def test_refused_after_a_wait(spans):
    """Patience ran out: the wait stands on the call."""
    policy = Policy("ask").with_concurrency(1, max_wait=2)
    first = asyncio.create_task(policy.call(scripted(takes(5), name="first")))
    await asyncio.sleep(0)

    await _refused(policy.call(scripted("done", name="find")), ConcurrencyLimitedError)
    await first

    assert spans.tree()[-1] == (
        "ask find 0-2 ! error.type=ConcurrencyLimitedError attempts=0 outcome=rejected "
        "wait.concurrency=2"
    )


async def test_a_result_that_is_refused(spans):
    """There is no error to name: the verdict stands for it, and the caller gets the result."""
    policy = Policy("ask", classify_result=lambda _: VerdictKind.OVERLOADED)

    assert await policy.call(scripted("busy", name="find")) == "busy"

    assert spans.tree() == [
        "ask find 0-0 ! error.type=overloaded attempts=1 outcome=failure",
        "  attempt 0-0 ! error.type=overloaded attempt.number=1 verdict=overloaded",
    ]


async def test_a_displaced_attempt_is_no_error(spans):
    """An older use of its resource failed; it was run again elsewhere."""
    policy = Policy("ask").rotating(["k1", "k2"], inject=None, pick="primary_backup")

    async def older() -> None:
        await asyncio.sleep(1)
        raise CooldownResource

    async def younger() -> str:
        await asyncio.sleep(2)
        return current_resource().id

    first = asyncio.create_task(policy.call(older))
    await asyncio.sleep(0.5)
    second = asyncio.create_task(policy.call(younger))

    await asyncio.wait([first, second])

    assert [line.replace(_path(), "") for line in spans.tree()][2:] == [
        "ask younger 0-2.5 attempts=2 outcome=success",
        "  attempt 0-0.5 attempt.displaced=True attempt.number=1 resource.name=1 verdict=cancelled",
        "  attempt 0.5-2.5 attempt.number=2 resource.name=2 verdict=ok",
    ]


def _path() -> str:
    return "test_a_displaced_attempt_is_no_error.<locals>."


# --- streams ------------------------------------------------------------------------------------


async def _items() -> AsyncGenerator[int]:
    for number in range(3):
        await asyncio.sleep(1)
        yield number


async def test_a_stream_lasts_until_it_is_left(spans):
    """After a break as well; its reader has enough, and that is a success."""
    async with Policy("ask").with_retry(2).stream(_items) as items:
        async for _ in items:
            await asyncio.sleep(5)
            break

    assert spans.tree() == [
        "ask _items 0-6 attempts=1 outcome=success",
        "  attempt 0-6 attempt.number=1 verdict=ok",
    ]


async def test_a_stream_that_fails(spans):
    """Before its first item it is opened again; after it the call has failed."""
    opened = 0

    async def lines() -> AsyncGenerator[int]:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise ConnectionError
        yield 1
        raise ConnectionError

    async def read() -> None:
        async with Policy("ask").with_retry(3, 2).stream(lines) as items:
            async for _ in items:
                await asyncio.sleep(5)

    await _refused(read(), ConnectionError)

    assert [line.replace("test_a_stream_that_fails.<locals>.", "") for line in spans.tree()] == [
        "ask lines 0-7 ! error.type=ConnectionError attempts=2 outcome=failure",
        "  attempt 0-0 ! error.type=ConnectionError attempt.number=1 verdict=transient",
        (
            "  attempt 2-7 ! error.type=ConnectionError attempt.number=2 verdict=transient "
            "wait.backoff=2"
        ),
    ]


async def test_a_stream_that_was_left_to_the_collector(spans):
    """Its spans end when it is collected."""
    stream = Policy("ask").stream(_items)
    await stream.__aenter__()
    await asyncio.sleep(4)
    assert spans.tree() == []

    del stream
    gc.collect()

    assert spans.tree() == [
        "ask _items 0-5 attempts=1 outcome=cancelled",
        "  attempt 0-5 attempt.number=1 verdict=cancelled",
    ]


async def test_no_span_is_current_while_a_stream_is_read(spans):
    """The reader's spans stand below the reader's own."""
    tracer = trace.get_tracer("reader")

    with tracer.start_as_current_span("reader") as reader:
        async with Policy("ask").stream(_items) as items:
            assert trace.get_current_span() is reader
            async for _ in items:
                assert trace.get_current_span() is reader
                tracer.start_span("use").end()
        assert trace.get_current_span() is reader

    (root,) = spans.roots()
    assert [span.name for span in spans.below(root)] == ["ask _items", "use", "use", "use"]


async def test_what_a_client_records_while_it_opens_and_reads_stands_below_the_attempt(spans):
    """Each attempt's own; what the reader records meanwhile does not."""
    tracer = trace.get_tracer("client")
    opened = 0

    async def lines() -> AsyncGenerator[int]:
        nonlocal opened
        opened += 1
        with tracer.start_as_current_span("GET"):
            await asyncio.sleep(1)
            if opened == 1:
                raise ConnectionError
        yield 1
        with tracer.start_as_current_span("chunk"):
            await asyncio.sleep(1)
        yield 2

    async with Policy("ask").with_retry(2, 0).stream(lines) as items:
        async for _ in items:
            tracer.start_span("use").end()
            assert not trace.get_current_span().is_recording()

    (call,) = [root for root in spans.roots() if root.name != "use"]
    first, second = spans.below(call)
    assert [span.name for span in spans.below(first)] == ["GET"]
    assert [span.name for span in spans.below(second)] == ["GET", "chunk"]


@pytest.mark.finding(13)
async def test_a_span_that_a_source_leaves_open_over_an_item_is_not_current_for_the_reader(spans):
    """Also where the reader leaves by a break, or drops the stream."""
    tracer = trace.get_tracer("client")

    async def lines() -> AsyncGenerator[int]:
        with tracer.start_as_current_span("GET"):
            yield 1
            yield 2

    async with Policy("ask").stream(lines) as items:
        async for _ in items:
            assert not trace.get_current_span().is_recording()
            break
    dropped = Policy("ask").stream(lines)
    await dropped.__aenter__()
    del dropped
    gc.collect()
    await asyncio.sleep(0)
    tracer.start_span("after").end()

    assert [root.name.split()[0] for root in spans.roots()] == ["ask", "ask", "after"]


async def test_a_stream_that_another_policy_answers_stands_below_its_call(spans):
    """Although no span is current."""

    async def broken() -> AsyncGenerator[int]:
        if current_policies.pop(0) == "ask":
            raise OSError
        yield 1

    current_policies = ["ask", "spare"]
    async with Policy("ask").with_fallback(policy=Policy("spare")).stream(broken) as items:
        assert [item async for item in items] == [1]

    (root,) = spans.roots()
    assert [span.name.split()[0] for span in spans.below(root)] == ["attempt", "spare"]


# --- what is current ----------------------------------------------------------------------------


def _current() -> str:
    return getattr(trace.get_current_span(), "name", "none")


async def test_the_attempt_is_current_while_the_operation_runs(spans):
    """And the call's own span in a stage of the user's; none after it."""
    seen: list[str] = []

    async def look(call: Call, call_next: Handler) -> Any:
        seen.append(_current())
        try:
            return await call_next(call)
        finally:
            seen.append(_current())

    async def find() -> None:
        seen.append(_current())

    await Policy("ask").with_stage(look).call(find)

    name = "ask test_the_attempt_is_current_while_the_operation_runs.<locals>.find"
    assert seen == [name, "attempt", name]
    assert _current() == "none"
    assert len(spans.tree()) == 2


async def test_the_attempt_is_current_in_a_worker_thread(spans):
    """That is where a plain function runs."""

    def find() -> str:
        return _current()

    assert await Policy("ask").call(find) == "attempt"
    assert len(spans.tree()) == 2


async def test_a_call_that_was_left_to_the_collector(spans, caplog: pytest.LogCaptureFixture):
    """It is closed in another context than it began in: its spans end, and nobody complains."""
    call: Any = Policy("ask").call(scripted(takes(9), name="find"))
    contextvars.copy_context().run(call.send, None)

    del call
    gc.collect()

    assert spans.tree() == [
        "ask find 0-0 attempts=1 outcome=cancelled",
        "  attempt 0-0 attempt.number=1 verdict=cancelled",
    ]
    assert _current() == "none"
    assert caplog.records == []


async def test_a_call_inside_a_call_stands_below_the_attempt(spans):
    """As does everything that the operation has traced."""
    inner = Policy("inner")

    async def find() -> None:
        await inner.call(scripted("done", name="ask"))

    await Policy("outer").call(find)

    assert [line.split()[0:2] for line in spans.tree()][1:] == [
        ["attempt", "0-0"],
        ["inner", "ask"],
        ["attempt", "0-0"],
    ]


async def test_calls_at_once_have_spans_of_their_own(spans):
    """Under the span that was current when each began."""
    policy = Policy("ask").with_concurrency(2)

    async def find() -> int:
        own = trace.get_current_span().get_span_context().span_id
        await asyncio.sleep(1)
        assert trace.get_current_span().get_span_context().span_id == own
        return own

    seen = await asyncio.gather(*(policy.call(find) for _ in range(5)))

    assert len(set(seen)) == 5
    assert {len(spans.below(root)) for root in spans.roots()} == {1}


async def test_tags_and_the_request_are_attributes_of_the_call(spans):
    """One for each tag."""
    view = Policy("ask").using(request_id="r-1", tags={"team": "blue"})

    await view.call(scripted("done", name="find"))

    (line, _) = spans.tree()
    assert line == "ask find 0-0 attempts=1 outcome=success request.id=r-1 tag.team=blue"


def _listed(name: str) -> str:
    return re.sub(r"(penstock\.(?:wait|tag)\.).*", r"\1", name)


async def test_spans_carry_what_the_list_of_names_says(spans):
    """All of it, and nothing else."""
    policy = Policy("ask").with_timeout(1.5).with_retry(3, 1).rotating(["a"], inject=None)
    view = policy.using(request_id="r-1", tags={"team": "blue"})
    await _refused(view.call(scripted(then=OSError)), CallTimeoutError, OSError)
    narrow = Policy("ask").with_concurrency(1, max_wait=1)
    await asyncio.gather(*(narrow.call(scripted(takes(3))) for _ in "ab"), return_exceptions=True)
    (call, attempt) = SPANS

    recorded: dict[bool, set[str]] = {True: set(), False: set()}
    for root in spans.roots():
        recorded[True] |= set(map(_listed, root.attributes))
        for span in spans.below(root):
            recorded[False] |= set(map(_listed, span.attributes))

    assert recorded[False] == {_listed(a.name) for a in attempt.attributes} - {
        "penstock.attempt.displaced"
    }
    assert recorded[True] == {_listed(a.name) for a in call.attributes}
