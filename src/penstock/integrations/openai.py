"""What ``policy.wrap_client`` knows of the clients of ``openai``."""

from __future__ import annotations

from penstock.integrations import missing
from penstock.integrations.clients.generated import GeneratedClient

try:
    from openai import AsyncOpenAI
    from openai._base_client import AsyncAPIClient, SyncAPIClient
except ImportError as error:
    raise missing("openai", "openai") from error

__all__ = ["CLIENT"]

CLIENT = GeneratedClient(SyncAPIClient, AsyncAPIClient, AsyncOpenAI)
