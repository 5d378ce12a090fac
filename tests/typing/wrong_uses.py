"""What both type checkers have to report; only type-checked, never run.

An ignore that is not needed is an error: it means that a wrong use is no longer seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from penstock import Call, Policy, Verdict

policy = Policy("search")


async def search(query: str, *, limit: int = 10) -> list[str]:
    return [query] * limit


async def lines(path: str) -> AsyncIterator[str]:
    yield path


@policy
async def decorated(query: str) -> list[str]:
    return [query]


async def call_checks_the_arguments() -> None:
    await policy.call(search)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await policy.call(search, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await policy.call(search, "query", limi=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await policy.call("search")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await policy.call(search("query"), "query")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def results_keep_their_types() -> None:
    text: str = await policy.call(search, "query")  # type: ignore[call-overload]  # pyright: ignore[reportAssignmentType]
    number: int = policy.run_sync(search, "query")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    assert text == str(number)


async def a_call_has_to_be_awaited() -> None:
    policy.call(search, "query")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    (await policy.call(search, "query")).upper()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    policy.call(search, "query").append("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def a_decorated_function_keeps_its_parameters() -> None:
    await decorated()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await decorated(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await decorated("query", limit=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    decorated("query").append("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def streams_check_their_arguments() -> None:
    async with policy.stream(lines) as items:  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        await anext(items)
    policy.stream(search, "query")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    list(policy.stream(lines, "path"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


async def many_calls_check_their_items() -> None:
    await policy.gather(search, [1, 2, 3])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await policy.gather(search, "a", concurrency="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def building_checks_the_options() -> None:
    Policy(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("a", classify="transient")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("a", classify=["opnai"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Policy("a", classify_result="https")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("a", observers=print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_timeout("5s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_timeout()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.with_retry(attempts="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_retry(wait="1s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_retry(stop="1m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_retry(retry_on=503)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_retry(accept=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_retry(retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.with_rate(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_breaker("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_breaker(failure_rate=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.with_concurrency()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.with_concurrency(5, 10, 20, 30)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.with_fallback(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_budget(share=0.1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.with_stage(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_stage(search)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def views_check_the_overrides() -> None:
    policy.using(timout=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.using(attempts=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.using(tags={"a": 5})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


def what_is_frozen_stays_so(call: Call, verdict: Verdict) -> None:
    verdict.kind = None  # type: ignore[misc, assignment]  # pyright: ignore[reportAttributeAccessIssue]
    policy.name = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    call.attemp = 2  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
