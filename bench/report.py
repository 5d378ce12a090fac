"""Results as text: one form for the terminal and for the page, and one for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench.section import Cell, Goal, Section, Table

__all__ = ["as_json", "as_markdown", "goals_of", "text_of"]

_INTRODUCTION = """\
# Performance

This page is written by the benchmark, and says on which machine. The figures measure; no gate
hangs on them. To measure on yours, with nothing else running:

```console
$ pip install -e ".[test,bench]"
$ python -m bench            # about five minutes; --quick takes one, --write writes this page
```

All contestants run in one process and in every round, in alternating order. Times are CPU time of
the process per call, with what a bare `await fn()` takes in the same round subtracted, and medians
over the rounds. Between rounds the heap is collected and frozen; the collector itself stays on.
"""


def as_markdown(sections: Sequence[Section], machine: Mapping[str, str]) -> str:
    """Return the whole page."""
    facts = Table(("what", "which"), list(machine.items()))
    parts = [_INTRODUCTION, _table_text(facts), "\n## Goals\n", goals_of(sections)]
    parts += [text_of(section) for section in sections]
    return "\n".join(parts)


def as_json(sections: Sequence[Section], machine: Mapping[str, str]) -> str:
    """Return everything for a program to read."""
    whole = {"machine": dict(machine), "sections": [asdict(section) for section in sections]}
    return json.dumps(whole, indent=2, ensure_ascii=False)


def goals_of(sections: Sequence[Section]) -> str:
    """Return the table of what was to be reached."""
    goals = [goal for section in sections for goal in section.goals]
    return _table_text(
        Table(("goal", "measured", "at most", "verdict"), [_row_of(goal) for goal in goals])
    )


def text_of(section: Section) -> str:
    """Return one benchmark's part of the page."""
    lines = [f"\n## {section.title}\n", _wrapped(section.about)]
    for table in section.tables:
        if table.caption:
            lines.append("\n" + _wrapped(table.caption))
        lines += ["", _table_text(table).rstrip("\n")]
    return "\n".join(lines) + "\n"


def _row_of(goal: Goal) -> tuple[Cell, ...]:
    return goal.what, goal.measured, goal.most, goal.verdict


def _table_text(table: Table) -> str:
    rows = [list(map(str, table.columns)), *([_text(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [
        bool(table.rows) and all(isinstance(row[place], int | float) for row in table.rows)
        for place in range(len(widths))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = (
        "-" * (width + 1) + ":" if right else "-" * (width + 2)
        for width, right in zip(widths, numeric, strict=True)
    )
    return "\n".join([line(rows[0]), f"|{'|'.join(rule)}|", *map(line, rows[1:])]) + "\n"


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return "not measured"
        case float():
            return f"{cell:,.{_digits(abs(cell))}f}"
        case int():
            return f"{cell:,}"
        case str():
            return cell.replace("|", "\\|")


def _digits(size: float) -> int:
    return 3 - sum(size >= bound for bound in (1, 100, 1000))


def _wrapped(text: str) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > 100:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
