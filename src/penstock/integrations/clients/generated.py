"""What the SDKs that Stainless generates have in common: openai and anthropic."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.hints import peek
from penstock.integrations.clients.known import KnownClient, OwnRetries

__all__ = ["GeneratedClient"]

# The raw responses that a method of the SDK parses before it returns.
_PARSED = ("AsyncAPIResponse", "LegacyAPIResponse")


class GeneratedClient(KnownClient):
    """A row for one of them.

    Args:
        blocking: What the SDK's clients that block derive from.
        waiting: What its clients for asyncio derive from.
        keyed: Those of them that have an API key.
    """

    __slots__ = ("_blocking", "_keyed", "_waiting")

    detours = frozenset(("with_raw_response",))

    def __init__(self, blocking: type[Any], waiting: type[Any], keyed: type[Any]) -> None:
        self._blocking = blocking
        self._waiting = waiting
        self._keyed = keyed

    def owns(self, client: Any) -> bool:
        """Answer by the class, which those for other clouds derive from."""
        return isinstance(client, self._blocking | self._waiting)

    def instead_of_sync(self, client: Any) -> str | None:
        """Name the class for asyncio: it has the same arguments."""
        return f"{_waiting_name(client)}(...)" if isinstance(client, self._blocking) else None

    def own_retries(self, client: Any) -> OwnRetries | None:
        """Read ``max_retries``, which is 2 unless it is set."""
        return OwnRetries(client.max_retries + 1, f"{_waiting_name(client)}(max_retries=0)")

    def url(self, client: Any) -> object | None:
        """Return the base URL; a redirect to another host takes no ``Authorization`` along."""
        url: object = client.base_url
        return url

    def binds(self, client: Any) -> bool:
        """Those for some clouds sign their requests instead."""
        return isinstance(client, self._keyed)

    def bind(self, client: Any, value: str) -> Any:
        """Copy the client, which shares its connections."""
        return client.with_options(api_key=value)

    def telling(
        self, owner: Any, name: str, tell: Callable[[object], None]
    ) -> Callable[..., Awaitable[Any]]:
        """Ask for the raw response, and parse it as the SDK would have done."""
        raw = getattr(getattr(owner, "with_raw_response", None), name, None)
        if raw is None:
            return _as_it_is(getattr(owner, name), tell)

        async def run(*args: Any, **kwargs: Any) -> Any:
            response = await raw(*args, **kwargs)
            tell(response.headers)
            if type(response).__name__ not in _PARSED:
                # Of files, which the method itself returns so.
                return response
            parsed = response.parse()
            return await parsed if inspect.isawaitable(parsed) else parsed

        return run


def _waiting_name(client: Any) -> str:
    name = client.__class__.__name__
    return name if name.startswith("Async") else f"Async{name}"


def _as_it_is(method: Any, tell: Callable[[object], None]) -> Callable[..., Awaitable[Any]]:
    # Of a raw response, which the caller has asked for.
    async def run(*args: Any, **kwargs: Any) -> Any:
        answer = await method(*args, **kwargs)
        headers = peek(answer, "headers")
        if headers is not None:
            tell(headers)
        return answer

    return run
