"""What an unquoted YAML scalar is: the core schema of YAML 1.2, in which ``on`` is a text."""

from __future__ import annotations

import re

__all__ = ["read_plain"]

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# Python refuses to convert more digits; no option is ever so large.
_MOST_DIGITS = 300
_INT = re.compile(rf"[-+]?[0-9]{{1,{_MOST_DIGITS}}}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")
_BASED = re.compile(r"0(?:o[0-7]{1,60}|x[0-9a-fA-F]{1,60})")


def read_plain(text: str) -> str | int | float | bool | None:
    """Return the value of a scalar that stands without quotes (YAML 1.2.2, section 10.3.2)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return float("nan") if _NAN.fullmatch(text) else text
