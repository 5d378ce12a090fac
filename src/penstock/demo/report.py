"""The summary at the end: as tables, and as plain lines."""

from __future__ import annotations

from typing import Protocol

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from penstock.demo.summary import Section

__all__ = ["Report", "as_lines", "as_panel"]


class Report(Protocol):
    """What a summary has to say."""

    @property
    def problems(self) -> list[str]:
        """What is wrong; empty when all is well."""
        ...

    @property
    def headline(self) -> str:
        """One sentence that says how it went."""
        ...

    @property
    def facts(self) -> str:
        """The main figures in a line or a few."""
        ...

    def sections(self) -> tuple[Section, ...]:
        """Return all figures, the main ones first."""
        ...


def as_lines(summary: Report) -> list[str]:
    """Return the summary as lines of text."""
    lines = [summary.headline, *summary.facts.splitlines()]
    for section in summary.sections():
        lines.append("")
        table = [section.heads, *section.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["  ".join(_aligned(row, widths)).rstrip() for row in table]
    return lines


def as_panel(summary: Report, width: int) -> RenderableType:
    """Return the summary for a terminal of ``width`` cells."""
    good = not summary.problems
    colour = "green" if good else "red"
    headline = Text("✔ " if good else "✘ ", f"bold {colour}").append(
        summary.headline, "bold default"
    )
    below = Table.grid(padding=(0, 6))
    main, *others = map(_table, summary.sections())
    below.add_row(*others)
    facts = Padding(Text(summary.facts, "dim"), (0, 0, 0, 2))
    body = Group(headline, facts, Text(), main, Text(), below)
    return Panel(body, border_style=colour, padding=(1, 2), width=width)


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def _table(section: Section) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    first, *others = section.heads
    table.add_column(first, no_wrap=True, style="cyan")
    for head in others:
        table.add_column(head, justify="right", no_wrap=True)
    for row in section.rows:
        table.add_row(*row, style="bold" if row[0] == "in all" else "")
    return table
