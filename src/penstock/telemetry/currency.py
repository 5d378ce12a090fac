"""Making a span the current one, by hand: a context manager costs more than the span."""

from __future__ import annotations

from typing import Any

from opentelemetry import context as _context
from opentelemetry.context import Context

__all__ = ["enter", "leave"]


def enter(context: Context) -> Any:
    """Make a context the current one; return what ``leave`` takes."""
    return _context.attach(context)


def leave(token: Any) -> None:
    """Make the context before it the current one again."""
    variable: Any = getattr(token, "var", None)
    if variable is None:
        _context.detach(token)
        return
    try:
        variable.reset(token)
    except ValueError:
        # A call was left to the collector, which closes it in another context: nothing is to be
        # put back there, and the API's own ``detach`` would log an error.
        return
