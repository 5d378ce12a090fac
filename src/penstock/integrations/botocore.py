"""What ``policy.wrap_client`` knows of the clients of aiobotocore."""

# Neither aiobotocore nor botocore has types.
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from typing import Any

from penstock.integrations import missing
from penstock.integrations.clients.known import KnownClient, OwnRetries

try:
    from aiobotocore.client import AioBaseClient  # type: ignore[import-untyped]
    from botocore.client import BaseClient  # type: ignore[import-untyped]
except ImportError as error:
    raise missing("aiobotocore", "botocore") from error

__all__ = ["CLIENT"]

# Requests of one call where nothing else is set; botocore/retries/standard.py and the data file
# ``_retry.json`` of its legacy mode, which gives DynamoDB more.
_BY_MODE = {"legacy": 5, "standard": 3, "adaptive": 3}
_LEGACY_DYNAMODB = 10


class _Botocore(KnownClient):
    """The row: a client is made by a coroutine, so a pool has clients as its resources."""

    __slots__ = ()

    def owns(self, client: Any) -> bool:
        """Answer by the class that the client of every service derives from."""
        return isinstance(client, BaseClient)

    def instead_of_sync(self, client: Any) -> str | None:
        """Name what makes the client of the same service in aiobotocore."""
        if isinstance(client, AioBaseClient):
            return None
        service = client.meta.service_model.service_name
        return f"what aiobotocore.session.get_session().create_client({service!r}) opens"

    def own_retries(self, client: Any) -> OwnRetries:
        """Read the client's configuration, which arguments, variables and files have led to."""
        retries: dict[str, Any] = client.meta.config.retries or {}
        requests: int | None = retries.get("total_max_attempts")
        if requests is None:
            mode: str = retries.get("mode", "legacy")
            is_dynamodb: bool = client.meta.service_model.service_name == "dynamodb"
            has_more = is_dynamodb and mode == "legacy"
            requests = _LEGACY_DYNAMODB if has_more else _BY_MODE.get(mode, 1)
        return OwnRetries(requests, 'config=AioConfig(retries={"total_max_attempts": 1})')

    def url(self, client: Any) -> object | None:
        """Return the endpoint."""
        endpoint: str = client.meta.endpoint_url
        return endpoint


CLIENT = _Botocore()
