"""``penstock check``: every mistake of policy files, with line and column."""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from penstock.config import Checked

__all__ = ["Format", "check"]


class Format(enum.Enum):
    """How the report is written."""

    TEXT = "text"
    JSON = "json"


_STYLES = {
    "error": "bold red",
    "warning": "bold yellow",
    "place": "bold",
    "source": "",
    "caret": "bold red",
    "note": "cyan",
    "": "",
}


def check(
    files: Annotated[list[Path], typer.Argument(help="Policy files.", metavar="FILE")],
    output: Annotated[
        Format, typer.Option("--format", "-f", help="Text for people, JSON for programs.")
    ] = Format.TEXT,
) -> None:
    """Check policy files and report every mistake with its line and column.

    Ends with 1 where there is an error, else with 0; warnings do not count. Modules that a file
    names by `{python: ...}` are imported, from the current directory too.
    """
    # As with `python -m`: the command's own directory would be there instead.
    sys.path.insert(0, str(Path.cwd()))
    results = [(str(file), _checked(file)) for file in files]
    if output is Format.JSON:
        typer.echo(json.dumps([_as_json(name, found) for name, found in results], indent=2))
    else:
        _print(results)
    if any(not found.policies for _, found in results):
        raise typer.Exit(1)


def _checked(file: Path) -> Checked:
    from penstock import config  # noqa: PLC0415 - pydantic takes 0.2 s

    try:
        return config.check(file)
    except OSError as error:
        message = error.strerror or type(error).__name__
        return config.Checked({}, (config.Problem(message, str(file)),))


def _as_json(name: str, found: Checked) -> dict[str, Any]:
    return {
        "file": name,
        "policies": list(found.policies),
        "problems": [problem.as_dict() for problem in found.problems],
    }


def _print(results: list[tuple[str, Checked]]) -> None:
    from penstock.config.report import report_lines  # noqa: PLC0415 - pydantic takes 0.2 s

    # Without a terminal this is the plain text of the report, and never wrapped.
    console = Console(highlight=False, soft_wrap=True)
    for name, found in results:
        for line in report_lines(found.problems, name):
            console.print(Text.assemble(*((text, _STYLES[style]) for style, text in line)))
        if found.policies:
            console.print(Text(f"{name}: ok ({', '.join(found.policies)})"))
