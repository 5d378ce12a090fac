"""Failures travel as they are where they can, and in an envelope where they cannot."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from penstock.classify import classify
from penstock.errors import RemoteError
from penstock.signals import RestartWorker
from penstock.verdict import CooldownResource, VerdictKind
from penstock.workers.envelope import Envelope, sealed


class Response:
    """An answer of a server, as SDKs keep it."""

    def __init__(self, status_code: int, headers: dict[str, str]) -> None:
        self.status_code = status_code
        self.headers = headers


class APIStatusError(Exception):
    """Pickles and does not load, as OpenAI's: its ``__init__`` wants more than ``args``."""

    def __init__(self, message: str, *, response: Response, body: object = None) -> None:
        super().__init__(message)
        self.response = response
        self.status_code = response.status_code
        self.body = body


class Unreadable(Exception):  # noqa: N818 - what it is
    """Refuses to tell what it says, and to be pickled."""

    def __str__(self) -> str:
        raise ValueError

    def __reduce__(self) -> tuple[object, ...]:
        raise ValueError


class Changing(Exception):  # noqa: N818 - what it is
    """Comes out of a pickle as something else."""

    def __reduce__(self) -> tuple[object, ...]:
        return ValueError, ("changed",)


def travelled(failure: BaseException) -> BaseException:
    """Return what arrives when a failure has been raised and sent."""
    try:
        raise failure
    except BaseException as raised:  # noqa: BLE001 - whatever it is
        envelope: Envelope = pickle.loads(pickle.dumps(sealed(raised)))
    return envelope.opened("worker-3")


def test_a_failure_that_can_travel_arrives_as_it_is_with_the_remote_traceback_as_a_note() -> None:
    """Type, arguments and attributes are kept."""
    failure = KeyError("nothing here")
    failure.extra = 5  # type: ignore[attr-defined]

    arrived = travelled(failure)

    assert type(arrived) is KeyError
    assert arrived.args == ("nothing here",)
    assert arrived.extra == 5  # type: ignore[attr-defined]
    assert "raised in worker-3:\nTraceback" in arrived.__notes__[0]
    assert "raise failure" in arrived.__notes__[0]


def test_an_envelope_makes_a_new_failure_each_time_it_is_opened() -> None:
    """An exception instance is raised once and never reused."""
    envelope = sealed(ValueError("x"))

    assert envelope.opened() is not envelope.opened()


def test_the_causes_of_a_failure_are_told_in_its_traceback() -> None:
    """They do not travel themselves."""
    failure = ValueError("outer")
    failure.__cause__ = OSError("what was behind it")

    arrived = travelled(failure)

    assert "OSError: what was behind it" in arrived.__notes__[0]


@pytest.mark.parametrize(
    "signal", [RestartWorker("leaks"), CooldownResource(7.5, "busy")], ids=["restart", "cooldown"]
)
def test_signals_travel_with_all_they_say(signal: Exception) -> None:
    """They are how a method tells its pool what to do."""
    arrived = travelled(signal)

    assert type(arrived) is type(signal)
    assert {**vars(arrived), "__notes__": None} == {**vars(signal), "__notes__": None}


def test_a_failure_that_pickles_and_does_not_load_becomes_a_remote_error() -> None:
    """It says what it was, with status and hints; other headers may hold secrets."""
    headers = {"Retry-After": "12", "Authorization": "Bearer secret"}

    arrived = travelled(APIStatusError("slow down", response=Response(429, headers)))

    assert isinstance(arrived, RemoteError)
    assert str(arrived).endswith("APIStatusError: slow down")
    assert arrived.type_name.endswith("APIStatusError")
    assert arrived.status_code == 429
    assert arrived.headers == {"retry-after": "12"}
    assert "APIStatusError: slow down" in arrived.traceback_text


def test_a_remote_error_is_judged_by_status_and_headers_like_the_failure_it_stands_for() -> None:
    """The verdict table reads both."""
    arrived = travelled(APIStatusError("x", response=Response(429, {"Retry-After": "12"})))

    verdict = classify(arrived)

    assert verdict.kind is VerdictKind.RATE_LIMITED
    assert verdict.retry_after == 12


@pytest.mark.parametrize(
    "body",
    [{"code": "insufficient_quota"}, {"error": {"type": "insufficient_quota"}}],
    ids=["body", "error in body"],
)
def test_the_words_of_the_server_travel_too(body: object) -> None:
    """They say more than the status."""
    arrived = travelled(APIStatusError("x", response=Response(429, {}), body=body))

    assert classify(arrived).kind is VerdictKind.QUOTA_EXHAUSTED


def test_a_failure_without_a_status_has_none_in_its_envelope() -> None:
    """Nothing is made up."""
    arrived = travelled(Changing("x"))

    assert isinstance(arrived, RemoteError)
    assert arrived.status_code is None
    assert arrived.headers == {}


def test_a_failure_that_cannot_even_be_read_still_arrives() -> None:
    """Its class and traceback are told."""
    arrived = travelled(Unreadable())

    assert isinstance(arrived, RemoteError)
    assert "Unreadable: (its text cannot be had)" in str(arrived)


def test_what_ends_a_program_does_not_end_the_one_that_it_is_sent_to() -> None:
    """A KeyboardInterrupt that a method has raised is nobody else's."""
    arrived = travelled(KeyboardInterrupt())

    assert isinstance(arrived, RemoteError)
    assert arrived.type_name == "builtins.KeyboardInterrupt"


@pytest.mark.parametrize("failure", [SystemExit(3), asyncio.CancelledError()], ids=repr)
def test_the_end_of_a_worker_and_a_cancel_arrive_as_they_are(failure: BaseException) -> None:
    """The pool knows what to do about them."""
    assert type(travelled(failure)) is type(failure)


def test_a_stop_iteration_becomes_an_error_that_a_future_takes() -> None:
    """Python does the same with those of generators."""
    arrived = travelled(StopIteration(5))

    assert isinstance(arrived, RuntimeError)


def test_a_class_that_cannot_be_imported_here_becomes_a_remote_error() -> None:
    """The bytes of the failure are of no use then, all the rest is."""
    envelope = sealed(ValueError("x"))
    envelope.pickled = b"cnowhere\nNothing\n."

    arrived = envelope.opened()

    assert isinstance(arrived, RemoteError)
    assert arrived.type_name == "builtins.ValueError"


def test_a_text_without_end_is_cut() -> None:
    """The frames of an endless recursion and the body of an answer are not worth megabytes."""
    arrived = travelled(Changing("x" * 1_000_000))

    assert len(str(arrived)) < 25_000
    assert "[...]" in str(arrived)
