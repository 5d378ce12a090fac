"""The transports that requests really go through: one for all, or one for each resource."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from penstock.call import Call
from penstock.errors import ConfigError

__all__ = ["Inners", "blame_proxy"]

# What httpx and requests have of what a proxy says is a text: the status line, behind more words.
_PASSWORD_WANTED = re.compile(r"^407\b|Tunnel connection failed: 407\b|^Invalid username/password")
_NOT_REACHED = re.compile(r"connect to proxy(?!.*Tunnel connection failed)")

_UNREACHABLE = frozenset({"ConnectError", "ConnectTimeout"})


class Inners:
    """What the user gave as ``inner``, made into transports.

    Args:
        given: A transport, or a function that makes one for a resource.
        sends: The name of the method with which a transport sends.

    Raises:
        ConfigError: It is neither.
    """

    __slots__ = ("_by_resource", "_make", "one")

    def __init__(self, given: Any, sends: str) -> None:
        self.one = given if hasattr(given, sends) else None
        self._make = given
        # By identity: a resource is hashed as the object that it is.
        self._by_resource: dict[Any, Any] = {}
        if self.one is None and not callable(given):
            raise ConfigError(
                "transport: 'inner' must be a transport, or a function that makes one for a "
                f"resource; got {type(given).__name__}"
            )

    def of(self, resource: Any) -> Any:
        """Return the transport of a resource, made when it is first needed; None has its own."""
        if self.one is not None:
            return self.one
        inner = self._by_resource.get(resource)
        if inner is None:
            inner = self._by_resource[resource] = self._make(resource)
        return inner

    def drain(self) -> Iterator[Any]:
        """Take out all transports that were made for a resource, for closing."""
        while self._by_resource:
            yield self._by_resource.popitem()[1]


def blame_proxy(call: Call, failure: BaseException) -> None:
    """Tell the pool when it was the resource itself that could not be reached.

    Only where each resource has a transport of its own: there a connection that cannot be made is
    the proxy's, or the address's, and the next attempt goes through another one. A proxy that could
    not reach the server further on is not to blame.
    """
    kind, lease = type(failure).__name__, call.lease
    if lease is None:
        return
    if kind == "ProxyError" and _PASSWORD_WANTED.search(str(failure)):
        lease.disable("407")
    elif kind in _UNREACHABLE or (kind == "ProxyError" and _NOT_REACHED.search(str(failure))):
        lease.cooldown(reason=kind)
