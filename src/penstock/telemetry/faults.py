"""Telemetry that is broken is reported once, and changes nothing for a call."""

from __future__ import annotations

import logging

__all__ = ["report"]

_log = logging.getLogger("penstock")

_reported: set[str] = set()


def report(part: str, error: Exception) -> None:
    """Log what a part of telemetry has raised, the first time.

    Args:
        part: What was done: ``span``, ``provider`` or a sink's name.
        error: What it raised.
    """
    if part not in _reported:
        _reported.add(part)
        msg = "telemetry: the %s raised; no call is affected, and further errors are not shown"
        _log.error(msg, part, exc_info=error)
