"""Envelope: what a failure travels in from the place where a worker lives."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Callable
from functools import partial

from penstock.classify.status import by_status
from penstock.errors import RemoteError
from penstock.hints import entry, find_headers, peek

__all__ = ["Envelope", "sealed"]

# Enough for a hundred frames; a recursion of thousands would be most of the traffic.
_MOST_CHARACTERS = 20_000

# Replaced where classes are sent by value, as on Ray.
dumps: Callable[[object], bytes] = partial(pickle.dumps, protocol=pickle.HIGHEST_PROTOCOL)

# The server's own words, which say more than the status that they come with.
_WORDS = ("code", "type")


class Envelope:
    """A failure in a form that can be sent: itself where that is possible, and what it was.

    Attributes:
        pickled: The failure; None where it does not come out of a pickle as it went in.
        type_name: Its class, with the module.
        text: What it says.
        status_code: Its HTTP status from 400 on; None where it has none.
        headers: What its response's headers say about trying again; never another one.
        words: ``code`` and ``type`` of the server's error, where it names them.
        traceback_text: Where it was raised and from what, as Python prints it.
    """

    __slots__ = (
        "headers",
        "pickled",
        "status_code",
        "text",
        "traceback_text",
        "type_name",
        "words",
    )

    def __init__(self, failure: BaseException) -> None:
        kind = type(failure)
        self.type_name = f"{kind.__module__}.{kind.__qualname__}"
        self.text = _text_of(failure)
        self.traceback_text = _shortened("".join(traceback.format_exception(failure)))
        self.pickled = _pickled(failure)
        self.status_code: int | None = None
        self.headers: dict[str, str] = {}
        self.words: dict[str, str] = {}
        if self.pickled is None:
            self.status_code = _status_of(failure)
            self.headers = find_headers(failure)
            self.words = _words_of(failure)

    def opened(self, where: str = "a worker") -> BaseException:
        """Return the failure, or a ``RemoteError`` that stands for it; a new one each time.

        Args:
            where: Where it was raised, for the note that it gets.
        """
        failure = _unpickled(self.pickled)
        if failure is not None:
            failure.add_note(f"raised in {where}:\n{self.traceback_text}")
            return failure
        error = RemoteError(
            f"{self.type_name}: {self.text}",
            type_name=self.type_name,
            status_code=self.status_code,
            headers=self.headers,
            traceback_text=self.traceback_text,
        )
        # Where the verdict table looks for them.
        vars(error).update(self.words)
        return error


def sealed(failure: BaseException) -> Envelope:
    """Return a failure in an envelope.

    ``StopIteration`` becomes a ``RuntimeError``, for no future takes it.
    """
    if isinstance(failure, StopIteration):
        replaced = RuntimeError("the method raised StopIteration")
        replaced.__cause__ = failure
        failure = replaced
    return Envelope(failure)


def _pickled(failure: BaseException) -> bytes | None:
    # What ends a program must not end the one that it is sent to. ``SystemExit`` ends the worker,
    # and its pool knows that.
    if not isinstance(failure, Exception | SystemExit | asyncio.CancelledError):
        return None
    try:
        pickled = dumps(failure)
        # Many can be written and not read: their ``__init__`` wants more than ``args``.
        again = pickle.loads(pickled)  # noqa: S301 - written by ourselves a moment ago
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything; so it cannot travel
        return None
    return pickled if type(again) is type(failure) else None


def _unpickled(pickled: bytes | None) -> BaseException | None:
    if pickled is None:
        return None
    try:
        failure = pickle.loads(pickled)  # noqa: S301 - from a worker that we have started
    except Exception:  # noqa: BLE001 - its class cannot be imported here, for example
        return None
    return failure if isinstance(failure, BaseException) else None


def _text_of(failure: BaseException) -> str:
    try:
        return _shortened(str(failure))
    except Exception:  # noqa: BLE001 - as above
        return "(its text cannot be had)"


def _shortened(text: str) -> str:
    if len(text) <= _MOST_CHARACTERS:
        return text
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]}\n[...]\n{text[-half:]}"


def _status_of(failure: BaseException) -> int | None:
    verdict = by_status(failure)
    # The reason of such a verdict is the status.
    return None if verdict is None else int(verdict.reason or 0) or None


def _words_of(failure: BaseException) -> dict[str, str]:
    own = peek(failure, "__dict__")
    body = entry(own, "body")
    found: dict[str, str] = {}
    for place in (entry(body, "error"), body, own):
        for word in _WORDS:
            value = entry(place, word)
            if isinstance(value, str):
                found[word] = value
    return found
