"""Starlette and FastAPI: policies from lifespan to endpoint, and what callers get to see of them.

FastAPI is not imported: what works for Starlette works for it, and ``from_state`` is a dependency.
"""

from __future__ import annotations

from penstock.integrations import missing

try:
    from penstock.integrations.starlette.answers import STATUSES, install, problem
    from penstock.integrations.starlette.disconnect import while_connected
    from penstock.integrations.starlette.lifespan import from_state, lifespan, running
    from penstock.integrations.starlette.streamed import StreamedResponse
except ModuleNotFoundError as error:
    raise missing("starlette", "starlette") from error

__all__ = [
    "STATUSES",
    "StreamedResponse",
    "from_state",
    "install",
    "lifespan",
    "problem",
    "running",
    "while_connected",
]
