"""Five stages under random load, random failures and random interference, in virtual time.

Whatever happens, no limit is exceeded at any moment, nobody is overtaken, every call ends once, and
all books balance in the end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import (
    CallTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    Policy,
    RateLimitedError,
    Verdict,
    VerdictKind,
)
from penstock.stages.breaker import Breaker, BreakerOptions
from penstock.stages.concurrency import Concurrency, ConcurrencyOptions
from penstock.stages.rate_limit import RateLimit, RateLimitOptions
from penstock.testing import run
from penstock.verdict import LimiterEffect

ATTEMPT_LIMIT = 4.0
ATTEMPTS = 3
ROUNDING = 1e-6
NEVER = float("inf")
FAILURES = [kind for kind in VerdictKind if kind is not VerdictKind.OK]
EXPECTED = (CallTimeoutError, CircuitOpenError, ConcurrencyLimitedError, RateLimitedError)


class Failure(Exception):  # noqa: N818 - what the operation fails with
    """A failure of a given meaning."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.kind.value)
        self.verdict = verdict


def _classify(failure: BaseException) -> Verdict | None:
    return failure.verdict if isinstance(failure, Failure) else None


@dataclass
class Wait:
    """One call's stay before a stage: when it came, when and how it left."""

    number: int
    priority: int
    came: float
    left: float = NEVER
    admitted: bool = False


@dataclass
class Ledger:
    """What the stages are seen to do, from outside of them."""

    rate: RateLimit
    breaker: Breaker
    concurrency: Concurrency
    lines: dict[str, list[Wait]] = field(default_factory=lambda: {"rate": [], "permit": []})
    starts: dict[int, float] = field(default_factory=dict)
    # When a pause was ordered, and until when: what was granted may run in that same moment.
    pauses: list[tuple[float, float]] = field(default_factory=list)
    permits: int = 0
    probes: int = 0
    # The highest limits of this very moment: what was granted may run after a change.
    limits: tuple[float, int] = (-1.0, 0)
    units: tuple[float, float] = (-1.0, 0.0)
    numbers: Iterator[int] = field(default_factory=count)
    # The stay of each call that is in a line, by the number the call was given.
    staying: dict[int, Wait] = field(default_factory=dict)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def before(self, line: str) -> Any:
        """Return a stage that notes when a call comes and whether it was let in."""

        async def stage(call: Any, call_next: Any) -> Any:
            wait = Wait(next(self.numbers), call.priority, self.now())
            self.lines[line].append(wait)
            self.staying[call.args[0]] = wait
            try:
                return await call_next(call)
            finally:
                if not wait.admitted:
                    wait.left = self.now()

        return stage

    def _admitted(self, call: Any) -> None:
        wait = self.staying.pop(call.args[0])
        wait.left, wait.admitted = self.now(), True

    async def behind_rate(self, call: Any, call_next: Any) -> Any:
        self._admitted(call)
        number, now = next(self.numbers), self.now()
        assert all(until <= now for at, until in self.pauses if at < now), "started in a pause"
        self.starts[number] = now
        (rate,) = self.rate.options.rate
        self._forget_starts(rate.per)
        assert len(self.starts) <= self._highest_units(now), "more starts than the rate allows"
        try:
            return await call_next(call)
        except BaseException as failure:
            verdict = call.judge(failure)
            if verdict.effects.limiter is LimiterEffect.REFUND or not verdict.sent:
                self.starts.pop(number, None)
            elif verdict.effects.limiter is LimiterEffect.PAUSE and verdict.retry_after:
                self.pauses.append((self.now(), self.now() + verdict.retry_after))
            raise

    async def behind_breaker(self, call: Any, call_next: Any) -> Any:
        assert self.breaker.state in ("closed", "half_open")
        is_probe = self.breaker.state == "half_open"
        self.probes = self.breaker.snapshot()["probes_out"]
        assert self.probes <= 1
        assert not is_probe or self.probes == 1
        return await call_next(call)

    async def behind_permit(self, call: Any, call_next: Any) -> Any:
        self._admitted(call)
        self.permits += 1
        assert self.permits <= self._highest_limit(self.now()), "more calls than permits"
        began = self.now()
        try:
            return await call_next(call)
        finally:
            self.permits -= 1
            assert self.now() - began <= ATTEMPT_LIMIT + ROUNDING

    def resize(self, limit: int) -> None:
        now = self.now()
        self.limits = (now, self._highest_limit(now))
        self.concurrency.resize(limit)

    def change_rate(self, units: int, seconds: int) -> None:
        now = self.now()
        self.units = (now, self._highest_units(now))
        # A longer window cannot know the starts that the shorter one has forgotten.
        (rate,) = self.rate.options.rate
        self._forget_starts(rate.per)
        self.rate.change_rate(f"{units}/{seconds}s")

    def _forget_starts(self, seconds: float) -> None:
        now = self.now()
        self.starts = {n: at for n, at in self.starts.items() if at + seconds > now}

    def _highest_limit(self, now: float) -> int:
        at, limit = self.limits
        current: int = self.concurrency.snapshot()["limit"]
        return max(limit, current) if at == now else current

    def _highest_units(self, now: float) -> float:
        at, units = self.units
        (rate,) = self.rate.options.rate
        return max(units, rate.amount) if at == now else rate.amount

    def assert_nobody_was_overtaken(self) -> None:
        for line in self.lines.values():
            for one in line:
                if not one.admitted:
                    continue
                for other in line:
                    came_first = other.number < one.number and other.priority == one.priority
                    goes_first = other.priority > one.priority and other.came < one.left
                    assert not ((came_first or goes_first) and other.left > one.left)


