"""The demo in a terminal: a frame with a progress bar, repainted in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["WIDTH", "LiveScreen", "width_of"]

# Wide enough for the longest line; a full screen of a wide terminal would tear the columns apart.
WIDTH = 84


class LiveScreen:
    """Repaints one panel in place.

    Args:
        console: Where.
        calls: How many there will be.
        body: Returns how things stand, below the progress bar.
        title: Stands in the frame.
    """

    def __init__(
        self, console: Console, calls: int, body: Callable[[], RenderableType], title: str
    ) -> None:
        self._body = body
        self._title = title
        self._width = width_of(console)
        self._progress = Progress(
            BarColumn(bar_width=None, complete_style="green", finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("[dim]calls[/]"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("calls", total=calls)
        # Painted by the run itself: a thread of rich's would read stages while they change.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def advance(self) -> None:
        """Count one more call as done."""
        self._progress.advance(self._task)

    def paint(self) -> None:
        """Show how things stand now."""
        self._live.update(self._frame(), refresh=True)

    def _frame(self) -> RenderableType:
        body = Group(self._progress, Text(), self._body())
        return Panel(
            Padding(body, (1, 1)), title=self._title, border_style="dim", width=self._width
        )


def width_of(console: Console) -> int:
    """Return how wide the demo's panels are, in cells."""
    return min(WIDTH, console.width)
