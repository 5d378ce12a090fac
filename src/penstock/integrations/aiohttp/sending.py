"""One request of aiohttp on its way through a policy: what each attempt does."""

from __future__ import annotations

from typing import Any

from aiohttp import (
    ClientHandlerType,
    ClientPayloadError,
    ClientProxyConnectionError,
    ClientRequest,
    ClientResponse,
    hdrs,
)
from aiohttp.payload import BytesPayload
from yarl import URL

from penstock.call import Call
from penstock.integrations.http.rules import Rules

__all__ = ["Sending"]


class Sending:
    """Sends one request, once per attempt.

    Attributes:
        call: The call of the latest attempt; None before the first.
        last: The answer that came last; None before there is one.
    """

    __slots__ = (
        "_handler",
        "_header",
        "_may_repeat",
        "_proxies",
        "_request",
        "_rules",
        "_was_begun",
        "call",
        "last",
    )

    def __init__(
        self,
        request: ClientRequest,
        handler: ClientHandlerType,
        rules: Rules,
        header: str | None,
        *,
        proxies: bool,
    ) -> None:
        self.call: Call | None = None
        self.last: ClientResponse | None = None
        self._request = request
        self._handler = handler
        self._rules = rules
        self._header = hdrs.PROXY_AUTHORIZATION if proxies else header
        self._proxies = proxies
        self._may_repeat = rules.may_repeat(request.method, request.headers)
        self._was_begun = False

    def forget(self) -> None:
        """Let go of request and answer: a time limit keeps its calls until their time is over."""
        self.last = None
        del self._request, self._handler

    @property
    def runs_on(self) -> bool:
        """True where an older call's failure must not end this attempt to begin it elsewhere."""
        return not self._may_repeat or _is_spent(self._request)

    async def __call__(self, call: Call) -> ClientResponse:
        """Send it for this attempt and return the answer, its body unread."""
        self.call = call
        if self._was_begun:
            await self._begin_again(call)
        self._was_begun = True
        before = self._request.headers.getall(self._header, []) if self._header else []
        try:
            self._dress(call)
            response = await self._handler(self._request)
        except BaseException as failure:
            self._has_failed(call, failure)
            raise
        finally:
            # It was written. What is left here is shown in ``request_info`` and errors, and the
            # password of a proxy would go to the next one.
            self._undress(before)
        self.last = response
        refused = self._may_repeat or self._rules.was_refused(response.status, response.headers)
        if not refused or _is_spent(self._request):
            call.committed = True
        return response

    async def _begin_again(self, call: Call) -> None:
        request = self._request
        # The writer of the attempt before was cancelled, and still has hold of the body.
        await request.close()
        if _is_spent(request):
            call.committed = True
            msg = "an attempt before has used the request's body up; give bytes, or a seekable file"
            raise ClientPayloadError(msg)
        # "100 Continue" is waited for with a future, which the attempt before has used too.
        request.update_expect_continue()

    def _dress(self, call: Call) -> None:
        request, resource = self._request, call.resource
        if not self._proxies:
            self._rules.keys.put(request.headers, resource, request.url)
        elif resource is not None:
            url: Any = resource.value_for(request.url)
            request.update_proxy(URL(url), None, None)

    def _undress(self, before: list[str]) -> None:
        if self._header is not None:
            headers = self._request.headers
            headers.popall(self._header, None)
            headers.extend((self._header, value) for value in before)

    def _has_failed(self, call: Call, failure: BaseException) -> None:
        # Of an attempt that was cancelled nobody knows.
        unsent = isinstance(failure, Exception) and not call.judge(failure).sent
        if not (self._may_repeat or unsent) or _is_spent(self._request):
            call.committed = True
        if type(failure) is TimeoutError:
            # ``ClientTimeout(total=...)`` of the session: each further attempt would fail at once.
            call.committed = True
        lease = call.lease
        if self._proxies and lease and isinstance(failure, ClientProxyConnectionError):
            lease.cooldown(reason=type(failure).__name__)


def _is_spent(request: ClientRequest) -> bool:
    """Whether a body can be read once, and was."""
    body: Any = request.body
    if not body:
        return False
    consumed = getattr(body, "consumed", None)
    # The first versions with middlewares do not say.
    return not isinstance(body, BytesPayload) if consumed is None else bool(consumed)
