from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from penstock import VerdictKind
from penstock.demo.live import LiveScreen, width_of
from penstock.demo.pipeline_view import (
    pipeline_body,
    pipeline_status,
    pipeline_table,
    recent_strip,
)
from penstock.demo.report import as_lines, as_panel
from penstock.demo.screen import PlainScreen
from penstock.demo.summary import Summary, times
from penstock.demo.tally import Tally, Wait


def tally_of_a_run() -> Tally:
    """Return the figures of two calls in five attempts."""
    tally = Tally()
    tally.attempts_begun = 5
    tally.attempts.update({VerdictKind.OK: 2, VerdictKind.OVERLOADED: 2, VerdictKind.TIMEOUT: 1})
    tally.retries.update({"overloaded": 2, "timeout": 1})
    tally.waits["backoff"] = Wait(3, 4.25)
    tally.waits["rate_limit"] = Wait(1, 9.0)
    tally.recent.extend([VerdictKind.OVERLOADED, VerdictKind.OK, VerdictKind.CALLER_BUG])
    return tally


def summary_of(**changes: Any) -> Summary:
    """Return the summary of a good run, changed as told."""
    facts: dict[str, Any] = {
        "calls": 2,
        "answered": 2,
        "errors": {},
        "tally": tally_of_a_run(),
        "sent": 5,
        "seen": {"200": 2, "503": 2, "slow answer": 1},
        "seconds": 1.5,
    }
    return Summary(**{**facts, **changes})


def shown(what: RenderableType, width: int = 84) -> str:
    """Return what a terminal of this width would show."""
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_a_run_without_loss_has_no_problems() -> None:
    """Every call answered and both sides agree: the headline says so."""
    summary = summary_of()

    assert summary.problems == []
    assert summary.headline == "2 of 2 calls answered in 1.5 s, none lost"


def test_a_lost_call_is_a_problem_that_names_its_errors() -> None:
    """Who lost a call wants to know to what."""
    summary = summary_of(answered=1, errors={"CallTimeoutError": 1})

    assert summary.problems == ["1 of 2 calls lost (1 CallTimeoutError)"]
    assert summary.headline == "after 1.5 s: 1 of 2 calls lost (1 CallTimeoutError)"


def test_a_wrong_answer_counts_as_lost() -> None:
    """A call whose answer never came is lost although nothing was raised."""
    summary = summary_of(answered=1)

    assert summary.problems == ["1 of 2 calls lost (no error was raised)"]


@pytest.mark.parametrize("seen", [{"200": 4}, {"200": 6}])
def test_counts_that_differ_from_the_servers_are_a_problem(seen: dict[str, int]) -> None:
    """One request too few or too many on either side does not go unseen."""
    summary = summary_of(seen=seen)

    assert summary.problems == [f"5 requests were sent, but the server saw {seen['200']}"]


def test_an_attempt_that_never_left_is_shown_apart() -> None:
    """Cut off while it connected: an attempt of ours that the server cannot have seen."""
    summary = summary_of(sent=4, seen={"200": 2, "503": 2})

    assert summary.problems == []
    assert ("(cut off before it was sent)", "", "1", "") in summary.answers().rows


def test_the_main_figures_stand_in_one_line() -> None:
    """The circuit is mentioned only if it opened."""
    calm, rough = summary_of(), summary_of()
    rough.tally.openings = 2

    assert calm.facts == "5 attempts, 3 retries"
    assert rough.facts == "5 attempts, 3 retries, the circuit opened 2 times"
    assert times(1) == "once"


def test_plain_lines_hold_every_figure() -> None:
    """What a log keeps is as complete as what a terminal shows."""
    lines = as_lines(summary_of())

    assert lines == [
        "2 of 2 calls answered in 1.5 s, none lost",
        "5 attempts, 3 retries",
        "",
        "answer            server saw  attempts       verdict",
        "200                        2         2            ok",
        "429                        0         0  rate_limited",
        "503                        2         2    overloaded",
        "connection reset           0         0     transient",
        "slow answer                1         1       timeout",
        "in all                     5         5",
        "",
        "after       retries",
        "overloaded        2",
        "timeout           1",
        "in all            3",
        "",
        "stage       waits  sum of all calls",
        "rate_limit      1             9.0 s",
        "backoff         3             4.2 s",
    ]


