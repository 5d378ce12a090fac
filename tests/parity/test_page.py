from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "parity.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)

IDS = [
    *(f"R{number}" for number in range(1, 31)),
    *(f"W{number}" for number in range(1, 13)),
    *(f"D{number}" for number in range(1, 20)),
    *(f"C{number}" for number in range(1, 32)),
    *(f"T{number}" for number in range(1, 18)),
    *(str(number) for number in range(1, 29)),
]


def names_in(path: str) -> set[str]:
    """Return the names of the test functions in a file below tests/."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_every_test_that_the_page_names_exists(path: str) -> None:
    """A renamed test takes its line on the page along."""
    named = {name for where, name in NAMED if where == path}

    assert named <= names_in(path)


@pytest.mark.parametrize("row", IDS)
def test_every_row_names_a_test(row: str) -> None:
    """Exactly one line per id, with at least one test."""
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| {row} |")]

    assert len(lines) == 1
    assert "::test_" in lines[0]


@pytest.mark.parametrize(
    "path",
    [
        "test_rotapool.py",
        "test_werkpool.py",
        "test_dspu.py",
        "test_concurry.py",
        "test_concurry_retry.py",
        "test_taskforeman.py",
    ],
)
def test_every_parity_test_stands_on_the_page(path: str) -> None:
    """A test of parity that no row names shows nothing to anybody."""
    named = {name for where, name in NAMED if where == f"parity/{path}"}

    assert {name for name in names_in(f"parity/{path}") if name.startswith("test_")} == named
