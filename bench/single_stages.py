"""Each stage alone: what it adds to an empty policy."""

from __future__ import annotations

from functools import partial

from bench.harness import Effort, Operation, Timings, compare, run_loop, succeed
from bench.section import Section, Table
from penstock import Policy

__all__ = ["run"]

_EMPTY = "empty policy"


def run(effort: Effort, loop: str) -> Section:
    """Measure every stage on success."""

    async def main() -> Timings:
        return await compare(_policies(), effort)

    timings = run_loop(main(), loop)
    base = timings.added(_EMPTY)
    return Section(
        name="single-stages",
        title="Each stage alone",
        about="Success through `policy.call(fn)` with one stage, or none.",
        tables=[
            Table(
                columns=("policy", "added, µs", "above the empty policy, µs"),
                rows=[
                    (name, timings.added(name), timings.added(name) - base)
                    for name in list(timings.rounds)[1:]
                ],
            )
        ],
    )


def _policies() -> dict[str, Operation]:
    empty = Policy("bench")
    policies = {
        _EMPTY: empty,
        "with_retry(3)": empty.with_retry(3),
        "with_retry(3, accept=...)": empty.with_retry(3, accept=lambda result: result == 1),
        "with_rate(1_000_000)": empty.with_rate(1_000_000),
        "with_rate(1_000_000, burst=100)": empty.with_rate(1_000_000, burst=100),
        "with_rate(two limits)": empty.with_rate([1_000_000, "60000000/min"]),
        "with_rate(..., cost=2)": empty.with_rate(1_000_000, cost=2),
        "with_breaker(5)": empty.with_breaker(5),
        "with_breaker(failure_ratio=0.5)": empty.with_breaker(failure_ratio=0.5),
        "with_breaker(slow_ratio=0.5, slow_after=1)": empty.with_breaker(
            slow_ratio=0.5, slow_after=1
        ),
        "with_concurrency(100)": empty.with_concurrency(100),
        "with_timeout(5)": empty.with_timeout(5),
        "two timeouts": empty.with_timeout(30).with_timeout(5),
        "with_fallback(value=None)": empty.with_fallback(value=None),
        "with_budget()": empty.with_budget(),
        "using(timeout=5)": empty.using(timeout=5),
        "an observer": Policy("bench", observers=[_ignore]),
        "classify_result='http'": Policy("bench", classify_result="http"),
    }
    calls: dict[str, Operation] = {
        name: partial(policy.call, succeed) for name, policy in policies.items()
    }
    return {**calls, "empty policy, @policy": empty.wrap(succeed)}


def _ignore(_event: object) -> None:
    pass
