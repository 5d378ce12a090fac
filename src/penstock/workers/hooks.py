"""The methods a worker may have for its pool: ``start``, ``stop`` and ``healthy``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["LIFE_CYCLE", "optional", "with_index"]

LIFE_CYCLE = ("start", "stop", "healthy")
"""Called by the pool; no job calls them."""


def optional(worker: Any, name: str) -> Callable[..., Any] | None:
    """Return a worker's method, or None where it has none of that name."""
    method = getattr(worker, name, None)
    return method if callable(method) else None


def with_index(start: Callable[..., Any], index: int) -> dict[str, Any]:
    """Return the keyword arguments of a worker's ``start``: its place, if it asks for it."""
    try:
        parameters = inspect.signature(start).parameters
    except (TypeError, ValueError):
        return {}
    return {"index": index} if "index" in parameters else {}
