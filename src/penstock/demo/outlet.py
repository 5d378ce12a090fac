"""Where the demo shows itself: a terminal, or lines of text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.console import Console, RenderableType

from penstock.demo.live import LiveScreen, width_of
from penstock.demo.report import Report, as_lines, as_panel
from penstock.demo.screen import PlainScreen, Screen

__all__ = ["Outlet"]


class Outlet:
    """Standard output, painted where it is a terminal.

    Args:
        plain: Lines of text also in a terminal.
    """

    def __init__(self, *, plain: bool) -> None:
        self._console = Console(highlight=False)
        dumb = plain or self._console.is_dumb_terminal
        self._is_lively = self._console.is_terminal and not dumb
        self.write = partial(print, flush=True)

    def screen(
        self, title: str, calls: int, body: Callable[[], RenderableType], status: Callable[[], str]
    ) -> Screen:
        """Return what shows a run while it is under way.

        Args:
            title: Stands above it.
            calls: How many there will be.
            body: Returns how things stand, for a terminal.
            status: Returns how things stand, in a line.
        """
        if self._is_lively:
            return LiveScreen(self._console, calls, body, title)
        self.write(title)
        return PlainScreen(calls, status, self.write)

    def show(self, summary: Report) -> bool:
        """Show what came of a run; return whether all was well."""
        if self._is_lively:
            self._console.print(as_panel(summary, width_of(self._console)))
        else:
            self.write("\n".join([*as_lines(summary), ""]))
        return not summary.problems
