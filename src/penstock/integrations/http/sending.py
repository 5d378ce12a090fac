"""One request on its way through a policy: what each attempt does."""

from __future__ import annotations

from typing import Any

from penstock.call import Call
from penstock.integrations.http.inners import Inners, blame_proxy
from penstock.integrations.http.requests import (
    adopt_body,
    for_attempt,
    is_in_memory,
    is_spent,
    undo_limits,
)
from penstock.integrations.http.rules import Rules

__all__ = ["ClientSending", "Sending"]


class Sending:
    """Sends one request, once per attempt; what that is for a client, a subclass says.

    Args:
        request: The user's own.
        rules: How.

    Attributes:
        call: The call of the latest attempt; None before the first.
        last: The answer that came last; None before there is one.
    """

    __slots__ = ("_may_repeat", "call", "last", "request", "rules")

    def __init__(self, request: Any, rules: Rules) -> None:
        self.request = request
        self.rules = rules
        self.call: Call | None = None
        self.last: Any = None
        self._may_repeat = rules.may_repeat(request.method, request.headers)

    @property
    def runs_on(self) -> bool:
        """True where an older call's failure must not end this attempt to begin it elsewhere."""
        return not self._may_repeat

    async def __call__(self, call: Call) -> Any:
        """Send it for this attempt and return the answer, its body unread."""
        self.call = call
        sent = self.prepare(call)
        try:
            response = await self.pass_on(call, sent)
        except BaseException as failure:
            unsent = isinstance(failure, Exception) and self.is_unsent(call, failure)
            self.has_failed(call, sent, failure)
            if not (self._may_repeat or unsent) or self.is_spent(call, unsent=unsent):
                call.committed = True
            raise
        self.last = response
        self.has_answered(sent)
        refused = self.rules.was_refused(response.status_code, response.headers)
        if not (self._may_repeat or refused) or self.is_spent(call, unsent=False):
            call.committed = True
        return response

    def prepare(self, call: Call) -> Any:
        """Return what this attempt sends."""
        raise NotImplementedError

    async def pass_on(self, call: Call, sent: Any) -> Any:
        """Send it and return the answer."""
        raise NotImplementedError

    def is_unsent(self, call: Call, failure: Exception) -> bool:
        """Whether it is certain that nothing has reached the server.

        Of an attempt that was cancelled nobody knows, so it is not asked.
        """
        return not call.judge(failure).sent

    def is_spent(self, call: Call, *, unsent: bool) -> bool:
        """Whether the body cannot be sent once more.

        Args:
            call: The call of the attempt that has ended.
            unsent: It is certain that nothing has reached the server.
        """
        raise NotImplementedError

    def has_answered(self, sent: Any) -> None:
        """Undo what was done for this attempt alone."""

    def has_failed(self, call: Call, sent: Any, failure: BaseException) -> None:
        """Undo what was done for this attempt alone, and tell the pool what it should know."""


class ClientSending(Sending):
    """Sends a request of httpx or httpx2, in the task of whoever sends it."""

    __slots__ = ("_inners",)

    def __init__(self, request: Any, rules: Rules, inners: Inners) -> None:
        super().__init__(request, rules)
        self._inners = inners

    def prepare(self, call: Call) -> Any:
        """Return the request with its key and in the time that is left."""
        return for_attempt(self.request, call, self.rules)

    async def pass_on(self, call: Call, sent: Any) -> Any:
        """Send a request through the transport of its resource."""
        return await self._inners.of(call.resource).handle_async_request(sent)

    def is_spent(self, call: Call, *, unsent: bool) -> bool:
        """Whether the body is gone, or a thread that was left is still at it."""
        if is_in_memory(self.request):
            return False
        lingering = call.lingering
        return is_spent(self.request, unsent=unsent) or bool(lingering and lingering.running)

    def has_answered(self, sent: Any) -> None:
        """Keep the body where it was read, and give the reader the user's own limits."""
        adopt_body(self.request, sent)
        undo_limits(self.request, sent)

    def has_failed(self, call: Call, sent: Any, failure: BaseException) -> None:
        """Keep the body where it was read; a proxy that is dead is told of."""
        adopt_body(self.request, sent)
        if self._inners.one is None:
            blame_proxy(call, failure)
