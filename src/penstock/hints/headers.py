"""Where the headers of an answer or an error are, and how to read them whatever holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import cast

__all__ = ["causes", "entry", "find_headers", "headers_of", "peek"]

# How many links of ``__cause__`` are followed: SDKs chain two or three, a cycle never ends.
_MAX_CAUSES = 8

# Most pairs read and longest value kept: far above what servers accept themselves.
_MAX_PAIRS = 512
_MAX_LENGTH = 2048

_COUNTERS = ("limit", "remaining", "reset")
_FAMILIES = ("x-ratelimit", "x-rate-limit", "ratelimit")
_LISTS = ("ratelimit", "ratelimit-policy")

# Only these are kept: other headers may hold secrets, and nothing here needs them.
KNOWN: frozenset[str] = frozenset(
    {
        "retry-after",
        "retry-after-ms",
        "x-ms-retry-after-ms",
        "x-amz-retry-after",
        "grpc-retry-pushback-ms",
        "x-should-retry",
        "stripe-should-retry",
        "x-ratelimit-reset-after",
        *_LISTS,
        *(f"{family}-{c}" for family in _FAMILIES for c in _COUNTERS),
        *(f"x-ratelimit-{c}-{unit}" for c in _COUNTERS for unit in ("requests", "tokens")),
        *(
            f"anthropic-ratelimit-{unit}-{c}"
            for c in _COUNTERS
            for unit in ("requests", "tokens", "input-tokens", "output-tokens")
        ),
    }
)


def peek(holder: object, name: str) -> object:
    """Return an attribute, or None where it is missing or refuses to be read."""
    try:
        return cast("object", getattr(holder, name, None))
    except Exception:  # noqa: BLE001 - a property of somebody else's class may raise anything
        return None


def entry(holder: object, key: str) -> object:
    """Return what a mapping holds under a key; None where it has no such key, or is no mapping."""
    if not isinstance(holder, Mapping):
        return None
    return cast("Mapping[str, object]", holder).get(key)


def causes(failure: object) -> Iterator[object]:
    """Yield the failure and what it was raised from, a few links deep; cycles end too."""
    link: object = failure
    for _ in range(_MAX_CAUSES):
        if link is None:
            return
        yield link
        link = peek(link, "__cause__")


def find_headers(outcome: object) -> dict[str, str]:
    """Return the headers that hold a hint, from the first place that has one.

    Args:
        outcome: An exception (of httpx, aiohttp, an LLM SDK, gRPC, botocore, ...) or a response.

    Returns:
        Lower-case names with their values, hints and ``date`` only; empty where there are none.
    """
    for link in causes(outcome):
        for place in _PLACES:
            known = headers_of(_look(place, link))
            if known.keys() - {"date"}:
                return known
    return {}


def headers_of(headers: object) -> dict[str, str]:
    """Return the hints and the ``date`` among the headers, by lower-case name.

    Args:
        headers: A mapping of any kind, or pairs; names and values text or bytes, a value also a
            list of them. Of several lines the first counts; those of a list field are joined.
    """
    found: dict[str, str] = {}
    try:
        for raw_name, raw_value in islice(_pairs(headers), _MAX_PAIRS):
            name = _text(raw_name).lower()
            if name == "date" or name in KNOWN:
                _add(found, name, _text(raw_value))
    except Exception:  # noqa: BLE001 - whatever cannot be read as headers is none
        return {}
    return found


def _pairs(headers: object) -> Iterator[tuple[object, object]]:
    items = peek(headers, "items")
    return iter(cast("Iterable[tuple[object, object]]", items() if callable(items) else headers))


def _add(found: dict[str, str], name: str, value: str) -> None:
    if name not in found:
        found[name] = value
    elif name in _LISTS:
        found[name] = f"{found[name]}, {value}"[:_MAX_LENGTH]


def _text(raw: object) -> str:
    if isinstance(raw, list | tuple):
        return ", ".join(_text(part) for part in cast("list[object]", raw))[:_MAX_LENGTH]
    if isinstance(raw, bytes):
        return raw.decode("latin-1")[:_MAX_LENGTH].strip()
    return str(raw)[:_MAX_LENGTH].strip() if isinstance(raw, str | int | float) else ""


def _look(place: Callable[[object], object], link: object) -> object:
    try:
        return place(link)
    except Exception:  # noqa: BLE001 - a place that cannot be looked at holds nothing
        return None


def _trailing_metadata(link: object) -> object:
    # On a call that is still open the method is a coroutine function; on an error it is not.
    read = peek(link, "trailing_metadata") if isinstance(link, BaseException) else None
    return read() if callable(read) else None


def _boto_headers(link: object) -> object:
    return entry(entry(peek(link, "response"), "ResponseMetadata"), "HTTPHeaders")


# In the order in which they are tried: the response knows best, and litellm's is an empty stand-in.
_PLACES: tuple[Callable[[object], object], ...] = (
    lambda link: peek(peek(link, "response"), "headers"),
    lambda link: peek(link, "litellm_response_headers"),
    lambda link: peek(link, "headers"),
    _trailing_metadata,
    _boto_headers,
)
