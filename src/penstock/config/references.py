"""``{python: "pkg.mod:name"}``: what stands in Python and is named in YAML."""

from __future__ import annotations

import builtins
import importlib
import re
from typing import Any

from penstock.config.plain import is_list, is_mapping
from penstock.config.problems import Mistake, Reference, nearest, shown

__all__ = ["REFERENCE", "is_reference", "read_exception", "read_reference"]

REFERENCE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"

_REFERENCE = re.compile(REFERENCE)
_DOTTED = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.([A-Za-z_]\w*)")
_MOST_LETTERS = 500


def is_reference(value: Any) -> bool:
    """Answer whether a value is a mapping with nothing but the key ``python``."""
    return is_mapping(value) and set(value) == {"python"}


def read_reference(value: Any) -> Any:
    """Return what ``{python: "pkg.mod:name"}`` names; a Python object stays what it is.

    Raises:
        Mistake: It is no reference, or what it names is not there.
    """
    if is_reference(value):
        return _resolved(value["python"])
    if value is None or is_list(value) or is_mapping(value) or isinstance(value, str | int | float):
        hint = 'write {python: "package.module:name"}'
        raise Mistake(f"expected something of Python's; got {shown(value)}", hint)
    return value


def read_exception(text: str) -> type[Exception] | None:
    """Return the exception type of a name such as ``ConnectionError`` or ``httpx.ConnectError``.

    Returns:
        The type; None where the text is not of that form or names no built-in exception.

    Raises:
        Mistake: A dotted name that cannot be imported, or that is no exception.
    """
    dotted = _DOTTED.fullmatch(text) if len(text) <= _MOST_LETTERS else None
    found = getattr(builtins, text, None) if dotted is None else _named(text, dotted[1], dotted[2])
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    if dotted is None:
        return None
    raise Mistake(f"{shown(text)} is not an exception type")


def _resolved(text: Any) -> Any:
    if isinstance(text, str) and len(text) <= _MOST_LETTERS and _REFERENCE.fullmatch(text):
        module, _, name = text.partition(":")
        return _named(text, module, name)
    raise Mistake(f"expected 'package.module:name'; got {shown(text)}")


def _named(text: str, module: str, name: str) -> Any:
    try:
        return _import(module, name)
    except Mistake:
        # What comes out of the environment is never shown, nor is a part of it.
        if isinstance(text, Reference):
            raise Mistake(f"cannot import {shown(text)}") from None
        raise


def _import(module: str, name: str) -> Any:
    try:
        found = importlib.import_module(module)
    # A module may do anything while it is imported, and end the process by it; the file is
    # wrong then, not penstock.
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {shown(str(error))}"
        raise Mistake(f"cannot import {shown(module)}: {reason}") from error
    for step in name.split("."):
        try:
            found = getattr(found, step)
        except AttributeError:
            known = nearest(step, vars(found)) if hasattr(found, "__dict__") else None
            raise Mistake(f"{shown(module)} has no {shown(step)}", known) from None
    return found
