"""Every code block of a page is a test: of README.md and of what is in docs/.

Python blocks of one page run in order, share their names, and find the recipes where they are. A
YAML block has to load as a policy file; a bare list in one is taken as a pipeline, and one whose
first line is ``# name.yaml`` is written to that file too, for the blocks after it.
``<!-- skip: next -->`` leaves the next block out.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent
from typing import Any

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from penstock.config import check_text, report

_PIPELINE = "version: 1\npolicies:\n  example:\n    pipeline:\n"
_RECIPES = Path(__file__).with_name("recipes")
_NAMED = re.compile(r"# ([\w.-]+\.yaml)\n")


def enter_folder(namespace: dict[str, Any]) -> None:
    """Let a page begin with nothing around it but the recipes."""
    folder = TemporaryDirectory()
    shutil.copytree(_RECIPES, Path(folder.name, "recipes"))
    namespace["_left"], namespace["_folder"] = Path.cwd(), folder
    os.chdir(folder.name)


def leave_folder(namespace: dict[str, Any]) -> None:
    """Go back, and take the folder away."""
    os.chdir(namespace["_left"])
    namespace["_folder"].cleanup()


def load_yaml(example: Example) -> str | None:
    """Load a YAML block, and return what is wrong with it."""
    text = str(example.parsed)
    if named := _NAMED.match(text):
        Path(named[1]).write_text(text, encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    if lines and lines[0].startswith("- "):
        text = _PIPELINE + indent(text, "      ")
    problems = check_text(text.encode()).problems
    return report(problems, example.path) if problems else None


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser("yaml", load_yaml),
        SkipParser(),
    ],
    patterns=["*.md"],
    setup=enter_folder,
    teardown=leave_folder,
).pytest()
