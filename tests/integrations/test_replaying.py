from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import CallTimeoutError, Policy
from penstock.integrations.clients.replaying import bodies_of
from penstock.testing import run

pytestmark = pytest.mark.virtual_time


class Client:
    """Takes files, and fails at first."""

    def __init__(self, failures: int = 1) -> None:
        self.failures = failures
        self.received: list[Any] = []

    async def upload(self, *files: Any, **named: Any) -> str:
        """Read whatever can be read."""
        for file in (*files, *named.values()):
            self.received.append(file.read() if hasattr(file, "read") else [*file])
        if len(self.received) <= self.failures:
            raise ConnectionError
        return "stored"


class Pipe(io.BytesIO):
    """A file that cannot be wound back."""

    def seekable(self) -> bool:
        """Say so."""
        return False


class AsyncFile:
    """A file of a library that reads in threads: all its methods have to be awaited."""

    async def seekable(self) -> bool:
        """Be asked in vain."""
        return True

    async def read(self) -> bytes:
        """Read."""
        return b""

    async def close(self) -> None:
        """Close."""


def numbers() -> Iterator[int]:
    """Yield one."""
    yield 1


async def later_numbers() -> AsyncIterator[int]:
    """Yield one."""
    yield 1


def test_a_file_is_wound_back_to_where_it_was():
    """What stands before its position was never to be sent."""
    file = io.BytesIO(b"header body")
    file.seek(7)
    client = Client()

    run(Policy().with_retry(2, wait=0).wrap_client(client).upload(file))

    assert client.received == [b"body", b"body"]


def test_a_file_of_a_temporary_folder_is_one_too():
    """It is a stand-in of Python's, which only looks like a file."""
    client = Client()
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"body")
        file.seek(0)

        run(Policy().with_retry(2, wait=0).wrap_client(client).upload(named=file))

    assert client.received == [b"body", b"body"]


@pytest.mark.parametrize("body", [Pipe(b"body"), numbers()])
def test_what_cannot_be_wound_back_is_sent_once(body: Any):
    """The first failure reaches the caller, with a note that says why it was the last."""
    client = Client()

    with pytest.raises(ConnectionError) as caught:
        run(Policy().with_retry(3, wait=0).wrap_client(client).upload(body))

    assert len(client.received) == 1
    assert "too far to be made again" in caught.value.__notes__[0]


def test_a_file_that_the_client_has_closed_is_sent_once():
    """There is nothing left to wind back."""

    class Closing(Client):
        async def upload(self, *files: Any, **named: Any) -> str:
            try:
                return await super().upload(*files, **named)
            finally:
                files[0].close()

    client = Closing()

    with pytest.raises(ConnectionError):
        run(Policy().with_retry(3, wait=0).wrap_client(client).upload(io.BytesIO(b"body")))

    assert client.received == [b"body"]


def test_an_attempts_time_out_holds_for_what_is_sent_once():
    """It is committed when it has failed, and not while it is under way."""

    class Slow(Client):
        async def upload(self, *files: Any, **named: Any) -> str:
            import asyncio  # noqa: PLC0415 - beside what it is for

            self.received.append(files)
            await asyncio.sleep(60)
            return "late"

    client = Slow()
    policy = Policy().with_retry(3, wait=0).with_timeout(1)

    with pytest.raises(CallTimeoutError):
        run(policy.wrap_client(client).upload(numbers()))

    assert len(client.received) == 1


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"bytes",
        {"role": "user"},
        [{"role": "user"}] * 3,
        range(3),
        Path("/etc/hosts"),
        object(),
        Client,
        io.BytesIO,
        [[[[io.BytesIO()]]]],  # deeper than any client takes files
    ],
)
def test_what_is_not_used_up_is_left_alone(value: Any):
    """It is the same for every attempt."""
    assert bodies_of((value,), {"value": value}) is None


@pytest.mark.parametrize(
    ("value", "can_be_repeated"),
    [
        (io.BytesIO(), True),
        (("name.png", io.BytesIO(), "image/png"), True),
        ([("name.png", io.BytesIO()), io.StringIO()], True),
        ([io.BytesIO(), numbers()], False),
        (numbers(), False),
        (later_numbers(), False),
        (map(str, [1]), False),
        (AsyncFile(), False),
        (Pipe(), False),
    ],
)
def test_what_is_used_up_is_found(value: Any, can_be_repeated: bool):
    """Also in tuples and lists, as clients take files; one that cannot be repeated is enough."""
    bodies = bodies_of((), {"file": value})

    assert bodies is not None
    assert bodies.rewind() is can_be_repeated


def test_a_file_that_was_closed_before_is_not_wound_back():
    """The client's own error says what is wrong."""
    file = io.BytesIO()
    file.close()

    bodies = bodies_of((file,), {})

    assert bodies is not None
    assert not bodies.rewind()
