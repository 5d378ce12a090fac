"""Waits and attempts make up the whole call, whatever happened in it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from penstock import CooldownResource, DisableResource, Policy, Resource, TryAgain

pytestmark = pytest.mark.virtual_time

FAILURES = (ConnectionError, TimeoutError, TryAgain, KeyError, CooldownResource, OSError)


def _duration(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def _waits(span: ReadableSpan) -> float:
    facts: Any = span.attributes
    return sum(value for name, value in facts.items() if name.startswith("penstock.wait."))


def _unaccounted(root: ReadableSpan, attempts: list[ReadableSpan]) -> float:
    known = _waits(root) + sum(_waits(span) + _duration(span) for span in attempts)
    return abs(_duration(root) - known)


async def _hook(*_: object) -> None:
    await asyncio.sleep(0.3)


async def _answer(*_: object) -> str:
    await asyncio.sleep(0.7)
    return "spare"


def _policy(chance: Random) -> Policy:
    policy = Policy("ask")
    if chance.random() < 0.5:
        policy = policy.with_timeout(chance.uniform(2, 40))
    if chance.random() < 0.3:
        policy = policy.with_fallback(function=_answer)
    hook = _hook if chance.random() < 0.3 else None
    policy = policy.with_retry(4, wait=chance.uniform(0, 2), on_retry=hook)
    patience = chance.choice([None, 3])
    policy = policy.with_rate(f"{chance.randint(1, 4)}/s", max_wait=patience)
    if chance.random() < 0.5:
        policy = policy.with_breaker(failures=3, recover_after=2)
    policy = policy.with_concurrency(chance.randint(1, 4), max_wait=patience)
    if chance.random() < 0.5:
        policy = policy.with_timeout(chance.uniform(1, 2))
    if chance.random() < 0.7:
        keys = [
            Resource(f"k{n}", id=f"k{n}", max_in_flight=chance.choice([None, 1])) for n in "abc"
        ]
        policy = policy.rotating(keys, inject=None, cooldown=[2, 5], max_wait=patience)
    return policy


@pytest.mark.parametrize("seed", range(25))
async def test_waits_and_attempts_add_up_to_the_call(seed: int, spans):
    """Of calls that succeed, fail, are refused, cut off or cancelled, in pipelines of all kinds."""
    chance = Random(seed)
    policy = _policy(chance)

    async def operation() -> str:
        await asyncio.sleep(chance.uniform(0, 3))
        if chance.random() < 0.5:
            raise chance.choice(FAILURES)
        if chance.random() < 0.05:
            raise DisableResource
        return "done"

    async def call() -> None:
        await asyncio.sleep(chance.uniform(0, 10))
        await policy.call(operation)

    calls = [asyncio.create_task(call()) for _ in range(30)]
    for task in chance.sample(calls, 6):
        asyncio.get_running_loop().call_later(chance.uniform(0, 20), task.cancel)
    await asyncio.gather(*calls, return_exceptions=True)

    roots = spans.roots()
    assert len(roots) > 20
    for root in roots:
        assert _unaccounted(root, spans.below(root)) < 0.001, spans.tree()
