"""httpx and httpx2 side by side: what is tested with one is tested with both."""

from __future__ import annotations

import ssl
from typing import Any, NamedTuple

import httpx
import httpx2

import penstock.integrations.httpx as of_httpx
import penstock.integrations.httpx2 as of_httpx2

__all__ = ["KITS", "Kit"]

# Each transport reads all certificates anew, which takes longer than most of the tests.
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Kit(NamedTuple):
    """One of the two, with its transports.

    Attributes:
        name: Its name in the table of integrations.
        lib: Its module.
        ours: The module of our transports for it.
    """

    name: str
    lib: Any
    ours: Any

    def inner(self, **options: Any) -> Any:
        """Return a transport of its own; ``connections`` is the most of them."""
        if most := options.pop("connections", None):
            options["limits"] = self.lib.Limits(max_connections=most)
        return self.lib.AsyncHTTPTransport(verify=_TLS, **options)

    def client(self, policy: Any, inner: Any = None, **options: Any) -> Any:
        """Return a client whose requests go through a policy; ``client_`` options are its own."""
        own = {k.removeprefix("client_"): options.pop(k) for k in [*options] if "client_" in k}
        transport = self.ours.PolicyTransport(policy, inner or self.inner(), **options)
        return self.lib.AsyncClient(transport=transport, **own)

    def sync_client(self, policy: Any, inner: Any = None, **options: Any) -> Any:
        """Return such a client for code without a loop."""
        own = {k.removeprefix("client_"): options.pop(k) for k in [*options] if "client_" in k}
        inner = inner or self.lib.HTTPTransport(verify=_TLS)
        transport = self.ours.SyncPolicyTransport(policy, inner, **options)
        return self.lib.Client(transport=transport, **own)


KITS = (Kit("httpx", httpx, of_httpx), Kit("httpx2", httpx2, of_httpx2))
