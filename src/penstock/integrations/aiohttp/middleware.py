"""aiohttp's client under a policy: ``ClientSession(middlewares=(PolicyMiddleware(policy),))``."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.errors import ConfigError, PolicyError
from penstock.integrations import missing
from penstock.integrations.http.rules import Classify, Replay, Rules
from penstock.integrations.keys import KeyHeader
from penstock.policy import Policy

try:
    from aiohttp import (
        ClientConnectionError,
        ClientConnectorError,
        ClientHandlerType,
        ClientOSError,
        ClientRequest,
        ClientResponse,
        ServerDisconnectedError,
    )

    from penstock.integrations.aiohttp.answers import hold, judge_of, release
    from penstock.integrations.aiohttp.sending import Sending
except ImportError as error:
    raise missing("aiohttp 3.12 or later", "aiohttp") from error

__all__ = ["PolicyMiddleware", "RequestFailedError"]


class RequestFailedError(ClientConnectionError):
    """The last attempt has lost its connection; its own error is the cause.

    After a ``ServerDisconnectedError`` or ``ClientOSError`` of an idempotent method aiohttp runs
    all middlewares again, and would double the attempts. After this one it does not.
    """


class PolicyMiddleware:
    """Sends the requests of a session through a policy, each hop of a redirect on its own.

    A good answer holds its permit, its lease and its limits until its body was read or it was
    released or closed. A bad one is released when another attempt follows; the last is returned.
    Needs aiohttp 3.12.

    Args:
        policy: Its stages are shared with everybody else who uses it.
        header: The header that the key of a resource is put into; None for none. It is out of
            ``request_info`` again when the answer is there.
        form: The header's value, with ``{}`` where the key stands, for example ``"Bearer {}"``.
        origins: Where keys may be sent, and what requests the policy is for, each as
            ``"scheme://host"`` or ``"scheme://host:port"``; None takes those of the resources.
        replay: ``"safe"`` sends a POST or PATCH again only where the server has not acted on it:
            nothing was sent, it refused (401, 402, 403, 407, 425, 429, 503, 529), or there is an
            ``Idempotency-Key``; ``"always"`` sends them like a GET. A body that can be read once is
            never sent twice.
        classify: What an answer means: the name of a preset, or a function of the response.
        proxies: True where the resources are URLs of proxies, which may have a password.

    Raises:
        ConfigError: Nobody says where keys may be sent, ``header`` and ``proxies`` are both given,
            or an option is not allowed.
    """

    def __init__(  # noqa: PLR0913 - options, most of which are left out
        self,
        policy: Policy,
        *,
        header: str | None = None,
        form: str = "{}",
        origins: Iterable[str] | None = None,
        replay: Replay = "safe",
        classify: Classify = "http",
        proxies: bool = False,
    ) -> None:
        if proxies and header is not None:
            raise ConfigError("middleware: the resources are proxies, or keys for a 'header'")
        keys = KeyHeader(policy, header, form, origins)
        judge = judge_of(classify, of_proxies=proxies)
        self._rules = Rules(policy, keys, replay=replay, classify=judge, close=release)
        self._header = header
        self._proxies = proxies

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request, as often as the policy asks for.

        Raises:
            PolicyError: The policy refused the call, or it timed out.
            RequestFailedError: The last attempt has lost its connection.
            ClientError: What else the last attempt raised.
        """
        rules = self._rules
        if not rules.keys.covers(request.url):
            return await handler(request)
        sending = Sending(request, handler, rules, self._header, proxies=self._proxies)
        name = f"{request.method} {request.url.host}"
        try:
            exchange = await rules.exchanges.send(
                sending, name=name, url=request.url if rules.wants_url else None
            )
        except BaseException as failure:
            release(sending.last)
            if _would_run_again(failure):
                raise _final(failure) from failure
            raise
        response, last = exchange.response, sending.last
        sending.forget()
        if response is not last:
            release(last)
        if not isinstance(response, ClientResponse):
            kind = type(response).__name__
            raise PolicyError(
                f"a request was answered with {kind}; a fallback must return an answer"
            )
        if sending.call is not None and exchange.is_held:
            hold(exchange, sending.call)
        return response


def _would_run_again(failure: BaseException) -> bool:
    lost = isinstance(failure, ClientOSError | ServerDisconnectedError)
    return lost and not isinstance(failure, ClientConnectorError)


def _final(failure: BaseException) -> RequestFailedError:
    final = RequestFailedError(f"the last attempt ended with {type(failure).__name__}")
    for note in getattr(failure, "__notes__", ()):
        final.add_note(note)
    return final
