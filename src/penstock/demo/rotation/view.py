"""The keys as they stand: a table for terminals, a line for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from penstock.demo.pipeline_view import gauge
from penstock.demo.rotation.book import Book
from penstock.demo.rotation.keys import KEYS, KeyTerms
from penstock.demo.tally import Tally

__all__ = ["keys_body", "keys_status", "keys_table"]

Snapshot = Mapping[str, Any]

_HEADS = ("in flight", "uses", "200", "429", "401", "latency")


def keys_body(snapshot: Snapshot, book: Book, tally: Tally) -> RenderableType:
    """Return the keys, and what the calls do meanwhile."""
    facts = f"{snapshot['waiting']} calls wait, {tally.retries.total()} tried again"
    note = Text(f"{facts}; 429 and 401 as the server counts them", "dim")
    return Group(keys_table(snapshot, book), Text(), note)


def keys_table(snapshot: Snapshot, book: Book) -> Table:
    """Return a row for each key: how it stands in the pool, and what was done with it."""
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("key", no_wrap=True)
    table.add_column("now", ratio=1, no_wrap=True)
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for terms in KEYS:
        table.add_row(*_row(terms, snapshot["resources"][terms.id], book))
    return table


def keys_status(snapshot: Snapshot, book: Book) -> str:
    """Return how the keys stand, in a line."""
    resources = snapshot["resources"]
    states = [f"{terms.id} {_standing(resources[terms.id])[1]}" for terms in KEYS]
    return f"{book.sent} requests; {', '.join(states)}"


def _row(terms: KeyTerms, state: Snapshot, book: Book) -> tuple[RenderableType, ...]:
    counts = book.keys[terms.id]
    colour, words = _standing(state)
    return (
        Text(terms.id, "bold").append(f" {terms.words}", "not bold cyan"),
        Text(words, colour),
        gauge(state["in_flight"], state["max_in_flight"]),
        str(state["uses"]),
        str(counts.answers[200]),
        _count(book.seen_with(terms.id, 429)),
        _count(book.seen_with(terms.id, 401)),
        "" if counts.latency is None else f"{counts.latency:.2f} s",
    )


def _standing(state: Snapshot) -> tuple[str, str]:
    match state:
        case {"standing": "disabled", "disabled": reason}:
            return "red", f"disabled: {reason}"
        case {"standing": "cooling", "cooling_for": seconds}:
            return "yellow", f"cooling {seconds:.1f} s"
        case {"recovering": True}:
            return "cyan", "recovering"
        case _:
            return "green", str(state["standing"])


def _count(count: int) -> str:
    return str(count) if count else ""
