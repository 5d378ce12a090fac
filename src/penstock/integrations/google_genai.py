"""What ``policy.wrap_client`` knows of the clients of ``google.genai``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from penstock.hints import peek
from penstock.integrations import missing
from penstock.integrations.clients.known import KnownClient, OwnRetries

try:
    from google import genai
    from google.genai.client import AsyncClient
    from google.genai.types import HttpOptions
except ImportError as error:
    raise missing("google-genai", "google-genai") from error

__all__ = ["CLIENT"]

# Of ``HttpRetryOptions()``.
_DEFAULT_ATTEMPTS = 5

_SWITCHED_OFF = "genai.Client(http_options=HttpOptions(retry_options=HttpRetryOptions(attempts=1)))"

_KEY = "x-goog-api-key"

# Its header would follow a redirect to another host. Each of the two HTTP clients that the SDK may
# use takes the word that it knows.
_STAYS = {"allow_redirects": False, "follow_redirects": False}


class _GenaiClient(KnownClient):
    """The row; what a client was made with is read from its ``_api_client``, the one place for it.

    Of a ``genai.Client`` the part for asyncio is covered, ``client.aio``; that part alone can be
    wrapped too.
    """

    __slots__ = ()

    def owns(self, client: Any) -> bool:
        """Answer by the class."""
        return isinstance(client, genai.Client | AsyncClient)

    def instead_of_blocking(self, client: Any, path: tuple[str, ...]) -> str | None:
        """Name the same method of the part for asyncio."""
        if isinstance(client, AsyncClient) or path[0] == "aio" or len(path) == 1:
            return None
        return ".".join(("aio", *path))

    def own_retries(self, client: Any) -> OwnRetries | None:
        """Read the retry options; without any it sends twice where it uses aiohttp."""
        api = client._api_client  # noqa: SLF001 - see the class
        options = _options(client).retry_options
        if options is not None:
            requests = options.attempts or _DEFAULT_ATTEMPTS
        else:
            requests = 2 if api._use_aiohttp() else 1  # noqa: SLF001 - as above
        return OwnRetries(requests, _SWITCHED_OFF)

    def url(self, client: Any) -> object | None:
        """Return the base URL of its options."""
        return _options(client).base_url

    def binds(self, client: Any) -> bool:
        """Those for a project on Vertex AI have no key."""
        return not client._api_client.project  # noqa: SLF001 - see the class

    def bind(self, client: Any, value: str) -> Any:
        """Make a client with the same options: it has connections of its own, as the SDK wants."""
        options: HttpOptions = _options(client)
        own = {
            "headers": {k: v for k, v in (options.headers or {}).items() if k.lower() != _KEY},
            "async_client_args": {**(options.async_client_args or {}), **_STAYS},
        }
        api = client._api_client  # noqa: SLF001 - see the class
        bound = genai.Client(
            vertexai=api.vertexai, api_key=value, http_options=options.model_copy(update=own)
        )
        return bound.aio if isinstance(client, AsyncClient) else bound

    async def release(self, bound: Any) -> None:
        """Close the connections for asyncio of a client that ``bind`` made."""
        aio = bound if isinstance(bound, AsyncClient) else bound.aio
        await aio.aclose()

    def telling(
        self, owner: Any, name: str, tell: Callable[[object], None]
    ) -> Callable[..., Awaitable[Any]]:
        """Read the headers that the SDK keeps with an answer; those of a stream come too late."""
        method = getattr(owner, name)

        async def run(*args: Any, **kwargs: Any) -> Any:
            answer = await method(*args, **kwargs)
            headers = peek(peek(answer, "sdk_http_response"), "headers")
            if headers is not None:
                tell(headers)
            return answer

        return run


def _options(client: Any) -> HttpOptions:
    options: HttpOptions = client._api_client._http_options  # noqa: SLF001 - see the class
    return options


CLIENT = _GenaiClient()
