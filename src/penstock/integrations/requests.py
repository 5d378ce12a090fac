"""An adapter for requests: a policy below redirects, auth handlers and cookies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from penstock import clock
from penstock.call import Call
from penstock.errors import PolicyError
from penstock.integrations import missing
from penstock.integrations.http.held import close_quietly
from penstock.integrations.http.inners import blame_proxy
from penstock.integrations.http.requests import SLACK, least
from penstock.integrations.http.rules import Classify, Replay, Rules
from penstock.integrations.http.sending import Sending
from penstock.integrations.http.synchronous import send_sync
from penstock.integrations.http.threads import in_thread
from penstock.integrations.keys import KeyHeader
from penstock.policy import Policy
from penstock.pools.resource import Resource

try:
    import requests
    from requests.adapters import HTTPAdapter
    from requests.utils import rewind_body
    from urllib3.exceptions import NewConnectionError
    from urllib3.util import Timeout

    from penstock.integrations.http.raw import hold_with
except ImportError as error:  # pragma: no cover - run in a process of its own
    raise missing("requests", "requests") from error

__all__ = ["PolicyAdapter"]


class PolicyAdapter(HTTPAdapter):
    """Sends every request of a ``requests.Session`` through a policy.

    Mount it for a prefix that ends with a slash, as ``"https://api.example.com/"``. The policy
    runs on the loop of ``policy.run_sync``, and what really sends in a worker thread, which cannot
    be cancelled: where a time limit ends the call, the thread goes on until the time-outs handed
    down to it end it, and counts against a concurrency limit and its resource for that long.
    Permit and lease are held until the answer was read or closed.

    Args:
        policy: Its stages are shared with everybody else who uses it.
        header: Where the value of the attempt's resource is put, for a policy that rotates over
            keys; None puts it nowhere.
        form: The header's value, with ``{}`` where the key stands.
        origins: Where the policy is for; other requests go without it. None takes the ``origins``
            of the resources.
        proxies: Returns the proxies of the attempt's resource, as requests takes them.
        replay: ``"safe"`` sends POST, PATCH and others that are not idempotent again only where the
            server has not acted on them, or where they have an ``Idempotency-Key``; ``"always"``
            sends them again after any failure.
        classify: What an answer means: the name of a preset, or a function of the answer.
        pool_connections: As for ``HTTPAdapter``, and so are the others; there is no
            ``max_retries``, which would multiply with the policy's.
        pool_maxsize: Most connections that are kept per host.
        pool_block: Whether to wait for one of them.

    Raises:
        ConfigError: A value is not allowed, or keys are put in and nobody says where they may go.
    """

    def __init__(  # noqa: PLR0913 - keyword-only options, each of which may be left out
        self,
        policy: Policy,
        *,
        header: str | None = None,
        form: str = "{}",
        origins: Iterable[str] | None = None,
        proxies: Callable[[Resource[Any]], Mapping[str, str]] | None = None,
        replay: Replay = "safe",
        classify: Classify = "http",
        pool_connections: int = 10,
        pool_maxsize: int = 10,
        pool_block: bool = False,
    ) -> None:
        keys = KeyHeader(policy, header, form, origins)
        close = requests.Response.close
        self._rules = Rules(policy, keys, replay=replay, classify=classify, close=close)
        self._proxies = proxies
        super().__init__(pool_connections, pool_maxsize, 0, pool_block)

    def send(  # noqa: PLR0913, PLR0917 - the signature of requests
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as above
        timeout: Any = None,
        verify: Any = True,  # noqa: FBT002 - as above
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request through the policy.

        Raises:
            PolicyError: The policy refused the call, or it timed out; or this thread runs a loop.
        """
        rules = self._rules
        send = partial(super().send, stream=stream, verify=verify, cert=cert)
        if not rules.keys.covers(request.url):
            return send(request, timeout=timeout, proxies=proxies)
        sending = _AdapterSending(request, rules, _Once(send, timeout, proxies, self._proxies))
        name = f"{request.method} {urlsplit(str(request.url)).hostname}"
        url = request.url if rules.wants_url else None
        response, held = send_sync(rules, sending, name, url)
        if not isinstance(response, requests.Response):
            kind = type(response).__name__
            msg = f"a request was answered with {kind}; a fallback must return a Response"
            raise PolicyError(msg)
        if held is not None:
            hold_with(response.raw, held)
        return response


