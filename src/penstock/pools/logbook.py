"""One log line for every change of a resource, under ``penstock.rotation``."""

from __future__ import annotations

import logging

from penstock.pools.news import Change

__all__ = ["log_change"]

_log = logging.getLogger("penstock.rotation")

_EVENTS = {
    "ready": "penstock.resource.ready",
    "cooling": "penstock.resource.cooldown",
    "disabled": "penstock.resource.disabled",
}


def log_change(pool: str, change: Change) -> None:
    """Write a line: a warning where a resource was taken out, else an info.

    Args:
        pool: The pool's name.
        change: What has changed.
    """
    level = logging.WARNING if change.new == "disabled" else logging.INFO
    if not _log.isEnabledFor(level):
        return
    dimension = None if change.dimension is None else str(change.dimension)
    facts = {
        "event_name": _EVENTS[change.new],
        "pool": pool,
        "resource": change.resource,
        "old": change.old,
        "new": change.new,
        "reason": change.reason,
        "seconds": change.seconds,
        "dimension": dimension,
    }
    where = "" if dimension is None else f" for {dimension!r}"
    why = f": {change.reason}" if change.reason else ""
    what = f"{change.resource!r}{where} {_what(change)}{why}"
    _log.log(level, "pool '%s': resource %s", pool, what, extra=facts)


def _what(change: Change) -> str:
    if change.new == "ready":
        return "is ready again"
    if change.new == "disabled":
        # The call goes on elsewhere: nobody would ever learn of the refusal.
        return "is disabled"
    again = "another " if change.old == "cooling" else ""
    return f"rests for {again}{change.seconds or 0:g} s"