def test_the_panel_holds_what_the_lines_hold() -> None:
    """The same sections, in a frame; a good run has a tick, a bad one a cross."""
    good, bad = shown(as_panel(summary_of(), 84)), shown(as_panel(summary_of(answered=1), 84))

    for text in ("none lost", "server saw", "rate_limited", "sum of all calls", "9.0 s"):
        assert text in good
    assert "✔" in good
    assert "✘" in bad


def test_a_narrow_terminal_gets_a_narrow_panel() -> None:
    """Nothing is wider than the terminal, and nothing wider than it reads well."""
    widths = [width_of(Console(width=width)) for width in (60, 84, 200)]

    assert widths == [60, 84, 84]


SNAPSHOTS = [
    {"stage": "timeout", "seconds": 30.0, "running": 4},
    {"stage": "retry", "attempts": 10, "retries": 3, "gave_up": 0},
    {"stage": "rate_limit", "rates": ["40/1s"], "available": [7], "waiting": 0, "paused_for": 0.0},
    {"stage": "breaker", "state": "closed", "failures": 0, "probes_out": 0, "retry_after": None},
    {"stage": "concurrency", "limit": 10, "in_flight": 3, "waiting": 2},
    {"stage": "log"},
]


def test_the_pipeline_is_shown_outermost_first() -> None:
    """Each stage with its setting, its state and its waits; a custom stage by its name."""
    table = shown(pipeline_table(SNAPSHOTS, tally_of_a_run())).splitlines()

    assert [line.split("  ")[0] for line in table[1:]] == [
        "timeout 30 s",
        "retry 10 attempts",
        "rate 40/s",
        "breaker",
        "concurrency 10",
        "log",
    ]
    assert "3 retries so far" in table[2]
    assert table[2].split()[-3:] == ["3", "4.2", "s"]
    assert "7 free" in table[3]
    assert "● closed" in table[4]
    assert "███░░░░░░░ 3 under way, 2 in line" in table[5]


def test_a_pause_that_the_server_asked_for_is_named() -> None:
    """Nobody should take a pause for a hang."""
    paused = {**SNAPSHOTS[2], "paused_for": 0.84, "waiting": 5}

    table = shown(pipeline_table([paused], Tally()))

    assert "paused 0.8 s, as the server asked, 5 in line" in table


@pytest.mark.parametrize(
    ("state", "retry_after", "openings", "expected"),
    [
        ("open", 0.5, 1, "○ open, probe in 0.5 s"),
        ("half_open", None, 1, "◐ half-open, opened once"),
        ("closed", None, 0, "● closed"),
    ],
)
def test_the_circuit_shows_its_state(
    state: str, retry_after: float | None, openings: int, expected: str
) -> None:
    """By a sign that is told apart without colours too."""
    tally = Tally()
    tally.openings = openings

    table = shown(
        pipeline_table([{"stage": "breaker", "state": state, "retry_after": retry_after}], tally)
    )

    assert expected in table


def test_the_strip_shows_the_last_attempts_and_what_they_were() -> None:
    """One block each, and the sums beside the colours' meanings."""
    strip = shown(recent_strip(tally_of_a_run()))

    assert strip.count("▆") == 3
    assert "■ ok 2" in strip
    assert "■ timeout 1" in strip


def test_the_live_screen_paints_how_things_stand() -> None:
    """Progress, pipeline and attempts in one frame, taken away at the end."""
    console = Console(file=io.StringIO(), width=90, force_terminal=True, height=30)
    tally = tally_of_a_run()
    screen = LiveScreen(
        console, 2, lambda: pipeline_body({"stages": SNAPSHOTS}, tally), "the title"
    )

    with screen:
        screen.advance()
        screen.paint()

    text = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in ("the title", "1/2", "timeout", "under way", "▆"):
        assert expected in text


@pytest.mark.virtual_time
async def test_the_plain_screen_writes_a_line_every_second() -> None:
    """However often it is painted."""
    lines: list[str] = []
    tally = tally_of_a_run()
    screen = PlainScreen(2, lambda: pipeline_status(tally), lines.append)

    with screen:
        for _ in range(9):
            screen.paint()
            screen.advance()
            await asyncio.sleep(0.25)

    assert lines == [
        "  0.0 s     0 of 2 calls done, 5 attempts, 3 retries, 0 calls under way",
        "  1.0 s     4 of 2 calls done, 5 attempts, 3 retries, 0 calls under way",
        "  2.0 s     8 of 2 calls done, 5 attempts, 3 retries, 0 calls under way",
    ]
