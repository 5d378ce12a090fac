from __future__ import annotations

import asyncio
import io
from collections import Counter
from typing import Any

import pytest
from rich.console import Console, RenderableType

from penstock import Pool, Resource
from penstock.demo.report import as_lines, as_panel
from penstock.demo.rotation.book import Book
from penstock.demo.rotation.keys import KEYS
from penstock.demo.rotation.summary import RotationSummary
from penstock.demo.rotation.view import keys_body, keys_status
from penstock.demo.tally import Tally, Wait
from penstock.pools.stats import PoolStats, ResourceStats

pytestmark = pytest.mark.virtual_time


def used(book: Book, key: str, *statuses: int | None) -> None:
    """Write uses into the book; None was cut off after it was sent."""
    uses = [book.begin(key) for _ in statuses]
    for use, status in zip(uses, statuses, strict=True):
        use.send()
        if status is not None:
            use.answer(status)
        use.end()


def book_of_a_run() -> Book:
    """Return what a good run of four calls leaves."""
    book = Book()
    used(book, "tight", 200, 429, None)
    used(book, "revoked", 401, None)
    used(book, "good", 200, 200, 200)
    book.seen = {
        "tight": {"200": 1, "429": 2},
        "revoked": {"401": 2},
        "good": {"200": 3},
    }
    return book


def pooled(key: str, good: int, bad: int) -> ResourceStats:
    """Return what the pool has counted of a key."""
    return ResourceStats(
        id=key,
        standing="ready",
        in_flight=0,
        uses=good + bad,
        successes=good,
        failures=bad,
        cancelled=0,
        displaced=0,
        cooldowns=0,
        disables=0,
    )


def stats_of(**counts: tuple[int, int]) -> PoolStats:
    """Return what the pool has counted: good and bad uses by key."""
    return PoolStats(
        total=5,
        by_standing={},
        in_flight=0,
        waiting=0,
        uses=8,
        successes=4,
        failures=2,
        cancelled=0,
        displaced=2,
        cooldowns=1,
        disables=1,
        resources=tuple(pooled(key, *each) for key, each in counts.items()),
    )


def summary_of(**changes: Any) -> RotationSummary:
    """Return the summary of a good run, changed as told."""
    tally = Tally()
    tally.waits["queue"] = Wait(3, 1.25)
    facts: dict[str, Any] = {
        "calls": 4,
        "answered": 4,
        "errors": Counter[str](),
        "tally": tally,
        "book": book_of_a_run(),
        "stats": stats_of(tight=(1, 1), revoked=(0, 1), good=(3, 0)),
        "seconds": 0.5,
    }
    return RotationSummary(**{**facts, **changes})


def shown(what: RenderableType, width: int = 84) -> str:
    """Return what a terminal of this width would show."""
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_a_good_run_has_no_problems() -> None:
    """All answered, and pool, requests and server agree."""
    summary = summary_of()

    assert summary.problems == []
    assert summary.headline == "4 of 4 calls answered in 0.5 s, none lost"
    assert summary.facts.splitlines() == [
        "8 requests, of which the server answered 2 with 429",
        "'revoked' was asked 2 times, never again after its first 401",
        "the best key alone, 'tight', had needed 0.1 s or more",
    ]


def test_a_lost_call_is_a_problem() -> None:
    """It is named with what the caller got instead."""
    summary = summary_of(answered=3, errors={"NoResourceError": 1})

    assert summary.problems == ["1 of 4 calls lost (1 NoResourceError)"]


@pytest.mark.parametrize("count", [2, 4])
def test_a_server_that_saw_another_number_of_requests_is_a_problem(count: int) -> None:
    """One too few or too many with one key, although the others agree."""
    book = book_of_a_run()
    book.seen = {**book.seen, "good": {"200": 3, "429": count - 3} if count > 3 else {"200": 3}}
    if count < 3:
        used(book, "good", None)

    problems = summary_of(book=book).problems

    sent = 3 if count > 3 else 4
    saw = 4 if count > 3 else 3
    assert problems == [f"{sent} requests were sent with 'good', but the server saw {saw}"]


def test_an_answer_that_the_server_never_gave_is_a_problem() -> None:
    """The sums agree, what they are made of does not."""
    book = book_of_a_run()
    book.seen = {**book.seen, "good": {"200": 2, "429": 1}}

    assert summary_of(book=book).problems == [
        "3 answers 200 came for 'good', but the server gave 2"
    ]


def test_a_pool_that_counted_otherwise_is_a_problem() -> None:
    """Successes and failures are those of the answers."""
    stats = stats_of(tight=(1, 2), revoked=(0, 1), good=(3, 0))

    assert summary_of(stats=stats).problems == [
        "the pool counted 1 successes and 2 failures of 'tight', where 1 and 1 answers came"
    ]


