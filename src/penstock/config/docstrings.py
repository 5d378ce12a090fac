"""The descriptions of options: they stand in the docstrings of the options classes, once."""

from __future__ import annotations

import inspect
import re

__all__ = ["described", "summary"]

_FIELD = re.compile(r"^    (?P<name>\w+): ?(?P<text>.*)$")


def described(options: type) -> dict[str, str]:
    """Return ``{field: description}`` from the "Attributes:" sections of a class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(options.__mro__):
        found |= _attributes(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
    return {name: _plain(text) for name, text in found.items()}


def summary(options: type) -> str:
    """Return the first sentence of a class's docstring."""
    doc = inspect.cleandoc(options.__doc__ or "")
    return _plain(" ".join(doc.partition("\n\n")[0].split()))


def _attributes(doc: str) -> dict[str, str]:
    section = doc.partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        field = _FIELD.match(line)
        if field is not None:
            name = field["name"]
            found[name] = field["text"].strip()
        elif not line.startswith(" "):
            break
        else:
            found[name] += " " + line.strip()
    return found


def _plain(text: str) -> str:
    return text.replace("``", "`")
