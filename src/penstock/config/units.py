"""What stands for a number in YAML: ``30s``, ``50%``, ``600/min``."""

from __future__ import annotations

import re
from typing import Any

from penstock.config.problems import Mistake, Reference, nearest, shown
from penstock.stages.rate_limit import Rate

__all__ = [
    "DURATION",
    "NUMBER",
    "PERCENT",
    "RATE",
    "read_duration",
    "read_number",
    "read_rate",
    "read_whole",
    "write_duration",
]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# What people write for them elsewhere.
_MEANT = {
    **dict.fromkeys(("msec", "msecs", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}
_RATE_UNITS = (*_SECONDS, *_MEANT)

DURATION = r"(\d+(\.\d+)?d)?(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?(\d+(\.\d+)?ms)?"
"""Pattern of a duration; it also fits the empty text."""

NUMBER = r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?"
PERCENT = r"\d+(\.\d+)?\s*%"
RATE = (
    r"\s*\d+(\.\d+)?\s*(/|per\b)\s*(\d+(\.\d+)?)?\s*"
    r"(ms|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)\s*"
)

_DURATION = re.compile(DURATION)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_LOOSE_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-zµ]*)\s*")
_PERCENT = re.compile(PERCENT)
_NUMBER = re.compile(NUMBER)
_LOOSE_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/|\bper\b)\s*(\d+(?:\.\d+)?)?\s*([A-Za-z]*)\s*")

_UNITS = "the units are ms, s, m, h and d"
# Beyond, a text is no number that anybody wrote; Python refuses to read very long ones.
_MOST_LETTERS = 100

# A number above it is not worth an example with a unit: it is 30,000 years of seconds.
_LARGEST = 1e12


def read_duration(value: Any) -> float:
    """Return the seconds of a text such as ``1.5s`` or ``1m30s``; 0 needs no unit.

    Raises:
        Mistake: It is none, with the nearest text that is one.
    """
    if _is_number(value):
        if value == 0:
            return 0.0
        raise Mistake("a duration needs a unit", f"write {_digits(value)}s if you mean seconds")
    if not isinstance(value, str) or len(value) > _MOST_LETTERS:
        raise Mistake(f"expected a duration such as '30s'; got {shown(value)}")
    if value == "0":
        return 0.0
    if not value or _DURATION.fullmatch(value) is None:
        raise _wrong_duration(value)
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(value))


def read_number(value: Any) -> Any:
    """Return the number in a text such as ``20`` or ``50%``; anything else as it is."""
    if not isinstance(value, str) or len(value) > _MOST_LETTERS:
        return value
    if _PERCENT.fullmatch(value):
        # One rounding, not two: 7 % has to be the float 0.07.
        return float(value.rstrip("% ")) / 100
    return float(value) if _NUMBER.fullmatch(value) else value


def read_whole(value: Any) -> Any:
    """Return the whole number in a text such as ``20``; anything else as it is."""
    if isinstance(value, str) and len(value) <= _MOST_LETTERS and re.fullmatch(r"-?\d+", value):
        return int(value)
    return value


def read_rate(value: Any, name: str | None = None) -> Rate:
    """Return the rate of a text such as ``10/s``, ``600/min``, ``100/10s`` or ``10 per minute``.

    Raises:
        Mistake: It is none, with the nearest text that is one.
    """
    if _is_number(value):
        raise Mistake("a rate needs a unit", f"write {_digits(value)}/s if you mean per second")
    if not isinstance(value, str) or len(value) > _MOST_LETTERS:
        raise Mistake(f"expected a rate such as '10/s'; got {shown(value)}")
    try:
        return Rate.of(str(value), name)
    except ValueError:
        raise _wrong_rate(value) from None


def _wrong_duration(text: str) -> Mistake:
    parts = _LOOSE_PART.findall(text)
    if isinstance(text, Reference) or not parts or _LOOSE_PART.sub("", text).strip():
        return Mistake(f"expected a duration such as '30s'; got {shown(text)}")
    units = [_meant(unit) for _, unit in parts]
    hint = None
    if None not in units:
        ordered = sorted(
            zip((amount for amount, _ in parts), units, strict=True),
            key=lambda part: -_SECONDS[part[1] or "s"],
        )
        hint = f"did you mean '{''.join(f'{amount}{unit}' for amount, unit in ordered)}'?"
    for (amount, written), unit in zip(parts, units, strict=True):
        if not written:
            return Mistake(f"the {amount} in {shown(text)} has no unit", hint)
        if unit != written:
            return Mistake(f"unknown time unit {shown(written)}", hint or _UNITS)
    return Mistake(f"expected a duration such as '1m30s'; got {shown(text)}", hint)


def _meant(unit: str) -> str | None:
    lower = unit.lower() or "s"
    return lower if lower in _SECONDS else _MEANT.get(lower)


def _wrong_rate(text: str) -> Mistake:
    found = _LOOSE_RATE.fullmatch(text)
    if isinstance(text, Reference) or found is None:
        return Mistake(f"expected a rate such as '10/s'; got {shown(text)}")
    amount, span, unit = found[1], found[2] or "", found[3]
    if not unit:
        hint = f"did you mean '{amount}/{span}s'?"
        return Mistake("the time in the rate has no unit", hint)
    if unit.lower() in _RATE_UNITS:
        return Mistake(f"a rate must be above 0; got {shown(text)}")
    near = nearest(unit, _RATE_UNITS)
    meant = near.split("'")[1] if near else next((u for u in _SECONDS if unit[0] == u), None)
    hint = f"did you mean '{amount}/{span}{meant}'?" if meant else _UNITS
    return Mistake(f"unknown time unit {shown(unit)} in the rate", hint)


def write_duration(seconds: float) -> str:
    """Return seconds as a text, with the largest unit in which they are a whole number."""
    if seconds == 0:
        return "0"
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{_digits(seconds / _SECONDS[unit])}{unit}"
    return f"{_digits(seconds * 1000)}ms" if seconds < 1 else f"{_digits(seconds)}s"


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) < _LARGEST


def _digits(number: float) -> str:
    # No exponent: a duration has none.
    return f"{number:.6f}".rstrip("0").rstrip(".")
