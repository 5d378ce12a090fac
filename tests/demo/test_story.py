from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from penstock import Policy
from penstock.demo.drive import CALLS_AT_ONCE
from penstock.demo.recipe import PIPELINE, recipe_path
from penstock.demo.script import Kind, Script
from penstock.demo.tally import Tally
from penstock.testing import run

CALLS = 300


class AnswerError(Exception):
    """An answer with a status of failure."""

    def __init__(self, status: str, headers: tuple[tuple[str, str], ...]) -> None:
        super().__init__(status)
        self.status_code = int(status)
        self.headers = dict(headers)


def service(script: Script) -> Callable[[int], Coroutine[None, None, int]]:
    """Return the demo's server as a function, so that it fits into virtual time."""

    async def fetch(call: int) -> int:
        answer = script.next(call)
        await asyncio.sleep(answer.after)
        match answer.kind:
            case Kind.RESET:
                raise ConnectionResetError
            case Kind.RATE_LIMITED | Kind.OVERLOADED:
                raise AnswerError(answer.kind.value, answer.headers)
            case Kind.OK | Kind.SLOW:
                return call

    return fetch


async def tell(seed: int, tally: Tally) -> tuple[list[int], float]:
    """Run the demo of a seed; return the answers and how long it took."""
    policy = Policy.from_yaml(recipe_path(PIPELINE), observers=[tally])
    fetch = service(Script(seed, CALLS))
    answers = await policy.gather(fetch, range(CALLS), concurrency=CALLS_AT_ONCE)
    return answers, asyncio.get_running_loop().time()


@pytest.mark.parametrize("seed", range(40))
def test_no_seed_loses_a_call_or_takes_too_long(seed: int) -> None:
    """Whatever the script: every call is answered, in a time that people sit through."""
    answers, seconds = run(tell(seed, Tally()))

    assert answers == list(range(CALLS))
    assert 8 < seconds < 25


def test_the_default_seed_shows_every_stage_at_work() -> None:
    """Limits make calls wait, the circuit opens, attempts are cut off and made again."""
    tally = Tally()

    run(tell(7, tally))

    assert tally.openings >= 1
    assert set(tally.waits) == {"rate_limit", "concurrency", "backoff"}
    assert set(tally.retries) == {
        "rate_limited",
        "overloaded",
        "transient",
        "timeout",
        "circuit open",
    }
