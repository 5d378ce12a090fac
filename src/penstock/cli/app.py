"""The commands of ``penstock``, put together."""

from __future__ import annotations

import typer

from penstock.cli.check import check
from penstock.cli.demo import demo
from penstock.cli.schema import schema

__all__ = ["app"]

# The traceback of a user's own module is theirs to read in full, and without values of variables.
app = typer.Typer(
    name="penstock",
    help="Policies round any awaitable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(check)
app.command()(schema)
app.command()(demo)


@app.callback()
def _root() -> None:
    """Policies round any awaitable."""
