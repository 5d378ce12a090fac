"""One RPC on its way through a policy: what each attempt does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from typing import Any

from penstock import clock
from penstock.call import Call
from penstock.driving import END
from penstock.errors import CallTimeoutError, PolicyError
from penstock.policy import Policy
from penstock.stage import name_of
from penstock.stages.timeout import Timeout
from penstock.streaming.items import next_of

__all__ = ["Opened", "Rpc", "cancel", "metadata_of"]

# The policy ends a call first, so that there is one kind of error for it; the server, which is told
# a deadline this much later, learns of it by the cancel.
_SLACK = 0.1


class Opened:
    """An RPC that goes well.

    Attributes:
        rpc: gRPC's own call object.
        metadata: What the server says before and after its messages, as far as it has.
        messages: Those that are still to come; None where there is one response.
        first: The first message; ``END`` where there is none.
    """

    __slots__ = ("first", "messages", "metadata", "rpc")

    def __init__(
        self,
        rpc: Any,
        metadata: list[tuple[str, Any]],
        messages: AsyncIterator[Any] | None = None,
        first: Any = END,
    ) -> None:
        self.rpc = rpc
        self.metadata = metadata
        self.messages = messages
        self.first = first


class Rpc:
    """Makes one RPC, once per attempt.

    Attributes:
        name: What events call it: service and method.
        call: The call of the latest attempt; None before the first.
    """

    __slots__ = ("_began", "_continue", "_details", "_policy", "_put", "_request", "call", "name")

    def __init__(
        self,
        policy: Policy,
        details: Any,
        request: Any,
        continuation: Callable[[Any, Any], Awaitable[Any]],
        put: Callable[[Any, Any], Any],
    ) -> None:
        method: bytes | str = details.method
        self.name = (method.decode() if isinstance(method, bytes) else method).lstrip("/")
        self.call: Call | None = None
        self._began = clock.now()
        self._policy = policy
        self._details = details
        self._request = request
        self._continue = continuation
        self._put = put

    async def one_response(self, call: Call) -> Opened:
        """Make the RPC for this attempt and wait for its response."""
        rpc = await self._open(call, call.time_left(clock.now()))
        try:
            # To get the call raises nothing: this does.
            await rpc
            return Opened(rpc, await _said(rpc.initial_metadata, rpc.trailing_metadata))
        except BaseException:
            rpc.cancel()
            raise

    async def first_response(self, call: Call) -> Opened:
        """Make the RPC for this attempt and wait for its first message."""
        rpc = await self._open(call, self._whole_left(call))
        try:
            messages = aiter(rpc)
            first = await next_of(messages)
            return Opened(rpc, await _said(rpc.initial_metadata), messages, first)
        except BaseException:
            rpc.cancel()
            raise

    def forget(self) -> None:
        """Let go of the way to make another attempt.

        gRPC's side of it refers to all of this, and a time limit keeps its calls until their time
        is over.
        """
        self._continue, self._request = _no_more, None

    def own_error(self, error: PolicyError) -> Exception | None:
        """Return gRPC's own error where it was the caller's own ``timeout`` that ended the RPC."""
        own = self._details.timeout
        late = own is not None and clock.now() - self._began >= own
        if not (late and isinstance(error, CallTimeoutError)):
            return None
        grpc, aio = import_module("grpc"), import_module("grpc.aio")
        code, empty = grpc.StatusCode.DEADLINE_EXCEEDED, aio.Metadata()
        ended: Exception = aio.AioRpcError(code, empty, empty, "Deadline Exceeded", str(error))
        return ended

    async def _open(self, call: Call, left: float | None) -> Any:
        self.call = call
        details, timeout = self._details, self._details.timeout
        # The caller's own is among what is left.
        if left is not None:
            timeout = max(left, 0) + _SLACK
        metadata = self._put(details.metadata, call.resource)
        sent = import_module("grpc.aio").ClientCallDetails(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready
        )
        return await self._continue(sent, self._request)

    def _whole_left(self, call: Call) -> float | None:
        """Return the seconds that are left for the whole call; None without a limit.

        The limit of an attempt is not for the messages after the first, and the call does not tell
        one limit from the other. Where another stage stands outside of the limit for the whole
        call, this may be too much by what has passed since then; it is never too little.
        """
        now = clock.now()
        if not call.attempts_inside:
            return call.time_left(now)
        limits: list[float] = []
        own = call.context.overrides.timeout
        if own is not None:
            limits.append(self._began + own - now)
        for place, stage in enumerate(self._policy.stages):
            if name_of(stage) == "retry":
                break
            if isinstance(stage, Timeout):
                elapsed = now - self._began if place == 0 else 0.0
                limits.append(stage.options.seconds - elapsed)
        return min(limits, default=None)


def metadata_of(answer: Opened) -> object:
    """Return where an RPC says what is left of a quota."""
    return answer.metadata


def cancel(answer: object) -> None:
    """End an RPC that is thrown away; a fallback may have answered in its place."""
    if isinstance(answer, Opened):
        answer.rpc.cancel()


async def _no_more(*_: object) -> None:
    raise PolicyError("an RPC whose first message was read cannot be made again")


async def _said(*sources: Callable[[], Awaitable[Any]]) -> list[tuple[str, Any]]:
    return [pair for source in sources for pair in await source() or ()]
