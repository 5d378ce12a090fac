"""Transports for httpx2: a policy below redirects, auth flows and cookies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from penstock.integrations import missing
from penstock.integrations.http.asynchronous import AsyncTransport, HeldBody
from penstock.integrations.http.held import HeldSyncBody
from penstock.integrations.http.inners import Inners
from penstock.integrations.http.rules import Classify, Replay, Rules
from penstock.integrations.http.synchronous import SyncTransport
from penstock.integrations.keys import KeyHeader
from penstock.policy import Policy
from penstock.pools.resource import Resource

try:
    import httpx2
except ImportError as error:  # pragma: no cover - run in a process of its own
    raise missing("httpx2", "httpx2") from error

__all__ = ["PolicyTransport", "SyncPolicyTransport"]


class _Body(HeldBody, httpx2.AsyncByteStream):
    """What a client reads."""


class _SyncBody(HeldSyncBody, httpx2.SyncByteStream):
    """What a client without a loop reads."""


class PolicyTransport(httpx2.AsyncBaseTransport):
    """Sends every request of an ``httpx2.AsyncClient`` through a policy.

    It works below the client's redirects, auth flows and cookies, so each hop is a call of its own.
    A bad status counts as a failed attempt; when no attempt follows, the answer is returned as it
    is. Permit and lease are held until the answer was read or closed, in the task that sent it.

    Args:
        policy: Its stages are shared with everybody else who uses it.
        inner: What really sends: a transport, or a function that makes one for a resource, for
            example one per proxy; such a one is made once for each and closed with this transport.
            None makes an ``httpx2.AsyncHTTPTransport()``.
        header: Where the value of the attempt's resource is put, for a policy that rotates over
            keys; None puts it nowhere.
        form: The header's value, with ``{}`` where the key stands, for example ``"Bearer {}"``.
        origins: Where the policy is for, each as ``"scheme://host"`` or ``"scheme://host:port"``;
            other requests, such as those that a redirect leads to, go through ``inner`` alone.
            None takes the ``origins`` of the resources.
        replay: ``"safe"`` sends POST, PATCH and others that are not idempotent again only where the
            server has not acted on them, or where they have an ``Idempotency-Key``; ``"always"``
            sends them again after any failure.
        classify: What an answer means: the name of a preset, or a function of the answer.

    Raises:
        ConfigError: A value is not allowed, or keys are put in and nobody says where they may go.
    """

    def __init__(  # noqa: PLR0913 - keyword-only options, each of which may be left out
        self,
        policy: Policy,
        inner: httpx2.AsyncBaseTransport
        | Callable[[Resource[Any] | None], httpx2.AsyncBaseTransport]
        | None = None,
        *,
        header: str | None = None,
        form: str = "{}",
        origins: Iterable[str] | None = None,
        replay: Replay = "safe",
        classify: Classify = "http",
    ) -> None:
        keys = KeyHeader(policy, header, form, origins)
        rules = Rules(policy, keys, replay=replay, classify=classify, close=httpx2.Response.aclose)
        sends = httpx2.AsyncHTTPTransport() if inner is None else inner
        inners = Inners(sends, "handle_async_request")
        self._transport = AsyncTransport(rules, inners, _Body)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request through the policy.

        Raises:
            PolicyError: The policy refused the call, or it timed out.
        """
        response: httpx2.Response = await self._transport.send(request)
        return response

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        await self._transport.enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.leave(exc_type, exc_value, traceback)


class SyncPolicyTransport(httpx2.BaseTransport):
    """Sends every request of an ``httpx2.Client`` through a policy, from threads without a loop.

    The policy runs on the loop of ``policy.run_sync``, and what really sends in a worker thread,
    which cannot be cancelled: where a time limit ends the call, the thread goes on until the
    client's own time-outs end it, and counts against a concurrency limit and its resource for that
    long. The time that is left is handed down to it.

    Args:
        policy: As for ``PolicyTransport``, and so are the others.
        inner: A transport, or a function that makes one for a resource; None makes an
            ``httpx2.HTTPTransport()``.
        header: Where the value of the attempt's resource is put.
        form: The header's value, with ``{}`` where the key stands.
        origins: Where the policy is for.
        replay: ``"safe"`` or ``"always"``.
        classify: What an answer means.

    Raises:
        ConfigError: A value is not allowed, or keys are put in and nobody says where they may go.
    """

    def __init__(  # noqa: PLR0913 - keyword-only options, each of which may be left out
        self,
        policy: Policy,
        inner: httpx2.BaseTransport
        | Callable[[Resource[Any] | None], httpx2.BaseTransport]
        | None = None,
        *,
        header: str | None = None,
        form: str = "{}",
        origins: Iterable[str] | None = None,
        replay: Replay = "safe",
        classify: Classify = "http",
    ) -> None:
        keys = KeyHeader(policy, header, form, origins)
        rules = Rules(policy, keys, replay=replay, classify=classify, close=httpx2.Response.close)
        sends = httpx2.HTTPTransport() if inner is None else inner
        inners = Inners(sends, "handle_request")
        self._transport = SyncTransport(rules, inners, _SyncBody)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request through the policy.

        Raises:
            PolicyError: The policy refused the call, or it timed out; or this thread runs a loop.
        """
        response: httpx2.Response = self._transport.send(request)
        return response

    def close(self) -> None:
        """Close the transport inside."""
        self._transport.close()

    def __enter__(self) -> Self:
        self._transport.enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.leave(exc_type, exc_value, traceback)
