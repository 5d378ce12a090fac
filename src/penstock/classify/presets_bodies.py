"""The body of an error or an answer, where it is there already; nothing is read from a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from penstock.hints import entry, peek

__all__ = ["body_of", "is_page"]

# Errors are short; what is longer is an answer, and parsing it would cost more than it tells.
_MOST_BYTES = 65_536


def body_of(outcome: object) -> object:
    """Return the body that an SDK has parsed, or that an HTTP client has loaded; else None."""
    own = peek(outcome, "__dict__")
    for name in ("body", "details"):
        parsed = entry(own, name)
        if isinstance(parsed, Mapping):
            return cast("Mapping[str, object]", parsed)
    answer = peek(outcome, "response") if isinstance(outcome, BaseException) else outcome
    # The attributes of httpx and requests, and of aiohttp: their public names read the socket.
    loaded = peek(answer, "__dict__")
    for name in ("_content", "_body"):
        content = entry(loaded, name)
        if isinstance(content, bytes) and 0 < len(content) <= _MOST_BYTES:
            return _parsed(content)
    return None


def is_page(outcome: object) -> bool:
    """Return whether the answer is a page for people and not one of an API."""
    answer = peek(outcome, "response") if isinstance(outcome, BaseException) else outcome
    headers = peek(answer, "headers")
    kinds = (entry(headers, name) for name in ("content-type", "Content-Type"))
    return any(isinstance(kind, str) and "text/html" in kind.lower() for kind in kinds)


def _parsed(content: bytes) -> object:
    try:
        return cast("object", json.loads(content))
    except (ValueError, RecursionError):
        return None
