"""Eight keys with limits that nobody knows, in virtual time: who runs into them, and how often."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from bench.harness import Effort
from bench.section import Goal, Section, Table
from penstock import Policy, Pool, Resource, clock, current_lease
from penstock.testing import VirtualTimeLoop

__all__ = ["Outcome", "Plan", "run", "simulate"]

# Calls a second that each key's bucket gains.
_RATES = (2, 3, 5, 7, 9, 12, 16, 20)
_BURST_SECONDS = 3
_LOAD = 0.8
_DEAD = "key-9"

_PLANS = {
    "round_robin": ("round_robin", False),
    "least_in_flight": ("least_in_flight", False),
    "p2c_ewma": ("p2c_ewma", False),
    "round_robin, reporting": ("round_robin", True),
    "least_in_flight, reporting": ("least_in_flight", True),
    "p2c_ewma, reporting": ("p2c_ewma", True),
    "most_remaining, reporting": ("most_remaining", True),
}

_ABOUT = (
    "A modelled service in virtual time. Each of eight keys has a token bucket of its own, with 2 "
    "to 20 calls a second and three seconds' worth at most; calls take 50 to 150 ms and arrive at "
    "random at 80 % of what all keys can bear together. Who asks too much gets a 429 with "
    "`Retry-After`. One key answers nothing but 429s for half of the time. The policy is "
    "`.with_timeout(60).with_retry(8).rotating(pool)`. *Reporting* hands the headers of each "
    "answer to `current_lease().report(headers=...)`, which also rests a key with nothing left; "
    "most_remaining needs it. Means over the seeds, of about {calls:,} calls each."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run of the simulation.

    Attributes:
        pick: The pool's picker.
        reports: Whether the operation tells the pool what its answers' headers say.
        seed: Makes the run repeatable.
        seconds: How long calls arrive; one key is dead from a sixth of it to four sixths.
    """

    pick: str
    reports: bool
    seed: int
    seconds: float = 60.0


@dataclass(slots=True)
class Outcome:
    """What came of it: calls made, refusals that the service counted, and calls that failed."""

    calls: int = 0
    refused: int = 0
    lost: int = 0


class _Refused(Exception):  # noqa: N818 - as in the clients
    """What a client raises for a 429."""

    status_code = 429

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__("429 Too Many Requests")
        self.headers = headers


class _Bucket:
    """One key's limit."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.size = self.tokens = rate * _BURST_SECONDS
        self._at = 0.0

    def admits(self, now: float) -> bool:
        self.tokens = min(self.size, self.tokens + (now - self._at) * self.rate)
        self._at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit": f"{self.size:.0f}",
            "x-ratelimit-remaining": f"{int(self.tokens)}",
            "x-ratelimit-reset": f"{(self.size - self.tokens) / self.rate:.3f}",
        }


class _Service:
    """Decides when a call arrives, and answers later."""

    def __init__(self, plan: Plan, chance: random.Random, outcome: Outcome) -> None:
        self._buckets = {f"key-{rate}": _Bucket(rate) for rate in _RATES}
        self._dead = (plan.seconds / 6, plan.seconds * 4 / 6)
        self._chance = chance
        self._outcome = outcome

    async def answer(self, key: str) -> dict[str, str]:
        now, bucket = clock.now(), self._buckets[key]
        if key == _DEAD and self._dead[0] <= now < self._dead[1]:
            await self._refuse({})
        if not bucket.admits(now):
            await self._refuse({"retry-after": f"{(1 - bucket.tokens) / bucket.rate:.3f}"})
        headers = bucket.headers()
        await asyncio.sleep(self._chance.uniform(0.05, 0.15))
        return headers

    async def _refuse(self, headers: dict[str, str]) -> None:
        self._outcome.refused += 1
        await asyncio.sleep(self._chance.uniform(0.02, 0.05))
        raise _Refused(headers)


def run(effort: Effort, loop: str) -> Section:
    """Let the pickers serve the same calls, over some seeds."""
    del loop
    seeds = range(min(5, max(1, effort.rounds // 4)))
    seconds = 60.0 if effort.rounds > 1 else 6.0
    outcomes = {
        name: [
            simulate(Plan(pick=pick, reports=reports, seed=seed, seconds=seconds)) for seed in seeds
        ]
        for name, (pick, reports) in _PLANS.items()
    }
    refused = {name: mean(o.refused for o in each) for name, each in outcomes.items()}
    lost = {name: sum(o.lost for o in each) for name, each in outcomes.items()}
    calls = round(mean(o.calls for each in outcomes.values() for o in each))
    return Section(
        name="keys",
        title="Eight keys with different limits",
        about=_ABOUT.format(calls=calls),
        tables=[
            Table(
                columns=("picker", "429s", "per 1000 calls", "calls lost"),
                rows=[
                    (name, refused[name], 1000 * refused[name] / calls, lost[name])
                    for name in _PLANS
                ],
            )
        ],
        goals=[
            _goal(refused, "p2c_ewma", "round_robin"),
            _goal(refused, "most_remaining, reporting", "round_robin"),
            _goal(refused, "most_remaining, reporting", "round_robin, reporting"),
            Goal("eight keys: calls lost by any picker", sum(lost.values()), 0),
        ],
    )


def _goal(refused: Mapping[str, float], ours: str, theirs: str) -> Goal:
    share = refused[ours] / max(1, refused[theirs])
    return Goal(f"eight keys: 429s of {ours}, share of {theirs} (at most 1/2)", share, 0.5)


def simulate(plan: Plan) -> Outcome:
    """Run one plan to its end, in virtual time."""
    before = random.getstate()
    # Pools and retries draw from the process's own randomness.
    random.seed(plan.seed)
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(_simulate(plan))
    finally:
        random.setstate(before)


async def _simulate(plan: Plan) -> Outcome:
    outcome, chance = Outcome(), random.Random(plan.seed)
    service = _Service(plan, chance, outcome)
    pool = Pool([f"key-{rate}" for rate in _RATES], pick=plan.pick)
    policy = Policy("keys").with_timeout(60).with_retry(8).rotating(pool)

    async def operation(key: Resource[str]) -> None:
        headers = await service.answer(key.value)
        if plan.reports:
            current_lease().report(headers=headers)

    async def call() -> None:
        try:
            await policy.call(operation)
        except Exception:  # noqa: BLE001 - whatever it is, the caller has no answer
            outcome.lost += 1

    tasks: list[asyncio.Task[None]] = []
    while clock.now() < plan.seconds:
        await asyncio.sleep(chance.expovariate(_LOAD * sum(_RATES)))
        tasks.append(asyncio.create_task(call()))
    await asyncio.gather(*tasks)
    outcome.calls = len(tasks)
    return outcome
