"""What is known of exception types, by name: nothing here imports what it describes.

A row is found by the first part of the module's name and the class's name, along the MRO, so that
the most particular class wins and a subclass of yours counts as what it derives from.
"""

from __future__ import annotations

from penstock.classify.client_types import CLIENT_TYPES, Row
from penstock.hints import peek
from penstock.verdict import VerdictKind

__all__ = ["BUILTIN_TYPES", "builtin_row", "client_row", "top_module"]

_BUG = Row(VerdictKind.CALLER_BUG)
_TIMEOUT = Row(VerdictKind.TIMEOUT)
_TRANSIENT = Row(VerdictKind.TRANSIENT)
# Nothing can have reached the server: no connection was there to carry it.
_NO_CONNECTION = Row(VerdictKind.TRANSIENT, sent=False)

BUILTIN_TYPES: dict[str, dict[str, Row]] = {
    "builtins": {
        "ConnectionError": _TRANSIENT,
        "ConnectionRefusedError": _NO_CONNECTION,
        "EOFError": _TRANSIENT,
        "TimeoutError": _TIMEOUT,
        "ArithmeticError": _BUG,
        "AssertionError": _BUG,
        "AttributeError": _BUG,
        "ImportError": _BUG,
        "LookupError": _BUG,
        "NameError": _BUG,
        "NotImplementedError": _BUG,
        "RecursionError": _BUG,
        "SyntaxError": _BUG,
        "TypeError": _BUG,
        "ValueError": _BUG,
        "FileExistsError": _BUG,
        "FileNotFoundError": _BUG,
        "IsADirectoryError": _BUG,
        "NotADirectoryError": _BUG,
        "PermissionError": _BUG,
    },
    "asyncio": {"IncompleteReadError": _TRANSIENT},
    "concurrent": {"CancelledError": Row(VerdictKind.CANCELLED)},
    "http": {"IncompleteRead": _TRANSIENT, "BadStatusLine": _TRANSIENT},
    "socket": {"gaierror": _NO_CONNECTION},
    "ssl": {
        "SSLCertVerificationError": _BUG,
        "SSLEOFError": _TRANSIENT,
        "SSLZeroReturnError": _TRANSIENT,
    },
    "urllib": {"URLError": _TRANSIENT},
}


def client_row(failure_type: type[BaseException]) -> Row | None:
    """Return the row of the nearest well-known class of a client library."""
    return _nearest(failure_type, CLIENT_TYPES)


def builtin_row(failure_type: type[BaseException]) -> Row | None:
    """Return the row of the nearest class of Python's own."""
    return _nearest(failure_type, BUILTIN_TYPES)


def _nearest(failure_type: type[BaseException], table: dict[str, dict[str, Row]]) -> Row | None:
    for base in failure_type.__mro__:
        row = table.get(top_module(base), {}).get(base.__name__)
        if row is not None:
            return row
    return None


def top_module(cls: type[object]) -> str:
    """Return the first part of the name of the module that a class says it is from."""
    module = peek(cls, "__module__")
    return module.partition(".")[0] if isinstance(module, str) else ""
