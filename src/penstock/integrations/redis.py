"""What ``policy.wrap_client`` knows of the clients of redis-py."""

from __future__ import annotations

import math
from typing import Any

from penstock.integrations import missing
from penstock.integrations.clients.known import KnownClient, OwnRetries

try:
    import redis
    from redis import asyncio as redis_asyncio
    from redis.asyncio.client import Pipeline
    from redis.asyncio.cluster import ClusterPipeline
except ImportError as error:
    raise missing("redis", "redis") from error

__all__ = ["CLIENT"]

_WAITING = (redis_asyncio.Redis, redis_asyncio.RedisCluster)
_BLOCKING = (redis.Redis, redis.RedisCluster)


class _Redis(KnownClient):
    """The row: nothing binds a client to a text, so a pool has clients as its resources."""

    __slots__ = ()

    def owns(self, client: Any) -> bool:
        """Answer by the class.

        Raises:
            TypeError: It is a pipeline, which derives from it and can run its commands only once.
        """
        if isinstance(client, Pipeline | ClusterPipeline):
            msg = (
                "a pipeline forgets its commands when it sends them, so a second attempt would "
                "send nothing; fill one in a function: policy.call(function)"
            )
            raise TypeError(msg)
        return isinstance(client, (*_WAITING, *_BLOCKING))

    def instead_of_sync(self, client: Any) -> str | None:
        """Name the class of the same name in ``redis.asyncio``."""
        return _written(client, "...") if isinstance(client, _BLOCKING) else None

    def own_retries(self, client: Any) -> OwnRetries | None:
        """Read the ``Retry``: a cluster has it, a client has told it to its connections."""
        off = _written(client, "..., retry=Retry(NoBackoff(), 0)")
        is_cluster = isinstance(client, redis_asyncio.RedisCluster)
        retry: Any = client.retry if is_cluster else client.get_retry()
        if retry is None:
            # ``from_url`` sets none; then what ``retry_on_error`` names is tried once more.
            named = client.get_connection_kwargs().get("retry_on_error")
            return OwnRetries(2, off) if named else None
        again: int = retry.get_retries()
        return OwnRetries(math.inf if again < 0 else again + 1, off)


def _written(client: Any, arguments: str) -> str:
    name = "RedisCluster" if isinstance(client, (_WAITING[1], _BLOCKING[1])) else "Redis"
    return f"redis.asyncio.{name}({arguments})"


CLIENT = _Redis()
