"""aiohttp: a middleware of the client that sends its requests through a policy."""

from penstock.integrations.aiohttp.middleware import PolicyMiddleware, RequestFailedError

__all__ = ["PolicyMiddleware", "RequestFailedError"]
