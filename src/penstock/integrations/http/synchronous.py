"""What ``SyncPolicyTransport`` is, for httpx and httpx2 alike; requests sends the same way."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Any

from penstock.call import Call
from penstock.errors import PolicyError
from penstock.integrations.http.held import Held, HeldSyncBody, close_quietly
from penstock.integrations.http.inners import Inners
from penstock.integrations.http.requests import adopt_body, name_of
from penstock.integrations.http.rules import Rules
from penstock.integrations.http.sending import ClientSending
from penstock.integrations.http.threads import in_thread
from penstock.sync import run_sync, running_home

__all__ = ["SyncTransport", "send_sync"]


class SyncTransport:
    """Sends requests through a policy from threads without a loop.

    Args:
        rules: How.
        inners: Through what.
        held_body: The class of the bodies of its answers.
    """

    def __init__(self, rules: Rules, inners: Inners, held_body: type[HeldSyncBody]) -> None:
        self._rules = rules
        self._inners = inners
        self._held_body = held_body

    def send(self, request: Any) -> Any:
        """Send a request and return its answer.

        Raises:
            PolicyError: The policy refused the call, or it timed out; or this thread runs a loop.
        """
        if not self._rules.keys.covers(request.url):
            return self._inners.of(None).handle_request(request)
        sending = _ThreadSending(request, self._rules, self._inners)
        url = request.url if self._rules.wants_url else None
        response, held = send_sync(self._rules, sending, name_of(request), url)
        if not hasattr(response, "status_code"):
            kind = type(response).__name__
            msg = f"a request was answered with {kind}; a fallback must return a Response"
            raise PolicyError(msg)
        if held is not None and response.is_closed:
            # Its body is in memory already: nobody is going to close it.
            held.close()
        elif held is not None:
            response.stream = self._held_body(response.stream, held)
        return response

    def enter(self) -> None:
        """Enter the transport inside."""
        if self._inners.one is not None:
            self._inners.one.__enter__()

    def leave(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the transport inside, or close those of the resources."""
        if self._inners.one is not None:
            self._inners.one.__exit__(exc_type, exc, traceback)
        self._close_others()

    def close(self) -> None:
        """Close the transport inside, or those of the resources."""
        if self._inners.one is not None:
            self._inners.one.close()
        self._close_others()

    def _close_others(self) -> None:
        for inner in self._inners.drain():
            close_quietly(inner)


class _ThreadSending(ClientSending):
    """Sends one request, each attempt in a worker thread."""

    __slots__ = ()

    @property
    def runs_on(self) -> bool:
        """True: a cancel would end the waiting and not the work."""
        return True

    async def pass_on(self, call: Call, sent: Any) -> Any:
        """Send a request through the transport of its resource."""
        inner = self._inners.of(call.resource)
        return await in_thread(partial(inner.handle_request, sent), call, close_quietly)

    def has_answered(self, sent: Any) -> None:
        """Keep the limits for the body: nothing else bounds a thread that reads."""
        adopt_body(self.request, sent)


def send_sync(rules: Rules, sending: Any, name: str, url: object) -> tuple[Any, Held | None]:
    """Send a request from a thread without a loop; return its answer and what is held for it.

    Args:
        rules: How.
        sending: What each attempt does.
        name: The operation's name in events.
        url: Where it goes, for a pool with ``url="url"``; else None.

    Raises:
        PolicyError: The policy refused the call, or it timed out; or this thread runs a loop.
    """

    async def main() -> tuple[Any, Held | None]:
        try:
            exchange = await rules.exchanges.send(sending, name=name, url=url)
        except BaseException:
            _discard(sending.last)
            raise
        if exchange.response is not sending.last:
            _discard(sending.last)
        # What is held must not keep an answer that is forgotten.
        response, exchange.response, sending.last = exchange.response, None, None
        if not exchange.is_held:
            return response, None
        return response, Held(exchange, sending.call, asyncio.get_running_loop())

    return run_sync(main, running_home(rules.policy.stages))


def _discard(response: Any) -> None:
    if response is not None:
        close_quietly(response)
