"""Workers in processes of their own."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from penstock.call import Call, current_call
from penstock.errors import DisplacedError, WorkerDiedError
from penstock.operation import Lingering, returns_awaitable
from penstock.workers.engine import CALL_CANCELLED, WorkerSpec
from penstock.workers.modes.process_frames import CALL, PING, STOP, TARGET
from penstock.workers.modes.process_link import Link, NotBegunError
from penstock.workers.modes.process_parcel import check_arguments, check_sendable
from penstock.workers.modes.process_start import started
from penstock.workers.remote_call import carrier_of, play
from penstock.workers.target import Target

__all__ = ["ProcessEngine"]

# Seconds after which a ping looks whether the worker is busy.
_LOOK = 0.1


class ProcessEngine:
    """A worker in a process: sync methods block that one, async ones run side by side there.

    Args:
        spec: How the worker is made.
        died: Told why when the process ends by itself, or is killed for a call that was cancelled.
    """

    __slots__ = ("_asynchronous", "_died", "_link", "_spec", "_targets")

    check = staticmethod(check_sendable)

    def __init__(self, spec: WorkerSpec, died: Callable[[str], None]) -> None:
        self._spec = spec
        self._died = died
        self._link: Link | None = None
        self._targets: dict[Target, int] = {}
        # Those that are visibly async: they are never ended by killing the process.
        self._asynchronous: set[Target] = set()

    async def start(self) -> None:
        """Start the process, make the worker in it and run its ``start``."""
        self._link = Link(self._spec.id, await started(self._spec), self._died)
        self._result_of(await self._link.open())

    async def call(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method in the process."""
        call, link = current_call(), self._up()
        while link.room is not None:
            # What waits to be sent is kept as it is, and not pickled as well.
            await asyncio.shield(link.room)
            if link.reason is not None:
                raise self._displaced(call)
        number, answer = link.ask(CALL, self._pickled(link, target, args, kwargs, call))
        try:
            ok, value, verbs = await answer
        except asyncio.CancelledError:
            last = self._cancel(link, number, target, call)
            if last is None:
                raise
            ok, value, verbs = await self._last_word(link, number, last, call)
        except NotBegunError:
            raise self._displaced(call) from None
        if verbs:
            play(call, verbs)
        if ok:
            return value
        raise value.opened(self._spec.id)

    async def healthy(self) -> bool:
        """Ask the worker's ``healthy``; True while it is busy with a sync method."""
        link = self._up()
        number, pong = link.ask(PING)
        try:
            while not pong.done():
                if link.board.running:
                    return True
                await asyncio.wait([pong], timeout=_LOOK)
            return bool(self._result_of(pong.result()))
        except NotBegunError:
            return False
        finally:
            link.calls.pop(number, None)

    async def stop(self) -> None:
        """Run the worker's ``stop`` and end the process."""
        link = self._up()
        _, reply = link.ask(STOP)
        link.reason = "stopped"
        try:
            answer = await reply
        except NotBegunError:
            raise WorkerDiedError(f"{self._spec.id} ended before it was stopped") from None
        await asyncio.shield(link.gone)
        self._result_of(answer)

    def kill(self) -> None:
        """Kill the process; calls under way fail as soon as it has gone."""
        if self._link is not None:
            self._link.kill("killed")

    def _up(self) -> Link:
        if self._link is None:
            raise WorkerDiedError(f"{self._spec.id} is not up")
        return self._link

    def _result_of(self, answer: Any) -> Any:
        ok, value, _ = answer
        if not ok:
            raise value.opened(self._spec.id)
        return value

    def _pickled(
        self,
        link: Link,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        call: Call,
    ) -> bytes:
        number = self._targets.get(target)
        if number is None:
            number = self._introduce(link, target)
        try:
            return pickle.dumps((number, args, kwargs, carrier_of(call)), pickle.HIGHEST_PROTOCOL)
        except Exception as failure:
            check_arguments(target.operation_name, args, kwargs)
            msg = f"{target.operation_name}: the arguments cannot be pickled: {failure!r}"
            raise TypeError(msg) from failure

    def _introduce(self, link: Link, target: Target) -> int:
        """Tell the process what a target is, once for all its calls."""
        name = target.operation_name
        try:
            body = pickle.dumps(target, pickle.HIGHEST_PROTOCOL)
        except Exception as failure:
            msg = f"{name} cannot be sent to a process: {failure!r}; define it in a module"
            raise TypeError(msg) from failure
        number = self._targets[target] = len(self._targets)
        shape = target.function or getattr(self._spec.make, target.name or "", None)
        if returns_awaitable(shape):
            self._asynchronous.add(target)
        link.send(TARGET, number, body)
        return number

    def _cancel(
        self, link: Link, number: int, target: Target, call: Call
    ) -> asyncio.Future[Any] | None:
        """End a call whose caller leaves; return what will tell how it ended, None for nothing."""
        if number not in link.calls:
            # It has ended in the same moment.
            return None
        last = link.cancel(number)
        # In this order: see ``Board``.
        if number > link.board.begun:
            del link.calls[number]
            return None
        if link.board.running != number or target in self._asynchronous:
            return last
        if self._spec.options.on_cancel == "finish":
            _linger(call, last)
            return None
        del link.calls[number]
        link.kill(CALL_CANCELLED)
        self._died(CALL_CANCELLED)
        return None

    async def _last_word(
        self, link: Link, number: int, last: asyncio.Future[Any], call: Call
    ) -> Any:
        try:
            return await last
        except (NotBegunError, WorkerDiedError):
            raise asyncio.CancelledError from None
        except asyncio.CancelledError:
            # Cancelled once more, while it cleans up.
            if number in link.calls:
                again = link.calls[number] = asyncio.get_running_loop().create_future()
                _linger(call, again)
            raise

    def _displaced(self, call: Call) -> DisplacedError:
        whose = call if call.lease is None else call.lease.call
        return DisplacedError(f"{self._spec.id} ended before it came to the call", call=whose)


def _linger(call: Call, last: asyncio.Future[Any]) -> None:
    if call.lingering is None:
        call.lingering = Lingering()
    call.lingering.running += 1
    last.add_done_callback(partial(_ended, call.lingering))


def _ended(lingering: Lingering, last: asyncio.Future[Any]) -> None:
    if not last.cancelled():
        # Seen; nobody else wants to know.
        last.exception()
    lingering.ended()
