from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine

import pytest

from penstock import Resource, clock
from penstock.demo.recipe import ROTATION, recipe_path
from penstock.demo.rotation.book import Book
from penstock.demo.rotation.drive import CALLS_AT_ONCE
from penstock.demo.rotation.keys import AT_ONCE, value_of
from penstock.demo.rotation.policy import FiveKeys, five_keys
from penstock.demo.rotation.service import KeyedService
from penstock.demo.rotation.summary import RotationSummary
from penstock.testing import run

CALLS = 200
URL = "http://127.0.0.1:4711"


class AnswerError(Exception):
    """An answer with a status of failure."""

    def __init__(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        super().__init__(status)
        self.status_code = status
        self.headers = dict(headers)


def server(
    service: KeyedService, book: Book
) -> Callable[[Resource[str], int], Coroutine[None, None, int]]:
    """Return the demo's server and its client as a function, so that they fit into virtual time."""

    async def fetch(key: Resource[str], call: int) -> int:
        use = book.begin(key.id)
        try:
            use.send()
            answer = service.answer(key.value_for(URL), clock.now())
            await asyncio.sleep(answer.after)
            use.answer(answer.status)
        finally:
            use.end()
        if answer.status != 200:
            raise AnswerError(answer.status, answer.headers)
        return call

    return fetch


async def tell(seed: int, keys: FiveKeys) -> RotationSummary:
    """Run the second part of the demo."""
    service = KeyedService(seed)
    fetch = server(service, keys.book)
    answers = await keys.policy.gather(fetch, range(CALLS), concurrency=CALLS_AT_ONCE)
    keys.book.seen = {
        key: {str(status): count for status, count in answers.items()}
        for key, answers in service.seen.items()
    }
    return RotationSummary(
        calls=CALLS,
        answered=len(set(answers)),
        errors=Counter(),
        tally=keys.tally,
        book=keys.book,
        stats=keys.pool.stats(),
        seconds=asyncio.get_running_loop().time(),
    )


@pytest.mark.parametrize("seed", range(40))
def test_no_seed_loses_a_call_or_tells_another_story(seed: int) -> None:
    """Every call is answered, all counts agree, and five keys are faster than the best of them."""
    keys = five_keys(recipe_path(ROTATION), seed, URL)

    summary = run(tell(seed, keys))

    assert summary.problems == []
    assert 2 < summary.seconds < 5 < min(6.0, *alone(summary))


def alone(summary: RotationSummary) -> list[float]:
    """Return the seconds in the last column, as far as there are any."""
    return [float(row[-1][:-2]) for row in summary.keys().rows[:-1] if row[-1] != "never"]


def test_each_key_meets_its_fate() -> None:
    """The limited ones rest a few times, the revoked one is taken out, nothing else happens."""
    keys = five_keys(recipe_path(ROTATION), 7, URL)

    summary = run(tell(7, keys))

    by_id = {each.id: each for each in summary.stats.resources}
    assert by_id["revoked"].standing == "disabled"
    assert by_id["revoked"].uses <= AT_ONCE
    assert by_id["tight"].cooldowns >= 2
    assert by_id["roomy"].cooldowns >= 1
    assert by_id["slow"].failures == by_id["good"].failures == 0
    assert summary.tally.openings == 0
    assert set(summary.tally.waits) <= {"queue", "rate_limit", "cooldown"}


def test_the_file_reads_the_keys_from_the_environment_and_leaves_none_there() -> None:
    """As any program would have them; what was set before is set again."""
    os.environ["PENSTOCK_DEMO_URL"] = "mine"
    try:
        keys = five_keys(recipe_path(ROTATION), 7, URL)

        assert os.environ["PENSTOCK_DEMO_URL"] == "mine"
    finally:
        del os.environ["PENSTOCK_DEMO_URL"]
    state = keys.pool.snapshot()["resources"]
    assert {key: each["max_in_flight"] for key, each in state.items()} == dict.fromkeys(
        ("good", "revoked", "roomy", "slow", "tight"), AT_ONCE
    )
    assert not [name for name in os.environ if name.startswith("PENSTOCK_DEMO")]


async def test_the_keys_go_to_the_demos_server_alone() -> None:
    """A redirect elsewhere would not carry them along."""
    keys = five_keys(recipe_path(ROTATION), 7, URL)
    found: list[Resource[str]] = []

    async def look(key: Resource[str]) -> None:
        found.append(key)

    await keys.policy.call(look)

    assert found[0].value_for(f"{URL}/keyed/1") == value_of(7, str(found[0].id))
    assert not found[0].is_for("http://127.0.0.1:4712")
