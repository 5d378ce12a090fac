"""One request of httpx or httpx2 on its way through a policy: what each attempt does."""

from __future__ import annotations

from typing import Any

from penstock.call import Call
from penstock.integrations.http_inners import Inners, blame_proxy
from penstock.integrations.http_requests import adopt_body, for_attempt, is_spent, undo_limits
from penstock.integrations.http_rules import Rules

__all__ = ["Sending"]


class Sending:
    """Sends one request, once per attempt.

    Attributes:
        request: The user's own.
        call: The call of the latest attempt; None before the first.
        last: The answer that came last; None before there is one.
    """

    __slots__ = ("_inners", "_may_repeat", "_rules", "call", "last", "request")

    def __init__(self, request: Any, rules: Rules, inners: Inners) -> None:
        self.request = request
        self.call: Call | None = None
        self.last: Any = None
        self._rules = rules
        self._inners = inners
        self._may_repeat = rules.may_repeat(request.method, request.headers)

    @property
    def runs_on(self) -> bool:
        """True where an older call's failure must not end this attempt to begin it elsewhere."""
        return not self._may_repeat

    async def __call__(self, call: Call) -> Any:
        """Send it for this attempt and return the answer, its body unread."""
        self.call = call
        sent = for_attempt(self.request, call, self._rules)
        inner = self._inners.of(call.resource)
        try:
            response = await self.pass_on(inner, sent)
        except BaseException as failure:
            self._has_failed(call, sent, failure)
            raise
        self.last = response
        adopt_body(self.request, sent)
        undo_limits(self.request, sent)
        refused = self._may_repeat or self._rules.was_refused(
            response.status_code, response.headers
        )
        if not refused or is_spent(self.request, unsent=False):
            call.committed = True
        return response

    async def pass_on(self, inner: Any, sent: Any) -> Any:
        """Send a request through the transport of its resource."""
        return await inner.handle_async_request(sent)

    def _has_failed(self, call: Call, sent: Any, failure: BaseException) -> None:
        unsent = self._rules.was_unsent(call, failure)
        adopt_body(self.request, sent)
        if not (self._may_repeat or unsent) or is_spent(self.request, unsent=unsent):
            call.committed = True
        if self._inners.one is None:
            blame_proxy(call, failure)
