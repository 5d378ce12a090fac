"""The forms of what is said of resources in a mapping."""

from __future__ import annotations

import re
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from penstock.config.block import Block
from penstock.config.forms.base import Form, Json, PythonObject
from penstock.config.forms.scalars import Name
from penstock.config.listed import SOURCES, ListedResource
from penstock.config.plain import is_list
from penstock.config.problems import Mistake, Reference, shown
from penstock.config.references import read_reference
from penstock.pools.origins import ALLOWED_ORIGIN, read_origin

__all__ = ["ENTRY", "entry_json"]


class _Text(Form):
    """A text; where it came from is remembered."""

    example = "keys.txt"

    def words(self) -> str:
        """Return that it is a text."""
        return "a text that is not empty"

    def read(self, value: Any) -> Any:
        """Return the text."""
        if not isinstance(value, str) or not value:
            raise self.refuse(value)
        return value

    def json(self) -> Json:
        """Return a text."""
        return {"type": "string", "minLength": 1}


class _Separator(_Text):
    """A text between two values."""

    example = '","'


class _Variable(_Text):
    """The name of a variable, or the beginning of one."""

    example = "SEARCH_KEYS"

    def words(self) -> str:
        """Return that it is the name and not the value."""
        return "the name of an environment variable, without ${}"

    def read(self, value: Any) -> str:
        """Return the name; what was put in for ``${NAME}`` may be the secret itself."""
        if isinstance(value, Reference) or not isinstance(value, str):
            raise self.refuse(value)
        if not re.fullmatch(r"[A-Za-z_]\w*", value):
            # Not shown: it may be a value.
            raise Mistake(f"'{self.option.name}' must be {self.words()}", hides=True)
        return value


class _Texts(_Text):
    """A list of texts."""

    example = "[paid]"

    def words(self) -> str:
        """Return that it is a list."""
        return "a list of texts that are not empty"

    def read(self, value: Any) -> str:
        """Return one of them."""
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(value)
        return str(value)

    def json(self) -> Json:
        """Return a list of texts."""
        return {"type": "array", "items": super().json(), "minItems": 1}

    def core_schema(self, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a list, so that each wrong item is reported at its own place."""
        del handler
        one = core_schema.no_info_plain_validator_function(self.read)
        several = core_schema.list_schema(one, min_length=1)
        checked = core_schema.no_info_after_validator_function(_as_tuple, several)
        return core_schema.no_info_before_validator_function(self._as_list, checked)

    def _as_list(self, value: Any) -> list[Any]:
        if not is_list(value):
            raise self.refuse(value, "write it in brackets" if isinstance(value, str) else None)
        return value


class _Origins(_Texts):
    """A list of origins."""

    example = '["https://api.example.com"]'

    def words(self) -> str:
        """Return that they are origins."""
        return "a list of origins such as https://api.example.com, without path"

    def read(self, value: Any) -> str:
        """Return one of them."""
        try:
            return read_origin(value)
        except ValueError:
            # Not shown: an address may have a password in it.
            raise Mistake(f"an origin must be {ALLOWED_ORIGIN}", hides=True) from None


class _InPython(PythonObject):
    """What a module holds."""

    example = '"package.module:name"'

    def words(self) -> str:
        """Return the form of a name."""
        return f"a name such as {self.example}"

    def read(self, value: Any) -> Any:
        """Return what is named."""
        found = read_reference({"python": value} if isinstance(value, str) else value)
        if found is None:
            raise Mistake(f"{shown(value)} is None")
        return found

    def json(self) -> Json:
        """Return a text."""
        return {"type": "string", "minLength": 1}


class _Plain(Form):
    """A value that is no secret."""

    example = "gpu-0"

    def words(self) -> str:
        """Return what a plain value is."""
        return "words and short numbers, such as gpu-0 or http://proxy:8080"

    def read(self, value: Any) -> Any:
        """Return the value; whether it may stand here is looked at with its surroundings."""
        return value

    def json(self) -> Json:
        """Return a scalar."""
        return {"type": ["string", "number"]}


ENTRY = Block(
    "resources",
    ListedResource,
    forms={
        "env": _Variable,
        "env_prefix": _Variable,
        "file": _Text,
        "python": _InPython,
        "value": _Plain,
        "split": _Separator,
        "id": Name,
        "origins": _Origins,
        "tags": _Texts,
    },
)
"""What may be said of resources, as a mapping."""


def entry_json() -> Json:
    """Return the JSON Schema of such a mapping."""
    return {**ENTRY.json_schema(), "oneOf": [{"required": [name]} for name in SOURCES]}


def _as_tuple(values: list[str]) -> tuple[str, ...]:
    return tuple(values)
