"""How a stream is to be read: what may be set, and which item commits it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from penstock.options import Options, Seconds
from penstock.streaming.preamble import is_preamble

__all__ = ["MOST_KEPT_BACK", "Reading"]

# A source that keeps a connection alive with empty items sends one every few seconds: enough for
# minutes of that, and nothing that anybody's memory would notice.
MOST_KEPT_BACK = 64

_log = logging.getLogger("penstock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Options):
    """Options of ``policy.stream(...).reading(...)``.

    Attributes:
        first: Whether an item is one that matters; None asks the table of known SDKs.
        idle: Most seconds of waiting for an item that follows, above 0; None for no limit.
    """

    stage: ClassVar[str] = "stream"

    first: Callable[[Any], object] | None = None
    idle: Seconds | None = None

    def __post_init__(self) -> None:
        """Check both."""
        Options.__post_init__(self)
        first: object = self.first
        if first is not None and (not callable(first) or inspect.iscoroutinefunction(first)):
            allowed = "a function of an item that returns true or false, not a coroutine function"
            raise self.refuse("first", first, allowed)

    def begins_with(self, item: object) -> bool:
        """Whether this item matters: the stream has begun, and is not opened again."""
        if self.first is None:
            return not is_preamble(item)
        try:
            return bool(self.first(item))
        except Exception as mistake:  # noqa: BLE001 - the stream itself is in order
            # Without its text, which may hold what the item does.
            kind = type(mistake).__name__
            _log.warning("a stream's 'first' raised %s; the item is taken as the first", kind)
            return True
