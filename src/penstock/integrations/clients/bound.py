"""The clients that are bound to a policy's resources, one for each while it is in use."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from penstock.errors import PolicyError
from penstock.integrations.clients.known import KnownClient
from penstock.pools.resource import Resource

__all__ = ["Bind", "Bound", "drop", "url_of"]

Bind = Callable[[Any, Resource[Any]], Any]

# More than any pool of keys has in use at once; beyond it the oldest is bound anew when it is used.
_MOST = 1024


class Bound:
    """The clients made from one client, by resource; those of resources that are gone go too.

    Args:
        client: What they are made from.
        bind: Makes one.
        known: What is known of the SDK; None for one that nothing is known of.
        is_ours: False where ``bind`` is the user's, who closes what it made.
    """

    __slots__ = ("_bind", "_client", "_clients", "_is_ours", "_known")

    def __init__(
        self, client: Any, bind: Bind, known: KnownClient | None, *, is_ours: bool
    ) -> None:
        self._client = client
        self._is_ours = is_ours
        self._bind = bind
        self._known = known
        self._clients: WeakKeyDictionary[Resource[Any], Any] = WeakKeyDictionary()

    def to(self, resource: Resource[Any]) -> Any:
        """Return the client for a resource.

        Raises:
            PolicyError: It would send the resource's value to a server that is none of its origins,
                or what was made for it is no client.
        """
        client = self._clients.get(resource)
        if client is None:
            client = self._made(resource)
            if len(self._clients) >= _MOST:
                self._clients.pop(next(iter(self._clients)), None)
            self._clients[resource] = client
        return client

    def forget(self) -> None:
        """Make them anew from now on."""
        self._clients.clear()

    async def release(self) -> None:
        """Close what they do not share with the client they were made from."""
        clients = [*self._clients.values()]
        self.forget()
        if self._known is not None and self._is_ours:
            for client in clients:
                await self._known.release(client)

    def _made(self, resource: Resource[Any]) -> Any:
        # Before the value is handed to anybody, and again for what came of it.
        self._refuse_elsewhere(self._client, resource)
        client = self._bind(self._client, resource)
        # Not whatever can be awaited: a client of redis-py can be, which connects it.
        if client is None or inspect.iscoroutine(client) or asyncio.isfuture(client):
            drop(client)
            raise PolicyError(f"bind must return a client; got {type(client).__name__}")
        self._refuse_elsewhere(client, resource)
        return client

    def _refuse_elsewhere(self, client: Any, resource: Resource[Any]) -> None:
        url = url_of(client, self._known)
        if url is not None:
            resource.value_for(url)


def url_of(client: Any, known: KnownClient | None) -> object | None:
    """Return the URL that a client sends its key to; None where it does not say."""
    return getattr(client, "base_url", None) if known is None else known.url(client)


def drop(answer: object) -> None:
    """End an awaitable that nobody is going to await."""
    if inspect.iscoroutine(answer):
        answer.close()
    elif asyncio.isfuture(answer):
        answer.cancel()
