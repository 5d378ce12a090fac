"""The messages of an RPC that streams its responses, held until there are no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any, Self
from weakref import ref

from penstock.driving import END
from penstock.errors import PolicyError
from penstock.integrations.exchange import Exchange
from penstock.integrations.grpc.sending import Opened, Rpc
from penstock.streaming.items import next_of

__all__ = ["Messages"]

# A loop keeps a weak reference to its tasks only.
_settling: set[asyncio.Task[None]] = set()


class Messages:
    """Stands in for the call object of an RPC; gives back what is held when that ends.

    It ends when the server says so, with an error, when it is cancelled, and when nobody has it any
    more. For the last of these it keeps what wants to know of its end by itself: gRPC would keep
    it, and by that the reader, for as long as the RPC goes on.

    Args:
        rpc: What made the attempts.
        exchange: What is held.
    """

    def __init__(self, rpc: Rpc, exchange: Exchange[Opened]) -> None:
        opened = exchange.response
        self._rpc = rpc
        self._exchange = exchange
        self._call: Any = opened.rpc
        self._messages: Any = opened.messages
        self._first = opened.first
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Any], object]] = []
        self._loop = asyncio.get_running_loop()
        me = ref(self)

        def ended(_: object) -> None:
            if (messages := me()) is not None:
                messages.has_ended()

        self._call.add_done_callback(ended)

    def __getattr__(self, name: str) -> Any:
        # Status and metadata are gRPC's own.
        return getattr(self._call, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Return the next message.

        Raises:
            PolicyError: The policy's time for the whole call is over.
            grpc.aio.AioRpcError: The RPC has failed.
        """
        if self._is_late():
            self._call.cancel()
            await self._fail(asyncio.CancelledError())
        message, self._first = self._first, END
        if message is not END:
            return message
        try:
            message = await next_of(self._messages)
        except BaseException as error:
            self._call.cancel()
            await self._fail(error)
            raise
        if message is END:
            await self._exchange.close()
            raise StopAsyncIteration
        return message

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call ``callback`` with this object when the RPC has ended; it has not, or gRPC knows."""
        self._callbacks.append(callback)

    def has_ended(self) -> None:
        """Give back what is held for an RPC that nobody may be reading.

        Not at once: a reader that is just being told how it ended knows better.
        """
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)
        task = self._loop.create_task(self._settle())
        _settling.add(task)
        task.add_done_callback(_settling.discard)

    async def _settle(self) -> None:
        grpc, aio = import_module("grpc"), import_module("grpc.aio")
        code = await self._call.code()
        if code is grpc.StatusCode.OK or self._call.cancelled():
            await self._exchange.close()
            return
        said = await self._call.initial_metadata(), await self._call.trailing_metadata()
        try:
            await self._fail(aio.AioRpcError(code, *said))
        except Exception as error:  # noqa: BLE001 - for the reader, when there is one
            self._error = error

    async def _fail(self, error: BaseException) -> None:
        """Tell the stages.

        Raises:
            PolicyError: What they make of it.
        """
        if self._error is not None:
            raise self._error
        if self._is_late() and not isinstance(error, asyncio.CancelledError):
            # gRPC's own deadline, which is the policy's.
            error = asyncio.CancelledError()
        try:
            await self._exchange.fail(error)
        except PolicyError as over:
            if (ended := self._rpc.own_error(over)) is not None:
                raise ended from over
            raise
        finally:
            del error

    def _is_late(self) -> bool:
        call = self._rpc.call
        return call is not None and call.expiring

    def __del__(self) -> None:
        exchange = getattr(self, "_exchange", None)
        if exchange is None or not exchange.is_held:
            return
        try:
            # In whatever thread the collector runs.
            self._loop.call_soon_threadsafe(_abandon, exchange, self._call)
        except RuntimeError:
            exchange.close_now()


def _abandon(exchange: Exchange[Opened], rpc: Any) -> None:
    exchange.close_now()
    rpc.cancel()
