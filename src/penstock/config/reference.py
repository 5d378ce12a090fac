"""The YAML reference page and the JSON Schema, made from the options classes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from penstock.config.block import Block
from penstock.config.forms.backoff import Wait
from penstock.config.forms.base import Form
from penstock.config.forms.listed import ENTRY
from penstock.config.forms.resources import Resources
from penstock.config.plain import is_list, is_mapping
from penstock.config.registry import LATER, SETTINGS, STAGES
from penstock.config.schema import schema_text

__all__ = ["main", "reference_page", "write_reference"]

_HEAD = """\
# YAML reference

<!-- Made from the options classes by `python -m penstock.config.reference`; a test compares. -->

[YAML](../yaml.md) explains the format. This page lists every key.

## A file

| key | what it is |
|---|---|
| `version` | `1`; required |
| `policies` | each policy by its name; required |
| `shared` | stages that several policies share, by name |
| `allow_literal` | `true` lets texts through that look like keys |
"""


def reference_page() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, *_block("A policy", SETTINGS)]
    for key, entry in STAGES.items():
        parts += _block(f"`{key}`", entry.block)
        for form in entry.block.fields.values():
            parts += _shapes(form)
    later = ", ".join(f"`{key}`" for key in LATER)
    parts.append(f"## Not in this release\n\n{later}\n")
    return "\n".join(parts)


def write_reference(folder: Path) -> None:
    """Write the page and the JSON Schema into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "yaml.md").write_text(reference_page(), encoding="utf-8")
    (folder / "policy.schema.json").write_text(schema_text(), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Write both into the folder named on the command line, ``docs/reference`` unless given."""
    given = sys.argv[1:] if arguments is None else arguments
    write_reference(Path(given[0] if given else "docs/reference"))


def _shapes(form: Form) -> Iterator[str]:
    if isinstance(form, Resources):
        yield from _block(f"`{form.option.name}`: a source", ENTRY, level="###")
    if isinstance(form, Wait):
        for name, block in form.inside.items():
            yield from _block(f"`{form.option.name}`: `{name}`", block, level="###")


def _block(title: str, block: Block, level: str = "##") -> Iterator[str]:
    yield f"{level} {title}\n\n{block.summary}\n"
    if block.short is not None:
        example = _code(f"{block.key}: {block.fields[block.short].example}")
        yield f"Short form: {example} sets `{block.short}`.\n"
    if block.stands_alone:
        yield f"Without options: {_code(block.key)}.\n"
    yield "| key | written as | default | meaning |\n|---|---|---|---|"
    for name, form in block.fields.items():
        yield f"| `{name}` | {_cell(form.words())} | {_default(form)} | {_cell(form.option.doc)} |"
    yield ""


def _default(form: Form) -> str:
    if form.option.default is MISSING:
        return "required"
    written = form.write(form.option.default)
    return "" if written is None or isinstance(written, tuple) else _code(_flow(written))


def _flow(value: Any) -> str:
    if is_mapping(value):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if is_list(value):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _code(text: str) -> str:
    return f"`{text}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    main()
