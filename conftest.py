"""Every code block of a page is a test: of README.md and of what is in docs/.

Python blocks of one page run in order and share their names. A YAML block has to load as a policy
file; a bare list in one is taken as a pipeline. ``<!-- skip: next -->`` leaves the next block out.
"""

from __future__ import annotations

from textwrap import indent

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from penstock.config import check_text, report

_PIPELINE = "version: 1\npolicies:\n  example:\n    pipeline:\n"


def load_yaml(example: Example) -> str | None:
    """Load a YAML block, and return what is wrong with it."""
    lines = [line for line in example.parsed.splitlines() if line and not line.startswith("#")]
    text = str(example.parsed)
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
).pytest()
