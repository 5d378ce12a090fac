"""What ``import penstock`` costs above a Python that imports nothing, and what it drags in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from bench.harness import Effort
from bench.section import Goal, Section, Table

__all__ = ["run"]

_STATEMENTS = {
    "nothing": "pass",
    "asyncio alone": "import asyncio",
    "penstock": "import penstock",
    "tenacity, aiolimiter and pybreaker": "import tenacity, aiolimiter, pybreaker",
}

_HEAVY = (
    "pydantic",
    "yaml",
    "httpx",
    "opentelemetry",
    "typer",
    "rich",
    "tenacity",
    "aiolimiter",
    "pybreaker",
)

_ABOUT = (
    "A new interpreter, started again and again in alternating order; medians, with what Python "
    "takes to do nothing subtracted, and its end included. Byte code is cached. "
    "The second table adds up the modules' own time as `-X importtime` reports it, which makes "
    "everything slower."
)

_AT_ONCE = 3

_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|\s*(\S+)")


def run(effort: Effort, loop: str) -> Section:  # noqa: ARG001 - one interface
    """Start interpreters, and look at what they have imported."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in _STATEMENTS}
    for number in range(effort.processes):
        for name in list(spent) if number % 2 == 0 else list(reversed(spent)):
            spent[name].append(_start(_STATEMENTS[name]))
    added = {name: _added(times, spent["nothing"]) for name, times in spent.items()}
    heavy = _heavy_modules()
    return Section(
        name="import-time",
        title="Import",
        about=_ABOUT,
        tables=[
            Table(
                columns=("imported", "CPU above bare Python, ms", "wall, ms"),
                rows=[(name, *millis) for name, millis in added.items() if name != "nothing"],
                caption=f"Heavy packages among its modules: {', '.join(heavy) or 'none'}.",
            ),
            Table(columns=("part", "modules", "own time, ms"), rows=_parts()),
            Table(columns=("module", "own time, ms"), rows=_dearest()),
        ],
        goals=[
            Goal("import penstock: CPU ms over bare Python", added["penstock"][0], 60.0),
            Goal("heavy packages imported by it", float(len(heavy)), 0.0),
        ],
    )


def _start(statement: str) -> tuple[float, float]:
    # ``os.times`` counts the processes that have been waited for, to a hundredth of a second at
    # worst: several at once make that fine enough.
    before = os.times()
    for _ in range(_AT_ONCE):
        subprocess.run([sys.executable, "-c", statement], check=True, env=_environment())  # noqa: S603 - our own statements
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return 1000 * cpu / _AT_ONCE, 1000 * (after.elapsed - before.elapsed) / _AT_ONCE


def _added(
    times: Sequence[tuple[float, float]], bare: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    pairs = list(zip(times, bare, strict=True))
    return (
        median(spent[0] - nothing[0] for spent, nothing in pairs),
        median(spent[1] - nothing[1] for spent, nothing in pairs),
    )


def _environment() -> dict[str, str]:
    # What watches this process (coverage, development mode) does not belong to the children.
    kept = ("PATH", "PYTHONPATH", "HOME", "SYSTEMROOT", "VIRTUAL_ENV", "LANG")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _heavy_modules() -> list[str]:
    statement = "import sys, penstock; print(*sys.modules)"
    output = subprocess.run(  # noqa: S603 - our own statement
        [sys.executable, "-c", statement],
        check=True,
        capture_output=True,
        text=True,
        env=_environment(),
    ).stdout
    loaded = {module.partition(".")[0] for module in output.split()}
    return [name for name in _HEAVY if name in loaded]


def _own_times() -> dict[str, float]:
    # Twice, so that the byte code is written the first time.
    for _ in range(2):
        report = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import penstock"],
            check=True,
            capture_output=True,
            text=True,
            env=_environment(),
        ).stderr
    lines = [match.groups() for match in map(_LINE.match, report.splitlines()) if match]
    names = [name for _, _, name in lines]
    # What ``site`` imports comes before ours, whoever starts Python.
    first = next((place for place, name in enumerate(names) if name == "site"), -1) + 1
    return {name: int(own) / 1000 for own, _, name in lines[first:]}


def _parts() -> list[tuple[str, int, float]]:
    sums: dict[str, list[float]] = defaultdict(list)
    for name, own in _own_times().items():
        top = name.partition(".")[0]
        sums[top if top in ("penstock", "asyncio") else "the rest"].append(own)
    return [(part, len(times), sum(times)) for part, times in sorted(sums.items())]


def _dearest() -> list[tuple[str, float]]:
    times = _own_times()
    return sorted(times.items(), key=lambda item: -item[1])[:12]
