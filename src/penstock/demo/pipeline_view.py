"""The pipeline as it stands: a table of its stages, and the last attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from penstock.demo.live import WIDTH
from penstock.demo.summary import times
from penstock.demo.tally import Tally, Wait
from penstock.verdict import VerdictKind

__all__ = ["gauge", "pipeline_body", "pipeline_status", "pipeline_table", "recent_strip"]

Snapshot = Mapping[str, Any]

COLOURS: dict[VerdictKind, str] = {
    VerdictKind.OK: "green",
    VerdictKind.RATE_LIMITED: "yellow",
    VerdictKind.OVERLOADED: "red",
    VerdictKind.TRANSIENT: "magenta",
    VerdictKind.TIMEOUT: "cyan",
}
_OTHER = "white"

_CIRCUIT = {
    "closed": ("●", "green"),
    "half_open": ("◐", "yellow"),
    "open": ("○", "red"),
    "isolated": ("○", "red"),
}

_GAUGE_CELLS = 10

# The panel less its frame and the word before the strip.
_STRIP = WIDTH - 18


def pipeline_body(snapshot: Snapshot, tally: Tally) -> RenderableType:
    """Return a policy's stages and its last attempts."""
    return Group(pipeline_table(snapshot["stages"], tally), Text(), recent_strip(tally))


def pipeline_status(tally: Tally) -> str:
    """Return the same in a line."""
    return (
        f"{tally.attempts_begun} attempts, {tally.retries.total()} retries, "
        f"{tally.calls_under_way} calls under way"
    )


def pipeline_table(stages: Iterable[Snapshot], tally: Tally) -> Table:
    """Return the pipeline, outermost first: each stage, its state, and who waited in it."""
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("stage", no_wrap=True)
    table.add_column("now", ratio=1, no_wrap=True)
    table.add_column("waits", justify="right", no_wrap=True)
    table.add_column("waited", justify="right", no_wrap=True)
    for stage in stages:
        title, now = _row_of(stage, tally)
        count, seconds = _waits_of(stage["stage"], tally)
        table.add_row(title, now, count, seconds)
    return table


def recent_strip(tally: Tally) -> Group:
    """Return the last attempts, one block each, and what the colours mean."""
    strip, legend = Text(no_wrap=True), Text(no_wrap=True)
    for verdict in list(tally.recent)[-_STRIP:]:
        strip.append("▆", COLOURS.get(verdict, _OTHER))
    for verdict, count in sorted(tally.attempts.items(), key=lambda item: -item[1]):
        colour = COLOURS.get(verdict, _OTHER)
        legend.append("■ ", colour).append(f"{verdict.value} ").append(f"{count}   ", "bold")
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text("attempts", "dim"), strip)
    return Group(grid, legend)


def _row_of(stage: Snapshot, tally: Tally) -> tuple[Text, Text]:
    match stage:
        case {"stage": "timeout", "seconds": seconds, "running": running}:
            return _title("timeout", f"{seconds:g} s"), Text(f"{running} under watch")
        case {"stage": "retry", "attempts": attempts, "retries": retries}:
            return _title("retry", f"{attempts} attempts"), Text(f"{retries} retries so far")
        case {"stage": "rate_limit", "rates": rates}:
            written = ", ".join(rate.replace("/1s", "/s") for rate in rates)
            return _title("rate", written), _rate_now(stage)
        case {"stage": "breaker", "state": state}:
            sign, colour = _CIRCUIT[state]
            now = Text(f"{sign} {state.replace('_', '-')}", colour)
            return _title("breaker"), now.append(_breaker_facts(stage, tally), "default")
        case {"stage": "concurrency", "limit": limit, "in_flight": used, "waiting": waiting}:
            row = gauge(used, limit)
            return _title("concurrency", str(limit)), row.append(
                f" {used} under way{_in_line(waiting)}", "default"
            )
        case _:
            return _title(stage["stage"]), Text()


def _title(name: str, setting: str = "") -> Text:
    return Text(name, "bold").append(f" {setting}", "not bold cyan")


def _rate_now(stage: Snapshot) -> Text:
    if stage["paused_for"] > 0:
        text = Text(f"paused {stage['paused_for']:.1f} s, as the server asked", "yellow")
    else:
        free = min(stage["available"])
        text = Text(f"{free:g} free")
    return text.append(_in_line(stage["waiting"]), "default")


def _breaker_facts(stage: Snapshot, tally: Tally) -> str:
    if stage["retry_after"] is not None:
        return f", probe in {stage['retry_after']:.1f} s"
    return f", opened {times(tally.openings)}" if tally.openings else ""


def _in_line(waiting: int) -> str:
    return f", {waiting} in line" if waiting else ""


def gauge(used: int, limit: int) -> Text:
    """Return how full something is, as a bar."""
    cells = min(_GAUGE_CELLS, limit)
    full = -(-used * cells // limit)
    return Text("█" * full, "cyan").append("░" * (cells - full), "dim")


def _waits_of(stage: str, tally: Tally) -> tuple[str, str]:
    wait: Wait | None = tally.waits.get("backoff" if stage == "retry" else stage)
    return (str(wait.count), f"{wait.seconds:.1f} s") if wait else ("", "")