class _Once:
    """What it takes to send a request once."""

    __slots__ = ("_own_proxies", "_proxies", "_send", "_timeout")

    def __init__(
        self,
        send: Callable[..., requests.Response],
        timeout: Any,
        proxies: Mapping[str, str] | None,
        own_proxies: Callable[[Resource[Any]], Mapping[str, str]] | None,
    ) -> None:
        self._send = send
        self._timeout = timeout
        self._proxies = proxies
        self._own_proxies = own_proxies

    @property
    def has_proxies(self) -> bool:
        """Whether each resource has proxies of its own."""
        return self._own_proxies is not None

    def for_attempt(self, call: Call, sent: Any) -> Callable[[], requests.Response]:
        """Return what sends a request in this attempt's time and through its proxies."""
        timeout, proxies = self._timeout, dict(self._proxies or {})
        left = call.time_left(clock.now())
        if left is not None:
            timeout = _limited(timeout, max(left, 0.0) + SLACK)
        if self._own_proxies is not None and call.resource is not None:
            proxies.update(self._own_proxies(call.resource))
        return partial(self._send, sent, timeout=timeout, proxies=proxies)


class _AdapterSending(Sending):
    """Sends a request of requests, each attempt in a worker thread."""

    __slots__ = ("_begun", "_once")

    def __init__(self, request: requests.PreparedRequest, rules: Rules, once: _Once) -> None:
        super().__init__(request, rules)
        self._once = once
        self._begun = False

    @property
    def runs_on(self) -> bool:
        """True: a cancel would end the waiting and not the work."""
        return True

    def prepare(self, call: Call) -> Any:
        """Return the request with its key, and a file that is its body where it began."""
        request: requests.PreparedRequest = self.request
        if self._begun and not _is_in_memory(request):
            rewind_body(request)
        self._begun = True
        if not self.rules.keys.puts:
            return request
        sent = request.copy()
        self.rules.keys.put(sent.headers, call.resource, request.url)
        return sent

    async def pass_on(self, call: Call, sent: Any) -> Any:
        """Send it in a worker thread."""
        response = await in_thread(self._once.for_attempt(call, sent), call, close_quietly)
        # The user's own is without the key.
        response.request = self.request
        return response

    def is_unsent(self, call: Call, failure: Exception) -> bool:
        """Whether no connection was made: urllib3's error says so, inside the one of requests."""
        reason = getattr(next(iter(failure.args), None), "reason", None)
        return isinstance(reason, NewConnectionError) or super().is_unsent(call, failure)

    def is_spent(self, call: Call, *, unsent: bool) -> bool:
        """Whether the body is gone, or a thread that was left is still at it."""
        if _is_in_memory(self.request):
            return False
        if call.lingering is not None and call.lingering.running:
            return True
        # Where a file stood before it was sent; None for an iterator, an object for a pipe.
        return not isinstance(self.request._body_position, int) and not unsent  # noqa: SLF001 - requests has no other name for it

    def has_failed(self, call: Call, sent: Any, failure: BaseException) -> None:
        """Take the key out of the error; a proxy that is dead is told of."""
        if isinstance(failure, requests.RequestException) and failure.request is sent:
            failure.request = self.request
        if self._once.has_proxies:
            blame_proxy(call, failure)


def _is_in_memory(request: requests.PreparedRequest) -> bool:
    # Said to be bytes or text, and may be a file or an iterator.
    body = cast("object", request.body)
    return body is None or isinstance(body, str | bytes)


def _limited(timeout: Any, left: float) -> Timeout:
    match timeout:
        case Timeout():
            connect, read = cast("tuple[Any, Any]", (timeout.connect_timeout, timeout.read_timeout))
        case (connect, read):
            pass
        case both:
            connect = read = both
    return Timeout(connect=least(_number(connect), left), read=least(_number(read), left))


def _number(limit: object) -> float | None:
    # urllib3 has an object of its own for "as the operating system has it".
    return limit if isinstance(limit, int | float) else None
