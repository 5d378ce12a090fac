"""What importing costs those who load no file."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("yaml", "pydantic", "pydantic_core", "typer", "rich", "penstock.config", "jsonschema")


def loaded(statement: str) -> set[str]:
    """Return which heavy modules a statement imports in a fresh process."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([*sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout)) & {*HEAVY}


@pytest.mark.integration
def test_importing_penstock_imports_no_yaml_and_no_pydantic():
    """They are paid for by whoever loads a file."""
    assert loaded("import penstock") == set()


@pytest.mark.integration
def test_loading_a_dict_needs_no_command_line():
    """The library does not need the extra of the command."""
    found = loaded(
        "import penstock\n"
        "penstock.Policy.from_dict({'version': 1, 'policies': {'p': {'pipeline': []}}})"
    )

    assert "pydantic" in found
    assert found.isdisjoint({"typer", "rich"})
