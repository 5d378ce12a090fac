"""gRPC's asyncio channels under a policy: ``insecure_channel(..., interceptors=...)``.

grpcio has no type hints, so what is its own is ``Any`` here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from typing import Any

from penstock.errors import ConfigError, PolicyError
from penstock.integrations import missing
from penstock.integrations.exchange import Exchange, Exchanges
from penstock.integrations.grpc.sending import Opened, Rpc, cancel, metadata_of
from penstock.integrations.grpc.stream import Messages
from penstock.integrations.keys import KeyHeader
from penstock.policy import Policy
from penstock.pools.origins import ALLOWED_ORIGIN, read_origin
from penstock.streaming.items import items_of

try:
    _aio: Any = import_module("grpc.aio")
except ImportError as error:
    raise missing("grpcio", "grpc") from error

__all__ = ["PolicyUnaryStreamInterceptor", "PolicyUnaryUnaryInterceptor", "interceptors"]

Continuation = Callable[[Any, Any], Awaitable[Any]]


def interceptors(
    policy: Policy,
    *,
    target: str | None = None,
    header: str | None = None,
    form: str = "{}",
    origins: Iterable[str] | None = None,
) -> list[Any]:
    """Return the interceptors of a channel whose calls go through a policy.

    Calls that stream their requests are not intercepted: what was sent of them cannot be sent
    again.

    Args:
        policy: Its stages are shared with everybody else who uses it.
        target: Where the channel goes: ``"https://host:port"``, or ``"http://host:port"`` for an
            insecure channel. A channel does not tell. Needed with ``header``.
        header: The metadata entry that the key of a resource is put into; None for none.
        form: The entry's value, with ``{}`` where the key stands, for example ``"Bearer {}"``.
        origins: Where keys may be sent, in the form of ``target``; None takes those of the
            resources.

    Raises:
        ConfigError: Nobody says where keys may be sent, the channel goes elsewhere, or an option is
            not allowed.
    """
    options: dict[str, Any] = {"target": target, "header": header, "form": form, "origins": origins}
    return [
        PolicyUnaryUnaryInterceptor(policy, **options),
        PolicyUnaryStreamInterceptor(policy, **options),
    ]


class _PolicyInterceptor:
    """What the interceptors have in common; the arguments are those of ``interceptors``."""

    def __init__(
        self,
        policy: Policy,
        *,
        target: str | None = None,
        header: str | None = None,
        form: str = "{}",
        origins: Iterable[str] | None = None,
    ) -> None:
        self._header = None if header is None else header.lower()
        self._keys = KeyHeader(policy, self._header, form, origins)
        self._target = _checked(target, self._keys, puts=header is not None)
        self._policy = policy
        self._exchanges = _exchanges(policy)

    async def _send(
        self, attempt: Callable[[Rpc], Any], details: Any, request: Any, continuation: Continuation
    ) -> tuple[Rpc, Exchange[Opened]]:
        """Run the attempts of one RPC; the caller's own ``timeout`` is for all of them."""
        policy, exchanges, own = self._policy, self._exchanges, details.timeout
        if own is not None:
            policy = policy.using(timeout=own)
            exchanges = _exchanges(policy)
        rpc = Rpc(policy, details, request, continuation, self._put)
        try:
            exchange = await exchanges.send(attempt(rpc), name=rpc.name, url=self._target)
        except PolicyError as error:
            if (ended := rpc.own_error(error)) is not None:
                raise ended from error
            raise
        finally:
            rpc.forget()
        return rpc, exchange

    def _put(self, metadata: Any, resource: Any) -> Any:
        if self._header is None or resource is None:
            return metadata
        carried: dict[str, str] = {}
        self._keys.put(carried, resource, self._target)
        kept = [pair for pair in metadata or () if pair[0].lower() != self._header]
        return _aio.Metadata(*kept, *carried.items())


class PolicyUnaryUnaryInterceptor(_PolicyInterceptor):
    """Sends RPCs with one request and one response through a policy."""

    async def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Make the RPC as often as the policy asks for, and return the last one.

        Raises:
            PolicyError: The policy refused the call, or it timed out.
            grpc.aio.AioRpcError: What the last attempt raised.
        """
        if _is_over(client_call_details):
            return await continuation(client_call_details, request)
        _, exchange = await self._send(_one_response, client_call_details, request, continuation)
        await exchange.close()
        answer: Any = exchange.response
        return answer.rpc if isinstance(answer, Opened) else answer


class PolicyUnaryStreamInterceptor(_PolicyInterceptor):
    """Sends RPCs with one request and a stream of responses through a policy.

    Until its first message is there the RPC may be made again. After that it is committed, and its
    permit, its lease and its limits are held until it ends, is cancelled or is collected.
    """

    async def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        """Make the RPC as often as the policy asks for, and return the messages of the last one.

        Raises:
            PolicyError: The policy refused the call, or it timed out.
            grpc.aio.AioRpcError: What the last attempt raised.
        """
        if _is_over(client_call_details):
            return await continuation(client_call_details, request)
        # In a task of its own: the stages keep the task of a call, a task keeps what it returns,
        # and a reader whom the stages keep is never collected.
        sending = asyncio.ensure_future(
            self._send(_first_response, client_call_details, request, continuation)
        )
        try:
            rpc, exchange = await sending
        except asyncio.CancelledError:
            _abandon(sending)
            raise
        answer: Any = exchange.response
        return Messages(rpc, exchange) if isinstance(answer, Opened) else items_of(answer)


# What is an interceptor or a call, gRPC asks with ``isinstance``.
_aio.UnaryUnaryClientInterceptor.register(PolicyUnaryUnaryInterceptor)
_aio.UnaryStreamClientInterceptor.register(PolicyUnaryStreamInterceptor)
_aio.UnaryStreamCall.register(Messages)


def _is_over(details: Any) -> bool:
    # Of a timeout of 0 gRPC itself says what it does.
    return details.timeout is not None and details.timeout <= 0


def _abandon(sending: asyncio.Task[tuple[Rpc, Exchange[Opened]]]) -> None:
    # The cancel has come too late to end it.
    if sending.done() and not sending.cancelled() and sending.exception() is None:
        exchange = sending.result()[1]
        exchange.close_now()
        cancel(exchange.response)


def _one_response(rpc: Rpc) -> Any:
    return rpc.one_response


def _first_response(rpc: Rpc) -> Any:
    return rpc.first_response


def _exchanges(policy: Policy) -> Exchanges[Opened]:
    return Exchanges(policy, judge=lambda _: None, close=cancel, headers=metadata_of)


def _checked(target: str | None, keys: KeyHeader, *, puts: bool) -> str | None:
    if target is None:
        if puts:
            raise ConfigError("grpc: a 'header' needs the channel's 'target': 'https://host:port'")
        return None
    try:
        origin = read_origin(target)
    except ValueError:
        raise ConfigError(f"grpc: 'target' must be {ALLOWED_ORIGIN}; got {target!r}") from None
    if not keys.covers(origin):
        raise ConfigError(f"grpc: no key may be sent to the channel's target {origin}")
    return origin
