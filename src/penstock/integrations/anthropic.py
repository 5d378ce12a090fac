"""What ``policy.wrap_client`` knows of the clients of ``anthropic``."""

from __future__ import annotations

from typing import Any

from penstock.integrations import missing
from penstock.integrations.clients.generated import GeneratedClient

try:
    from anthropic import AsyncAnthropic
    from anthropic._base_client import AsyncAPIClient, SyncAPIClient
except ImportError as error:
    raise missing("anthropic", "anthropic") from error

__all__ = ["CLIENT"]


class _AnthropicClient(GeneratedClient):
    __slots__ = ()

    def bind(self, client: Any, value: str) -> Any:
        """Copy the client; a new key alone would bring the host of its profile along."""
        return client.with_options(api_key=value, base_url=client.base_url)


CLIENT = _AnthropicClient(SyncAPIClient, AsyncAPIClient, AsyncAnthropic)
