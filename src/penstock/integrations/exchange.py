"""A request under a policy whose answer is held until somebody has read and closed it.

What the transports have in common: attempts go through the whole pipeline, a bad answer counts as
a failed attempt, and a good one is handed out while the pipeline still holds its permit, its lease
and its timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Generic, Self, TypeVar, cast

from penstock.call import Call, RefusedResult
from penstock.driving import END, Closed, Driver, HandingOperation, HandOut
from penstock.entering import Operation, enter
from penstock.policy import Policy
from penstock.verdict import Verdict, VerdictKind

__all__ = ["Exchange", "Exchanges"]

A = TypeVar("A")

Attempt = Callable[[Call], Awaitable[A]]


class Exchanges(Generic[A]):
    """Sends the requests of one transport through one policy.

    Args:
        policy: Its stages are shared with everybody else who uses it.
        judge: What an answer means; OK or None is good. Called once per answer.
        close: Closes an answer that is thrown away because another attempt follows.
        headers: Where an answer keeps its headers: what a good one says of its quota is reported.
    """

    __slots__ = ("_context", "_handler", "_headers", "_judge", "_stages", "policy")

    def __init__(
        self,
        policy: Policy,
        *,
        judge: Callable[[A], Verdict | None],
        close: Callable[[A], object],
        headers: Callable[[A], object],
    ) -> None:
        self.policy = policy
        self._handler, context = policy.bound()
        self._context = replace(context, discard=close)
        self._stages = policy.stages
        self._judge = judge
        self._headers = headers

    async def send(self, attempt: Attempt[A], *, name: str, url: object = None) -> Exchange[A]:
        """Send a request as often as the policy asks for; return what is to be closed.

        Where no attempt brings a good answer, the last one is returned all the same: it says more
        than an error of ours could, and is held by nobody but the caller.

        Args:
            attempt: Sends the request once, for the call whose attempt it is.
            name: The operation's name in events and spans; without query, key or id.
            url: Where it goes, for a pool with ``url="url"``.

        Raises:
            PolicyError: The policy refused the call, or it timed out.
            Exception: What the last attempt raised.
        """
        operation = _Request(self._judge, self._headers, attempt, name)
        arguments = {} if url is None else {"url": str(url)}
        whole = enter(
            self._handler, self._context, self._stages, Operation(operation, (), arguments)
        )
        driver = Driver(whole)
        try:
            response = await driver.run()
        except RefusedResult as refused:
            return Exchange(driver, refused.result)
        # A fallback answers without handing anything out.
        return Exchange(driver, driver.result if response is END else response)


class Exchange(Generic[A]):
    """An answer, and what is held for it until it is closed; each way to close it works once.

    Attributes:
        response: The answer.
    """

    __slots__ = ("_driver", "response")

    def __init__(self, driver: Driver, response: A) -> None:
        self._driver = driver
        self.response = response

    @property
    def is_held(self) -> bool:
        """True until the answer was read or closed."""
        return not self._driver.ended

    async def close(self) -> None:
        """Give back what is held: the answer was read, or is wanted no more."""
        await self._driver.finish(Closed())

    async def fail(self, error: BaseException) -> None:
        """Tell the stages that the answer could not be read to its end.

        Args:
            error: What reading it has raised; the caller raises it again when this returns.

        Raises:
            PolicyError: What the stages make of it: a time limit of theirs had cancelled the
                reading.
        """
        try:
            await self._driver.finish(error)
        except BaseException as raised:
            if raised is error or (
                isinstance(error, asyncio.CancelledError)
                and isinstance(raised, asyncio.CancelledError)
            ):
                return
            raise
        finally:
            del error

    def close_now(self, error: BaseException | None = None) -> BaseException | None:
        """Do the same from where nothing can be awaited.

        Args:
            error: What reading the answer has raised; None where it was read or is not wanted.

        Returns:
            What the stages have raised, which may be ``error`` itself; None where nothing, or where
            they still have to wait for something.
        """
        return self._driver.finish_now(Closed() if error is None else error)


class _Request(HandingOperation, Generic[A]):
    """Sends a request once per attempt, and hands a good answer out."""

    __slots__ = ("_attempt", "_headers", "_judge")

    def __init__(
        self,
        judge: Callable[[A], Verdict | None],
        headers: Callable[[A], object],
        attempt: Attempt[A],
        name: str,
        calls: tuple[Call, ...] = (),
    ) -> None:
        super().__init__(name, calls)
        self._judge = judge
        self._headers = headers
        self._attempt = attempt

    @property
    def runs_on(self) -> bool:
        """True where the attempt says that it must not be cancelled to be made elsewhere."""
        return bool(getattr(self._attempt, "runs_on", False))

    def run_for(self, call: Call) -> Self:
        """Return an operation that runs for ``call`` too."""
        calls = (*self.calls, call)
        return type(self)(self._judge, self._headers, self._attempt, self.operation_name, calls)

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Send it; what a policy has injected is found on the call."""
        call = self.calls[-1]
        response = await self._attempt(call)
        verdict = self._judge(response)
        if verdict is not None and verdict.kind is not VerdictKind.OK:
            raise RefusedResult(cast("Any", response), verdict)
        call.report(self._headers(response))
        self.commit()
        handed = HandOut(response)
        # Whoever has the answer keeps what is held for it. If that kept the answer too, one that is
        # forgotten would wait for the collector, which closes its parts in any order.
        del response
        try:
            await handed
        except Closed:
            # It was read: that is a success.
            return