def test_a_revoked_key_that_is_asked_again_is_a_problem() -> None:
    """Those in flight at the first 401 are innocent, the next one is not."""
    book = book_of_a_run()
    used(book, "revoked", 401)
    book.seen = {**book.seen, "revoked": {"401": 3}}

    stats = stats_of(tight=(1, 1), revoked=(0, 2), good=(3, 0))
    summary = summary_of(book=book, stats=stats)

    assert summary.problems == ["'revoked' was asked once after its first 401"]
    assert "'revoked' was asked 3 times, also after its first 401" in summary.facts


def test_a_request_in_doubt_may_have_left_or_not() -> None:
    """Cut off while it was written: the server may have seen it, and nobody else knows."""
    book = book_of_a_run()
    use = book.begin("good")
    use.send(is_doubtful=True)
    use.end()
    unseen = summary_of(book=book).problems
    book.seen = {**book.seen, "good": {"200": 4}}

    seen = summary_of(book=book).problems

    assert unseen == seen == []


async def test_what_leaves_is_known_from_the_clients_steps() -> None:
    """Sent once the headers are out, in doubt if that was cut off, unsent before."""
    book = Book()
    sent, doubtful, unsent = uses = [book.begin("good") for _ in range(3)]

    await sent.trace("http11.send_request_headers.started", {})
    await sent.trace("http11.send_request_headers.complete", {})
    await doubtful.trace("http11.send_request_headers.failed", {})
    await unsent.trace("connection.connect_tcp.started", {})
    for use in uses:
        use.end()

    counts = book.keys["good"]
    assert (counts.begun, counts.sent, counts.doubtful) == (3, 2, 1)
    assert (counts.cut_off, counts.unsent) == (2, 1)


async def test_latency_is_the_mean_of_good_answers() -> None:
    """What is refused is refused fast, and says nothing of the key."""
    book, before = Book(), Book()
    uses = [book.begin("good") for _ in range(3)]

    for use, status in zip(uses, (200, 200, 429), strict=True):
        await asyncio.sleep(0.5)
        use.answer(status)

    assert before.keys["good"].latency is None
    assert book.keys["good"].latency == 0.75


def test_plain_lines_hold_every_figure() -> None:
    """What a log keeps is as complete as what a terminal shows."""
    lines = as_lines(summary_of())

    assert lines[5:] == [
        "key         terms  sent  server saw  200  429  401  cut off  alone",
        "tight        10/s     3           3    1    1    0        1  0.1 s",
        "roomy        20/s     0           0    0    0    0        0  0.1 s",
        "revoked  no entry     2           2    0    0    1        1  never",
        "slow        0.5 s     0           0    0    0    0        0  0.5 s",
        "good       0.12 s     3           3    3    0    0        0  0.1 s",
        "in all                8           8    4    1    1        2  0.5 s",
        "",
        "pool                       times",
        "rests after a 429              1",
        "keys taken out                 1",
        "uses moved to another key      2",
        "",
        "stage  waits  sum of all calls",
        "queue      3             1.2 s",
    ]


def test_the_panel_holds_what_the_lines_hold() -> None:
    """In a terminal of 80 cells nothing is cut."""
    panel = shown(as_panel(summary_of(), 80), 80)

    for text in ("✔ 4 of 4", "server saw", "cut off", "alone", "'revoked' was asked", "1.2 s"):
        assert text in panel
    assert "…" not in panel


async def test_the_table_shows_each_key_as_it_stands() -> None:
    """Ready, resting for so long, taken out and why, and what the server has counted."""
    pool = Pool([Resource("v", terms.id, max_in_flight=4) for terms in KEYS])
    state = pool.snapshot()
    state["resources"]["tight"].update(standing="cooling", cooling_for=0.84, in_flight=1)
    state["resources"]["roomy"].update(recovering=True)
    state["resources"]["revoked"].update(standing="disabled", disabled="401", uses=2)
    state["resources"]["slow"].update(standing="full", in_flight=4)
    state["waiting"] = 7
    book = book_of_a_run()

    table = shown(keys_body(state, book, Tally()), 76).splitlines()
    line = keys_status(state, book)

    assert [" ".join(row.split()) for row in table[1:6]] == [
        "tight 10/s cooling 0.8 s █░░░ 0 1 2 0.00 s",
        "roomy 20/s recovering ░░░░ 0 0",
        "revoked no entry disabled: 401 ░░░░ 2 0 2",
        "slow 0.5 s full ████ 0 0",
        "good 0.12 s ready ░░░░ 0 3 0.00 s",
    ]
    assert "7 calls wait, 0 tried again" in table[-1]
    assert line == (
        "8 requests; tight cooling 0.8 s, roomy recovering, revoked disabled: 401, "
        "slow full, good ready"
    )
