"""The benchmarks keep working: each runs here for an instant, on figures that nobody looks at."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

NAMES = [
    "five-stages",
    "four-stages",
    "two-failures",
    "timeout-alone",
    "queue",
    "admitted-rate",
    "cycles",
    "import-time",
    "single-stages",
    "failure-path",
    "rotation",
    "picking",
    "cooling",
    "pool-waiters",
    "five-stages-rotation",
    "keys",
    "telemetry",
    "http-transport",
    "workers-asyncio",
    "workers-thread",
    "workers-process",
    "workers-ray",
]

Bench = Callable[[str], Any]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return an importer of the benchmark's modules, which are not installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what one run of everything has written for programs."""
    file = tmp_path_factory.mktemp("bench") / "results.json"
    command = [sys.executable, "-m", "bench", "--smoke", "--json", str(file)]
    done = subprocess.run(  # noqa: PLW1510 - checked below, with what it said
        command, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.integration
def test_every_benchmark_has_run(results: Any) -> None:
    """One command runs everything, and says on which machine."""
    assert [section["name"] for section in results["sections"]] == NAMES
    assert results["machine"]["Python"]


@pytest.mark.integration
@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_a_benchmark_hands_in_figures(results: Any, place: int) -> None:
    """Every table has rows, and every goal a figure unless a peer is not installed."""
    section = results["sections"][place]

    assert all(table["rows"] for table in section["tables"])
    unknown = [goal["what"] for goal in section["goals"] if goal["measured"] is None]
    assert all("peer" in what for what in unknown)


@pytest.mark.integration
@pytest.mark.parametrize(
    "what",
    [
        "queued calls served out of order (0 or 1)",
        "admitted rate, virtual time: worst error in %",
        "starts above burst + rate x window, virtual time",
        "objects in cycles after one successful call",
        "heavy packages imported by it",
        "one of ten slots comes back: wake-ups among 1,000 waiters",
    ],
)
def test_what_does_not_depend_on_the_machine_is_reached(results: Any, what: str) -> None:
    """Goals that are facts and not speeds hold on every machine, however busy it is."""
    goals = [goal for section in results["sections"] for goal in section["goals"]]
    (goal,) = (goal for goal in goals if goal["what"] == what)

    assert goal["measured"] <= goal["most"]


def test_a_part_does_not_become_the_page(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """``--write`` with ``--only`` is refused: half a page would pass for the whole."""
    status = bench("__main__").main(["--smoke", "--only", "cycles", "--write"])

    assert status == 2
    assert "leave out --only" in capsys.readouterr().err


def test_ratios_are_taken_within_a_round(bench: Bench) -> None:
    """A machine that is twice as slow in one round changes no ratio."""
    harness = bench("harness")
    timings = harness.Timings(
        {
            harness.BARE: [1.0, 2.0, 1.0],
            "ours": [2.0, 4.0, 2.0],
            "theirs": [5.0, 10.0, 5.0],
        }
    )

    assert timings.added("ours") == 1.0
    assert timings.ratio("ours", to="theirs") == 0.25


@pytest.mark.parametrize(
    ("starts", "excess"),
    [([0.0, 1.0, 2.0], 0.0), ([0.0, 1.0, 1.0], 1.0), ([0.0, 0.5, 2.0], 0.5)],
)
def test_the_worst_window_is_found(bench: Bench, starts: list[float], excess: float) -> None:
    """The bound is checked over every window, not only over the whole run."""
    above = bench("admitted_rate")._above(starts, burst=1, rate=1.0)

    assert above == pytest.approx(excess)


def test_a_table_is_markdown_with_aligned_columns(bench: Bench) -> None:
    """The page and the terminal show the same text, numbers to the right."""
    section = bench("section")
    table = section.Table(("name", "µs"), [("a", 1.5), ("b|c", 12345.0)])

    text = bench("report")._table_text(table)

    assert text.splitlines() == [
        "| name |     µs |",
        "|------|-------:|",
        "| a    |   1.50 |",
        "| b\\|c | 12,345 |",
    ]
