"""The JSON Schema of policy files, for editors and other tools."""

from __future__ import annotations

import json
from typing import Any

from penstock.config.build import VERSION
from penstock.config.forms.listed import entry_json
from penstock.config.plain import is_list, is_mapping
from penstock.config.registry import SETTINGS, STAGES

__all__ = ["policy_schema", "schema_text"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a policy file.

    It accepts every file that ``load`` accepts. It does not refuse all that ``load`` refuses: what
    depends on several options, on the order of stages or on Python takes code.
    """
    names = {"minLength": 1}
    return {
        "$schema": _DIALECT,
        "title": "penstock policy file",
        "description": "Policies: each an ordered list of stages, outermost first.",
        "type": "object",
        "properties": {
            "version": {"description": "The version of this format.", "const": VERSION},
            "policies": {
                "description": "Each policy by its name.",
                "type": "object",
                "propertyNames": names,
                "additionalProperties": {"$ref": "#/$defs/policy"},
                "minProperties": 1,
            },
            "shared": {
                "description": "Stages with state that several policies share, by name.",
                "anyOf": [
                    {"type": "object", "additionalProperties": {"$ref": "#/$defs/shared"}},
                    {"type": "null"},
                ],
            },
            "allow_literal": {
                "description": "True lets texts through that look like keys.",
                "type": "boolean",
                "default": False,
            },
        },
        "required": ["version", "policies"],
        "additionalProperties": False,
        "$defs": _definitions(),
    }


def schema_text() -> str:
    """Return the JSON Schema as the text of a file."""
    return json.dumps(policy_schema(), indent=2) + "\n"


def _definitions() -> dict[str, Any]:
    resource = entry_json()
    stages = {
        key: _named(entry.block.json_schema(), resource, "resource")
        for key, entry in STAGES.items()
    }
    bare = [key for key, entry in STAGES.items() if entry.block.stands_alone]
    by_key = {key: {"$ref": f"#/$defs/{key}"} for key in STAGES}
    named = {"description": "A stage of the same name under 'shared'.", "type": "string"}
    policy = SETTINGS.json_schema()
    policy["properties"]["pipeline"]["items"] = {"$ref": "#/$defs/stage"}
    return {
        "policy": policy,
        "stage": _item({**by_key, "shared": named}, bare),
        "shared": _item(by_key, bare),
        **stages,
        "resource": resource,
    }


def _named(schema: Any, part: dict[str, Any], name: str) -> Any:
    """Return a schema in which each copy of a part is a reference to the definition of a name."""
    if schema == part:
        return {"$ref": f"#/$defs/{name}"}
    if is_mapping(schema):
        return {key: _named(value, part, name) for key, value in schema.items()}
    return [_named(each, part, name) for each in schema] if is_list(schema) else schema


def _item(by_key: dict[str, Any], bare: list[str]) -> dict[str, Any]:
    one = {
        "type": "object",
        "properties": by_key,
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    return {"description": "One stage.", "anyOf": [one, {"enum": bare}]}