@dataclass
class Story:
    """A random load: calls that come, and what is done to the stages meanwhile."""

    chance: random.Random
    calls: int
    ledger: Ledger
    policy: Policy
    outcomes: list[str] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, chance: random.Random, calls: int) -> Story:
        ledger = Ledger(
            RateLimit(RateLimitOptions(rate="5/1s")),
            Breaker(BreakerOptions(failures=3, recover_after=2)),
            Concurrency(ConcurrencyOptions(limit=2, max_queue=6)),
        )
        policy = (
            Policy("walk", classify=_classify)
            .with_retry(ATTEMPTS, wait=0.5)
            .with_stage(ledger.before("rate"))
            .with_stage(ledger.rate)
            .with_stage(ledger.behind_rate)
            .with_stage(ledger.breaker)
            .with_stage(ledger.behind_breaker)
            .with_stage(ledger.before("permit"))
            .with_stage(ledger.concurrency)
            .with_stage(ledger.behind_permit)
            .with_timeout(ATTEMPT_LIMIT)
        )
        return cls(chance, calls, ledger, policy)

    async def play(self) -> None:
        tasks = []
        for number in range(self.calls):
            await asyncio.sleep(self.chance.choice([0, 0, 0, 0.1, 0.25, 1]))
            task = asyncio.create_task(self._call(number))
            tasks.append(task)
            if self.chance.random() < 0.2:
                delay = self.chance.choice([0, 0.1, 0.5, 1, 3])
                asyncio.get_running_loop().call_later(delay, task.cancel)
            if self.chance.random() < 0.15:
                self._interfere()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]  # a broken invariant

    async def _call(self, number: int) -> None:
        chance, loop = self.chance, asyncio.get_running_loop()
        limit = chance.choice([None, None, None, 1.0, 2.5, 6.0])
        view = self.policy.using(priority=chance.choice([0, 0, 0, 1]), timeout=limit)
        began = loop.time()
        try:
            await view.call(self._operation, number)
        except Failure as failure:
            self.outcomes.append(failure.verdict.kind.value)
        except EXPECTED as failure:
            self.outcomes.append(type(failure).__name__)
        except asyncio.CancelledError:
            self.outcomes.append("cancelled by its caller")
            raise
        else:
            self.outcomes.append("ok")
        finally:
            assert self.begun.count(number) <= ATTEMPTS
            assert limit is None or loop.time() - began <= limit + ROUNDING

    async def _operation(self, number: int) -> None:
        self.begun.append(number)
        chance = self.chance
        await asyncio.sleep(chance.choice([0, 0, 0.1, 0.5, 1, ATTEMPT_LIMIT, 30]))
        if chance.random() < 0.5:
            kind = chance.choice(FAILURES)
            hint = chance.choice([None, None, 0.0, 1.0, 2.5])
            raise Failure(Verdict(kind, retry_after=hint, sent=chance.random() < 0.8))

    def _interfere(self) -> None:
        ledger, chance = self.ledger, self.chance
        match chance.randrange(6):
            case 0:
                ledger.resize(chance.randint(1, 4))
            case 1:
                ledger.change_rate(chance.randint(1, 8), chance.choice([1, 1, 2]))
            case 2:
                ledger.breaker.open(chance.choice([0.5, 3]))
            case 3:
                ledger.breaker.isolate()
            case 4:
                ledger.breaker.close()
            case _:
                ledger.breaker.reset()

    async def settle(self) -> None:
        """Check that nothing is held, and that all of it can be taken again."""
        assert len(self.outcomes) == self.calls
        held = ("waiting", "in_flight", "running", "probes_out")
        for stage in self.policy.snapshot()["stages"]:
            assert not any(stage.get(name) for name in held), stage
        assert self.ledger.permits == 0
        self.ledger.assert_nobody_was_overtaken()
        self.ledger.breaker.reset()
        await asyncio.sleep(130)
        limit = self.ledger.concurrency.snapshot()["limit"]
        free = [s for s in self.policy.stages if isinstance(s, Concurrency | Breaker)]
        bare = Policy("afterwards").with_stage(free[0]).with_stage(free[1])
        await asyncio.gather(*(bare.using(timeout=2).call(asyncio.sleep, 1) for _ in range(limit)))
        assert asyncio.all_tasks() == {asyncio.current_task()}


def _walk(chance: random.Random, calls: int) -> Story:
    story = Story.of(chance, calls)

    async def main() -> None:
        await story.play()
        await story.settle()

    run(main())
    return story


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), calls=st.integers(1, 30))
def test_whatever_happens_no_limit_is_exceeded_and_all_books_balance(seed: int, calls: int):
    """Small random loads, which Hypothesis makes smaller where one fails."""
    _walk(random.Random(seed), calls)


def test_longer_walks_meet_every_ending():
    """The load is varied enough to be worth the name: each way to end is met."""
    met = {ending for seed in range(4) for ending in _walk(random.Random(seed), 400).outcomes}

    assert met == {
        "ok",
        "cancelled by its caller",
        *(error.__name__ for error in EXPECTED),
        *(kind.value for kind in FAILURES),
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 125))
def test_a_long_walk(seed: int):
    """More of the same, with loads that no shrinking would ever finish."""
    _walk(random.Random(seed), 1500)
