"""What a server says is left of its quotas, in the header families that are in use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock.hints.headers import headers_of
from penstock.hints.values import local_now, number, seconds_until

__all__ = ["Quota", "quotas"]


@dataclass(frozen=True, slots=True)
class Quota:
    """One counter of a server, as it stood when the answer was sent.

    Attributes:
        dimension: What is counted: ``"requests"``, ``"tokens"``, or the unit that the server names.
        remaining: What is left, at least 0.
        resets_in: Seconds until there is more, at least 0; None where the server does not say.
        limit: What there is in all; None where the server does not say.
    """

    dimension: str
    remaining: float
    resets_in: float | None = None
    limit: float | None = None


# Dimension; the headers for limit and remaining; those for the reset, most exact first.
_FAMILIES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    *(
        (
            unit,
            f"x-ratelimit-limit-{unit}",
            f"x-ratelimit-remaining-{unit}",
            (f"x-ratelimit-reset-{unit}",),
        )
        for unit in ("requests", "tokens")
    ),
    *(
        (
            "requests" if unit == "requests" else "tokens",
            f"anthropic-ratelimit-{unit}-limit",
            f"anthropic-ratelimit-{unit}-remaining",
            (f"anthropic-ratelimit-{unit}-reset",),
        )
        for unit in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    (
        "requests",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        ("x-ratelimit-reset-after", "x-ratelimit-reset"),
    ),
    ("requests", "x-rate-limit-limit", "x-rate-limit-remaining", ("x-rate-limit-reset",)),
    ("requests", "ratelimit-limit", "ratelimit-remaining", ("ratelimit-reset",)),
)

# The list of RFC 9651 as far as draft-ietf-httpapi-ratelimit-headers uses it: strings or tokens
# with parameters. A field that does not fit is dropped as a whole, which is what the RFC asks for.
_VALUE = r'"(?:[^"\\]|\\.)*"|:[A-Za-z0-9+/=]*:|[0-9]+(?:\.[0-9]+)?|\?[01]|[A-Za-z*][\w:/.*-]*'
_PARAMETER = re.compile(rf"\s*;\s*([a-z*][a-z0-9_.*-]*)(?:=({_VALUE}))?")
_ITEM = re.compile(
    rf'\s*("(?:[^"\\]|\\.)*"|[A-Za-z*][\w:/.*-]*)((?:{_PARAMETER.pattern})*)\s*(?:,|$)'
)

# Draft 07 was a dictionary, and middleware of that time still sends it.
_DRAFT_07_MEMBER = re.compile(r"\b(limit|remaining|reset)=([0-9]+)")


def quotas(headers: object, *, wall_now: float) -> tuple[Quota, ...]:
    """Return every quota counter that the headers of an answer hold, good answers included.

    Args:
        headers: A mapping or pairs, of any kind and in any case.
        wall_now: Seconds since the epoch, for dates where the answer has no ``Date``.
    """
    known = headers_of(headers)
    now = local_now(known, wall_now)
    return (*_counters(known, now), *_structured(known))


def _counters(known: Mapping[str, str], now: float) -> Iterator[Quota]:
    for dimension, limit, remaining, resets in _FAMILIES:
        left = number(known.get(remaining, ""))
        if left is None:
            continue
        waits = (seconds_until(known.get(name, ""), now) for name in resets)
        resets_in = next((wait for wait in waits if wait is not None), None)
        # ``RateLimit-Limit: 100, 100;w=60``: the first is the one that counts now.
        whole = number(re.split("[,;]", known.get(limit, ""), maxsplit=1)[0].strip())
        yield Quota(dimension, left, resets_in, whole)


def _structured(known: Mapping[str, str]) -> Iterator[Quota]:
    field = known.get("ratelimit", "")
    policies = dict(_items(known.get("ratelimit-policy", "")))
    for name, told in _items(field):
        left = number(told.get("r", ""))
        if left is None:
            continue
        policy = policies.get(name, {})
        # Without ``t`` the window is the longest that it can take.
        resets_in = number(told.get("t", policy.get("w", "")))
        yield Quota(policy.get("qu", "requests"), left, resets_in, number(policy.get("q", "")))
    draft_07 = dict(_DRAFT_07_MEMBER.findall(field))
    left = number(draft_07.get("remaining", ""))
    if left is not None:
        yield Quota(
            "requests", left, number(draft_07.get("reset", "")), number(draft_07.get("limit", ""))
        )


def _items(field: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while at < len(field):
        item = _ITEM.match(field, at)
        if item is None:
            return []
        parameters = _PARAMETER.findall(item[2])
        found.append((item[1].strip('"'), {key: value.strip('"') for key, value in parameters}))
        at = item.end()
    return found
