"""What ``PolicyTransport`` is, for httpx and httpx2 alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

from penstock.call import Call
from penstock.errors import PolicyError
from penstock.integrations.exchange import Exchange
from penstock.integrations.http.inners import Inners
from penstock.integrations.http.requests import name_of
from penstock.integrations.http.rules import Rules
from penstock.integrations.http.sending import ClientSending

__all__ = ["AsyncTransport", "HeldBody"]

_log = logging.getLogger("penstock")

# A loop keeps a weak reference to its tasks only.
_closing: set[asyncio.Task[None]] = set()


class HeldBody:
    """The body of an answer, with which what the policy holds for it is given back.

    Args:
        body: The transport's own.
        exchange: What is held.
        call: Whose answer it is.
    """

    def __init__(self, body: Any, exchange: Exchange[Any], call: Call) -> None:
        self._body = body
        self._exchange = exchange
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Read the body.

        Raises:
            PolicyError: The policy's time for the whole call is over.
        """
        try:
            async for chunk in self._body:
                if self._call.expiring:
                    # The cancel has gone to another task: the one that has sent the request.
                    raise asyncio.CancelledError  # noqa: TRY301 - told to the stages below
                yield chunk
        except GeneratorExit:
            # Left early; whoever did so closes the answer.
            raise
        except BaseException as error:
            await self._exchange.fail(error)
            raise
        await self.aclose()

    async def aclose(self) -> None:
        """Close the body and give back what is held.

        Raises:
            PolicyError: The policy's time for the whole call is over, which is why it is closed.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._body.aclose()
        except BaseException as error:
            await self._exchange.fail(error)
            raise
        if self._call.expiring:
            # The cancel has reached whoever uses the answer, between two chunks.
            await self._exchange.fail(asyncio.CancelledError())
        else:
            await self._exchange.close()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            _abandon(self._loop, self._exchange, self._body)


class AsyncTransport:
    """Sends requests through a policy, and holds it until their answers are closed.

    Args:
        rules: How.
        inners: Through what.
        held_body: The class of the bodies of its answers.
    """

    def __init__(self, rules: Rules, inners: Inners, held_body: type[HeldBody]) -> None:
        self._rules = rules
        self._inners = inners
        self._held_body = held_body

    async def send(self, request: Any) -> Any:
        """Send a request and return its answer.

        Raises:
            PolicyError: The policy refused the call, or it timed out.
        """
        rules = self._rules
        if not rules.keys.covers(request.url):
            return await self._inners.of(None).handle_async_request(request)
        sending = ClientSending(request, rules, self._inners)
        url = request.url if rules.wants_url else None
        try:
            exchange = await rules.exchanges.send(sending, name=name_of(request), url=url)
        except BaseException:
            await _discard(sending.last)
            raise
        response = exchange.response
        if response is not sending.last:
            await _discard(sending.last)
            _check(response)
        # What is held must not keep an answer that is forgotten.
        exchange.response = sending.last = None
        if not exchange.is_held:
            return response
        if response.is_closed or sending.call is None:
            # Its body is in memory already: nobody is going to close it.
            await exchange.close()
        else:
            response.stream = self._held_body(response.stream, exchange, sending.call)
        return response

    async def enter(self) -> None:
        """Enter the transport inside."""
        if self._inners.one is not None:
            await self._inners.one.__aenter__()

    async def leave(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the transport inside, or close those of the resources."""
        if self._inners.one is not None:
            await self._inners.one.__aexit__(exc_type, exc, traceback)
        await self._close_others()

    async def close(self) -> None:
        """Close the transport inside, or those of the resources."""
        if self._inners.one is not None:
            await self._inners.one.aclose()
        await self._close_others()

    async def _close_others(self) -> None:
        for inner in self._inners.drain():
            await _close_quietly(inner)


async def _discard(response: Any) -> None:
    # A hook of the user's may have been cut off before the answer was thrown away.
    if response is not None and not response.is_closed:
        await _close_quietly(response)


def _check(response: Any) -> None:
    if not hasattr(response, "status_code"):
        kind = type(response).__name__
        raise PolicyError(f"a request was answered with {kind}; a fallback must return a Response")


def _abandon(loop: asyncio.AbstractEventLoop, exchange: Exchange[Any], body: Any) -> None:
    # Collected without being closed, in whatever thread the collector runs.
    def close() -> None:
        exchange.close_now()
        task = loop.create_task(_close_quietly(body))
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    try:
        loop.call_soon_threadsafe(close)
    except RuntimeError:
        # The loop is closed, and its connections with it; the policy lives on.
        exchange.close_now()


async def _close_quietly(what: Any) -> None:
    try:
        await what.aclose()
    except Exception as error:  # noqa: BLE001 - it must not hide what has happened, nor end others
        _log.warning("closing %s raised %s", type(what).__name__, type(error).__name__)
