"""What is held for an answer that threads without a loop read, and given back by any of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from penstock.call import Call
from penstock.integrations.exchange import Exchange
from penstock.sync import run_sync

__all__ = ["Held", "HeldSyncBody", "close_quietly"]

_log = logging.getLogger("penstock")


class Held:
    """What the policy holds for an answer, given back from any thread."""

    __slots__ = ("_call", "_exchange", "_loop")

    def __init__(
        self, exchange: Exchange[Any], call: Call, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._exchange = exchange
        self._call = call
        self._loop = loop

    def check(self) -> None:
        """Raise what a time limit of the policy's would, where its time is over.

        Raises:
            PolicyError: It is.
        """
        if self._call.expiring and self._loop.is_running():
            run_sync(partial(self._exchange.fail, asyncio.CancelledError()), self._loop)

    def close(self) -> None:
        """Give it back: the answer was read, or is wanted no more.

        Nothing is waited for, so a finalizer may do this in any thread, whatever lock that holds.
        What the thread sends next comes after it.
        """
        self._post(self._exchange.close_now)

    def fail(self, error: BaseException) -> None:
        """Give it back, and tell the stages that reading the answer has failed."""
        self._post(partial(self._exchange.close_now, error))

    def _post(self, leave: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(leave)
        except RuntimeError:
            # The loop is closed; the policy lives on.
            leave()


class HeldSyncBody:
    """The body of an answer, with which what the policy holds for it is given back."""

    def __init__(self, body: Any, held: Held) -> None:
        self._body = body
        self._held = held
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Read the body.

        Raises:
            PolicyError: The policy's time for the whole call is over.
        """
        try:
            for chunk in self._body:
                self._held.check()
                yield chunk
        except GeneratorExit:
            # Left early; whoever did so closes the answer.
            raise
        except BaseException as error:
            self._held.check()
            self._held.fail(error)
            raise
        self.close()

    def close(self) -> None:
        """Close the body and give back what is held."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._body.close()
        except BaseException as error:
            self._held.fail(error)
            raise
        self._held.close()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            self._held.close()
            close_quietly(self._body)


def close_quietly(what: Any) -> None:
    """Close an answer, a body or a transport; what that raises is logged."""
    try:
        what.close()
    except Exception as error:  # noqa: BLE001 - it must not hide what has happened, nor end others
        _log.warning("closing %s raised %s", type(what).__name__, type(error).__name__)
