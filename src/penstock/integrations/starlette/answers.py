"""What callers get to see where a policy has refused or ended what they asked for."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from penstock.errors import (
    CallTimeoutError,
    ConfigError,
    PolicyError,
    PoolStoppedError,
    RateLimitedError,
    RejectedError,
)

__all__ = ["STATUSES", "install", "problem"]

# The most specific class of an error decides.
STATUSES: Mapping[type[PolicyError], int] = {
    RejectedError: 503,  # nothing is wrong with the request, and it may come again
    RateLimitedError: 429,
    CallTimeoutError: 504,
    PoolStoppedError: 503,  # the service is going down; another instance may serve
}

# What nginx writes for a client that has gone; nobody reads it.
_CLIENT_CLOSED_REQUEST = 499

# WebSocket close codes (RFC 6455 and IANA's registry).
_TRY_AGAIN_LATER = 1013


def install(app: Starlette, statuses: Mapping[type[PolicyError], int] | None = None) -> None:
    """Answer requests that a policy has refused or ended, instead of failing with a 500.

    ``RejectedError`` becomes 503, ``RateLimitedError`` 429, ``CallTimeoutError`` 504; a WebSocket
    is closed with 1013. Your own handler for one of these classes, or for one below it, has
    precedence where it is added later.

    Args:
        app: A Starlette or FastAPI app that has not served yet.
        statuses: Other statuses, 400 to 599, by class of error; the most specific class decides.

    Raises:
        ConfigError: A key is no PolicyError, or a status is not allowed.
    """
    for kind, status in {**STATUSES, **_checked(statuses or {})}.items():
        app.add_exception_handler(kind, _handler(status))
    app.add_exception_handler(ClientDisconnect, _nobody_is_there)


def _checked(statuses: Mapping[type[PolicyError], int]) -> Mapping[type[PolicyError], int]:
    for kind, status in statuses.items():
        if not _is_ours(kind):
            raise ConfigError(f"install: 'statuses' is by PolicyError class; got {kind!r}")
        if status not in range(400, 600):
            raise ConfigError(f"install: a status must be 400 to 599; got {status!r}")
    return statuses


def _is_ours(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, PolicyError)


def _handler(status: int) -> Callable[[Any, Exception], Awaitable[Any]]:
    async def answer(connection: Request | WebSocket, error: Exception) -> Response | None:
        if isinstance(connection, WebSocket):
            await connection.close(_TRY_AGAIN_LATER, HTTPStatus(status).phrase)
            return None
        return problem(status, getattr(error, "retry_after", None))

    return answer


async def _nobody_is_there(_request: Any, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


def problem(status: int, retry_after: float | None = None) -> Response:
    """Return an answer in ``application/problem+json`` (RFC 9457).

    It says nothing of policies, resources or messages: those are for logs and telemetry.

    Args:
        status: The HTTP status.
        retry_after: Seconds; sent in whole seconds, rounded up and at least 1, where it is known.
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
    }
    headers: dict[str, str] = {}
    if retry_after is not None and math.isfinite(retry_after):
        seconds = max(1, math.ceil(retry_after))
        body["detail"] = f"try again in {seconds} s"
        headers["Retry-After"] = str(seconds)
    return JSONResponse(body, status, headers, media_type="application/problem+json")
