"""Read ``google.rpc.RetryInfo`` out of the metadata of gRPC, without a protobuf library.

Only the messages on the way are known: Status { details = 3 }, Any { type_url = 1; value = 2 },
RetryInfo { retry_delay = 1 } and Duration { seconds = 1; nanos = 2 }.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

__all__ = ["retry_delay_of"]

_KEY = "grpc-status-details-bin"

# Servers allow 8 kB of metadata in all.
_MOST_BYTES = 16_384
_MOST_FIELDS = 64
_MOST_VARINT_BYTES = 10

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def retry_delay_of(read_metadata: object) -> float | None:
    """Return the seconds that the details of a gRPC status ask for; None where they do not.

    Args:
        read_metadata: The method ``trailing_metadata`` of an error.
    """
    pairs = read_metadata() if callable(read_metadata) else None
    for key, value in cast("Iterable[tuple[object, object]]", pairs or ()):
        if key == _KEY and isinstance(value, bytes) and len(value) <= _MOST_BYTES:
            return _delay(value)
    return None


def _delay(status: bytes) -> float | None:
    for detail in _all(status, 3):
        if _first(detail, 1).endswith(b"/google.rpc.RetryInfo"):
            duration = dict(_fields(_first(_first(detail, 2), 1)))
            seconds, nanos = duration.get(1, 0), duration.get(2, 0)
            # A negative number is sent as a huge one.
            if isinstance(seconds, int) and isinstance(nanos, int) and seconds < 1 << 62:
                return seconds + min(nanos, 999_999_999) / 1e9
    return None


def _first(message: bytes, number: int) -> bytes:
    return next(_all(message, number), b"")


def _all(message: bytes, number: int) -> Iterator[bytes]:
    for found, value in _fields(message):
        if found == number and isinstance(value, bytes):
            yield value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    # What does not fit ends the message: half a status says no more than none.
    at = 0
    for _ in range(_MOST_FIELDS):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if not number:
            return
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif wire == _BYTES:
            length, at = _varint(message, at)
            yield number, message[at : at + length]
            at += length
        elif wire in {_FIXED_64, _FIXED_32}:
            at += 8 if wire == _FIXED_64 else 4
        else:
            return


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[at : at + _MOST_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more bytes follow
            return value, at + place + 1
    return 0, len(message) + 1
