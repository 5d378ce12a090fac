"""What is held for an answer that threads without a loop read, and the transport of httpx there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any

from penstock.call import Call
from penstock.errors import PolicyError
from penstock.integrations.exchange import Exchange
from penstock.integrations.http_inners import Inners
from penstock.integrations.http_requests import adopt_body, name_of
from penstock.integrations.http_rules import Rules
from penstock.integrations.http_sending import ClientSending
from penstock.integrations.http_threads import in_thread
from penstock.sync import run_sync, running_home

__all__ = ["Held", "HeldSyncBody", "SyncTransport", "close_quietly", "send_sync"]

_log = logging.getLogger("penstock")


class Held:
    """What the policy holds for an answer, given back from any thread."""

    __slots__ = ("_call", "_exchange", "_loop")

    def __init__(
        self, exchange: Exchange[Any], call: Call, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._exchange = exchange
        self._call = call
        self._loop = loop

    def check(self) -> None:
        """Raise what a time limit of the policy's would, where its time is over.

        Raises:
            PolicyError: It is.
        """
        if self._call.expiring and self._loop.is_running():
            run_sync(partial(self._exchange.fail, asyncio.CancelledError()), self._loop)

    def close(self) -> None:
        """Give it back: the answer was read, or is wanted no more.

        Nothing is waited for, so a finalizer may do this in any thread, whatever lock that holds.
        What the thread sends next comes after it.
        """
        self._post(self._exchange.close_now)

    def fail(self, error: BaseException) -> None:
        """Give it back, and tell the stages that reading the answer has failed."""
        self._post(partial(self._exchange.close_now, error))

    def _post(self, leave: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(leave)
        except RuntimeError:
            # The loop is closed; the policy lives on.
            leave()


class HeldSyncBody:
    """The body of an answer, with which what the policy holds for it is given back."""

    def __init__(self, body: Any, held: Held) -> None:
        self._body = body
        self._held = held
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Read the body.

        Raises:
            PolicyError: The policy's time for the whole call is over.
        """
        try:
            for chunk in self._body:
                self._held.check()
                yield chunk
        except GeneratorExit:
            # Left early; whoever did so closes the answer.
            raise
        except BaseException as error:
            self._held.check()
            self._held.fail(error)
            raise
        self.close()

    def close(self) -> None:
        """Close the body and give back what is held."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._body.close()
        except BaseException as error:
            self._held.fail(error)
            raise
        self._held.close()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            self._held.close()
            close_quietly(self._body)


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


def close_quietly(what: Any) -> None:
    """Close an answer, a body or a transport; what that raises is logged."""
    try:
        what.close()
    except Exception as error:  # noqa: BLE001 - it must not hide what has happened, nor end others
        _log.warning("closing %s raised %s", type(what).__name__, type(error).__name__)


def _discard(response: Any) -> None:
    if response is not None:
        close_quietly(response)
