"""The answers of aiohttp: which are bad, and how one is held until it was read or closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from aiohttp import ClientConnectionError, ClientResponse

from penstock.call import Call
from penstock.classify import classify_result
from penstock.edges import result_classifier
from penstock.errors import PolicyError
from penstock.integrations.exchange import Exchange
from penstock.integrations.http.rules import Classify
from penstock.verdict import OK, Verdict, VerdictKind

__all__ = ["hold", "judge_of", "release"]

_SWITCHING_PROTOCOLS = 101

# What a target says of the caller's key says nothing of the proxy; and the other way round.
_NOT_OF_PROXIES = frozenset({401, 402})
_NOT_OF_KEYS = frozenset({407})


def judge_of(classify: Classify, *, of_proxies: bool) -> Callable[[ClientResponse], Verdict]:
    """Return what says what an answer means for the resource in use.

    Raises:
        ConfigError: ``classify`` is not allowed.
    """
    ask = result_classifier(classify)
    is_preset = isinstance(classify, str)
    not_ours = _NOT_OF_PROXIES if of_proxies else _NOT_OF_KEYS

    def judge(response: ClientResponse) -> Verdict:
        told = None if is_preset and response.status in not_ours else ask(response)
        if told is None and response.status in not_ours:
            return Verdict(VerdictKind.CALLER_BUG, reason=str(response.status))
        return told or classify_result(response) or OK

    return judge


def release(response: ClientResponse | None) -> None:
    """Give back the connection of an answer that nobody is going to read, if there is one."""
    if response is not None:
        response.release()


def hold(exchange: Exchange[ClientResponse], call: Call) -> None:
    """Give back what is held for an answer as soon as its connection is given back.

    A WebSocket is open with its answer, which is all that the policy's time limits are for.
    """
    response = exchange.response
    connection = response.connection
    if connection is None or response.status == _SWITCHING_PROTOCOLS:
        exchange.close_now()
    else:
        connection.add_callback(_Hold(exchange, call).release)


class _Hold:
    """What is held for an answer, until aiohttp has no more use for its connection.

    aiohttp has many ways to read a body, all of which wait inside of the timer of the stream: this
    stands in for it, to see how reading ends, and to give the policy's time limit its own error.
    """

    def __init__(self, exchange: Exchange[ClientResponse], call: Call) -> None:
        response: Any = exchange.response
        self._exchange = exchange
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._content: Any = response.content
        # All empty bodies are one object, which has none and is never waited for.
        self._timer: Any = getattr(self._content, "_timer", None)
        self._put_timer(self)
        self._time_is_over: BaseException | None = None
        response.wait_for_close = self._wait_for_close

    def __getattr__(self, name: str) -> Any:
        # What else a version of aiohttp may ask its timer.
        return getattr(self._timer, name)

    def __enter__(self) -> None:
        self._check()
        self._timer.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            handled: bool | None = self._timer.__exit__(exc_type, exc, traceback)
        except BaseException as error:
            self._end(error)
            raise
        if exc is not None:
            self._end(exc)
        return handled

    def assert_timeout(self) -> None:
        """Stand in for what is asked before a part of the body is handed to the reader.

        Raises:
            TimeoutError: The session's time is over.
            PolicyError: The policy's is.
        """
        self._check()
        self._timer.assert_timeout()

    def release(self) -> None:
        """Give everything back: the body was read, released, closed or collected."""
        try:
            is_home = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_home = False
        if is_home or self._loop.is_closed():
            self._release()
        else:
            # Collected, in whatever thread the collector runs.
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        if not self._exchange.is_held:
            return
        failure = self._content.exception()
        # This is what a body has that was closed before it was read to its end.
        if type(failure) is ClientConnectionError:
            failure = None
        is_over = self._call.expiring
        raised = self._settle(asyncio.CancelledError() if is_over else failure)
        if is_over:
            # The cancel has reached whoever uses the answer, between two reads.
            self._time_is_over = raised
        else:
            self._let_go()

    def _check(self) -> None:
        if self._call.expiring:
            # The cancel has gone to another task: the one that has sent the request.
            self._end(asyncio.CancelledError())

    def _end(self, failure: BaseException) -> None:
        """Tell the stages how reading has ended.

        Raises:
            PolicyError: What they make of it.
        """
        raised = self._settle(None if isinstance(failure, GeneratorExit) else failure)
        self._let_go()
        try:
            if isinstance(raised, PolicyError) and raised is not failure:
                raise raised
        finally:
            # Its traceback holds this frame: together they would be a cycle.
            del failure, raised

    def _settle(self, failure: BaseException | None) -> BaseException | None:
        self._put_timer(self._timer)
        return self._exchange.close_now(failure)

    def _put_timer(self, timer: Any) -> None:
        if self._timer is not None:
            self._content._timer = timer  # noqa: SLF001 - there is no other way into its reads

    def _let_go(self) -> None:
        # Together with the answer this would be a cycle.
        vars(self._exchange.response).pop("wait_for_close", None)

    async def _wait_for_close(self) -> None:
        """Stand in for the answer's method, which ends an ``async with`` block.

        Raises:
            PolicyError: The policy's time for the whole call is over, which is why it ends.
        """
        response = self._exchange.response
        self._let_go()
        over, self._time_is_over = self._time_is_over, None
        await response.wait_for_close()
        try:
            if isinstance(over, PolicyError):
                raise over
        finally:
            del over
