"""The values of resources: read from the environment, from files, or standing in the file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from penstock.config.listed import ListedResource
from penstock.config.plain import is_list, is_mapping
from penstock.config.problems import Mistake, Reference, shown
from penstock.config.source import MOST_BYTES, read_bytes

__all__ = ["Pairs", "Surroundings", "read_literal", "read_values"]

Pairs = Iterator[tuple[str | None, Any]]
"""Ids, None where there is none, and values."""

_ADVICE = "write {env: NAME} and set NAME in the environment"

# gpu-0, worker_12, eu-west-1, 10.0.0.3:8080, http://proxy.example.com:8080: words and short numbers
# with something between them. Where letters and digits take turns it may be a key, and user name,
# password and query are where a URL keeps its secrets.
_PART = r"(?:[A-Za-z]{1,20}\d{0,4}|\d{1,5})"
_PLAIN = re.compile(rf"(?:[A-Za-z]{{1,10}}://)?{_PART}(?:[-_.:/ ]{_PART}){{0,11}}/?")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around the data that is read.

    Attributes:
        folder: Where relative paths begin; None for the working directory.
        allow_literal: True where a literal that may be a key is let through.
        environment: Where variables are looked up.
    """

    folder: Path | None = None
    allow_literal: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def read_literal(value: Any, around: Surroundings) -> Any:
    """Return a value that stands in the file itself, if it is plainly no key.

    Raises:
        Mistake: It may be one, or is empty. It is not shown.
    """
    if isinstance(value, bool) or value is None or is_list(value) or is_mapping(value):
        raise Mistake(f"expected a resource; got {shown(value)}", _ADVICE)
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise Mistake(f"a resource must not be empty; got {shown(value)}", _ADVICE)
    if isinstance(value, Reference) or around.allow_literal or _PLAIN.fullmatch(value):
        return str(value)
    raise Mistake("this may be a key, which has no place here", _ADVICE, hides=True)


def read_values(entry: ListedResource, around: Surroundings) -> Pairs:
    """Yield id and value of each resource that an entry stands for, unless Python holds them.

    Raises:
        Mistake: There is none, or what holds them cannot be read. It shows no value.
    """
    read = next(read for name, read in _READERS.items() if getattr(entry, name) is not None)
    return read(entry, around)


def _from_env(entry: ListedResource, around: Surroundings) -> Pairs:
    name = cast("str", entry.env)
    value = around.environment.get(name)
    if value is None:
        raise Mistake(f"environment variable '{name}' is not set", field="env")
    parts = _parts(value, entry.split)
    if not parts:
        raise Mistake(f"environment variable '{name}' is empty", field="env")
    return ((entry.id, part) for part in parts)


def _from_prefix(entry: ListedResource, around: Surroundings) -> Pairs:
    prefix = cast("str", entry.env_prefix)
    names = sorted(n for n in around.environment if n.startswith(prefix) and n != prefix)
    if not names:
        raise Mistake(f"no environment variable begins with '{prefix}'", field="env_prefix")
    for name in names:
        value = around.environment[name].strip()
        if not value:
            raise Mistake(f"environment variable '{name}' is empty", field="env_prefix")
        yield name.removeprefix(prefix).lower(), value


def _from_file(entry: ListedResource, around: Surroundings) -> Pairs:
    path = cast("str", entry.file)
    text = _text_of((around.folder or Path()) / path, path)
    if entry.id is not None:
        found = _parts(text, None)
    else:
        lines = (line.strip() for line in text.splitlines())
        kept = (line for line in lines if not line.startswith("#"))
        found = [part for line in kept for part in _parts(line, entry.split)]
    if not found:
        raise Mistake(f"there is no value in {shown(path)}", field="file")
    return ((entry.id, value) for value in found)


def _from_here(entry: ListedResource, around: Surroundings) -> Pairs:
    try:
        value = read_literal(entry.value, around)
    except Mistake as mistake:
        raise Mistake(mistake.message, mistake.hint, field="value", hides=mistake.hides) from None
    yield entry.id, value


_READERS: dict[str, Callable[[ListedResource, Surroundings], Pairs]] = {
    "env": _from_env,
    "env_prefix": _from_prefix,
    "file": _from_file,
    "value": _from_here,
}


def _parts(text: str, split: str | None) -> list[str]:
    parts = [text] if split is None else text.split(split)
    return [part.strip() for part in parts if part.strip()]


def _text_of(path: Path, written: str) -> str:
    try:
        # A pipe or a device might never end.
        raw = read_bytes(path) if path.is_file() else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise Mistake(f"cannot read {shown(written)}: {reason}", field="file") from None
    if raw is None:
        raise Mistake(f"there is no file {shown(written)}", field="file")
    if len(raw) > MOST_BYTES:
        limit = f"{MOST_BYTES // 1024} KiB"
        raise Mistake(f"{shown(written)} holds more than {limit}", field="file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Mistake(f"{shown(written)} is not UTF-8", field="file") from None
