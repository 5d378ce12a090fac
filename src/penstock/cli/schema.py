"""``penstock schema``: the JSON Schema of policy files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["schema"]


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")
    ] = None,
) -> None:
    """Print the JSON Schema of policy files, for editors.

    Write it beside the policy file and begin that file with the line
    `# yaml-language-server: $schema=./policy.schema.json`.
    """
    from penstock.config.schema import schema_text  # noqa: PLC0415 - pydantic takes 0.2 s

    if output is None:
        typer.echo(schema_text(), nl=False)
        return
    try:
        output.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        typer.echo(f"{output}: error: {error.strerror}", err=True)
        raise typer.Exit(1) from None
