"""Async iterators under a policy: retried until the first item that matters, held until closed."""

from __future__ import annotations

from penstock.streaming.operation import StreamOperation
from penstock.streaming.source import Source
from penstock.streaming.stream import PolicyStream

__all__ = ["PolicyStream", "Source", "StreamOperation"]
