"""A stream under a policy as the body of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar, Unpack

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from penstock.integrations.starlette.disconnect import Watch
from penstock.streaming import PolicyStream

__all__ = ["StreamedResponse"]

T = TypeVar("T")


class _Options(TypedDict, total=False):
    status_code: int
    headers: Mapping[str, str] | None
    media_type: str | None
    background: BackgroundTask | None


def _as_it_is(item: Any) -> Any:
    return item


class StreamedResponse(StreamingResponse):
    """Sends the items of ``policy.stream(...)``, and closes the stream whatever happens.

    The stream is entered before the status is sent: what the policy refuses, or fails at before the
    first item, is still answered by the app's error handlers. It is left in the same task: at its
    end, after a failure, and as soon as the client has gone. Starlette's own response leaves a
    generator that was not read to its end to the garbage collector, with all that it holds.

    Args:
        stream: Not entered yet.
        text: Makes of an item what is sent; None sends items that are str or bytes already.
        options: ``status_code``, ``headers``, ``media_type`` and ``background`` as Starlette takes
            them; the background task is run when the stream has been closed.
    """

    def __init__(
        self,
        stream: PolicyStream[T],
        text: Callable[[T], str | bytes] | None = None,
        **options: Unpack[_Options],
    ) -> None:
        super().__init__((), **options)
        self._stream: PolicyStream[Any] = stream
        self._text: Callable[[Any], str | bytes] = text or _as_it_is

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Answer, and run the background task."""
        watch = Watch(receive)
        try:
            await self._send_items(send)
        except asyncio.CancelledError:
            if not watch.was_all():
                raise
        finally:
            watch.end()
        if self.background is not None:
            await self.background()

    async def _send_items(self, send: Send) -> None:
        async with self._stream as items:
            head = {"status": self.status_code, "headers": self.raw_headers}
            await _sent(send, {"type": "http.response.start", **head})
            async for item in items:
                text = self._text(item)
                body = text.encode(self.charset) if isinstance(text, str) else text
                await _sent(send, {"type": "http.response.body", "body": body, "more_body": True})
        await _sent(send, {"type": "http.response.body", "body": b""})


async def _sent(send: Send, message: dict[str, Any]) -> None:
    try:
        await send(message)
    except OSError:
        # Servers of ASGI 2.4 say so that the client has gone; others say nothing.
        raise ClientDisconnect from None
