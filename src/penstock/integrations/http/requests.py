"""Requests of httpx and httpx2 as one attempt sends them: with a key, in the time that is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock import clock
from penstock.call import Call
from penstock.integrations.http.rules import Rules

__all__ = [
    "SLACK",
    "adopt_body",
    "for_attempt",
    "is_in_memory",
    "is_spent",
    "least",
    "name_of",
    "undo_limits",
]

# The policy's own time limit comes first: it knows whose time is over, the client does not.
SLACK = 0.05

_PHASES = ("connect", "read", "write", "pool")


def name_of(request: Any) -> str:
    """Return what events call a request: its method and host, and nothing that may be secret."""
    return f"{request.method} {request.url.host}"


def for_attempt(request: Any, call: Call, rules: Rules) -> Any:
    """Return the request as this attempt sends it; the user's own is never changed.

    So the key is in no ``response.request`` and in no request of an error, and a redirect, which is
    made from the user's own, starts without it.
    """
    left = call.time_left(clock.now())
    if left is None and (call.resource is None or not rules.keys.puts):
        return request
    kind: Any = type(request)  # pyright: ignore[reportUnknownVariableType]  # of either package
    sent: Any = object.__new__(kind)
    sent.__dict__.update(request.__dict__)
    if rules.keys.puts:
        sent.headers = request.headers.copy()
        rules.keys.put(sent.headers, call.resource, request.url)
    if left is not None:
        sent.extensions = _limited(request.extensions, max(left, 0.0) + SLACK)
    return sent


def undo_limits(request: Any, sent: Any) -> None:
    """Give the reading of the body the user's own limits.

    The attempt has brought its answer in time; the policy's limit for the whole call goes on
    watching whoever reads.
    """
    if sent is not request and sent.extensions is not request.extensions:
        # In place: the connection has taken this very dict.
        limits = sent.extensions["timeout"]
        limits.clear()
        limits.update(request.extensions.get("timeout") or {})


def adopt_body(request: Any, sent: Any) -> None:
    """Give the request the body that was read into memory for one attempt."""
    if sent is not request and sent.stream is not request.stream:
        request.stream = sent.stream
        if "_content" in vars(sent):
            vars(request)["_content"] = sent.content


def is_in_memory(request: Any) -> bool:
    """Whether the body is bytes, which can be sent any number of times, by several at once."""
    return "_content" in vars(request) or isinstance(
        getattr(request.stream, "_stream", None), bytes
    )


def is_spent(request: Any, *, unsent: bool) -> bool:
    """Whether a body that is not in memory cannot be sent once more.

    Args:
        request: After an attempt.
        unsent: It is certain that nothing has reached the server.
    """
    # Of httpx's streams over iterators, which can tell.
    begun = getattr(request.stream, "_is_stream_consumed", None)
    if begun is not None:
        return bool(begun)
    fields = getattr(request.stream, "fields", None)
    if fields is not None:
        # A form with files; it rewinds them by itself where they can be.
        return not all(_can_rewind(getattr(field, "file", b"")) for field in fields)
    return not unsent


def _can_rewind(file: object) -> bool:
    if isinstance(file, str | bytes):
        return True
    seekable = getattr(file, "seekable", None)
    return callable(seekable) and bool(seekable())


def _limited(extensions: Mapping[str, Any], left: float) -> dict[str, Any]:
    given: Mapping[str, float | None] = extensions.get("timeout") or {}
    limits = {phase: least(given.get(phase), left) for phase in _PHASES}
    return {**extensions, "timeout": limits}


def least(given: float | None, left: float) -> float:
    """Return the smaller limit; None is no limit."""
    return left if given is None else min(given, left)
