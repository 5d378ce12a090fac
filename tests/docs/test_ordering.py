from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.order import RULES, Level, OrderRule

PAGE = (Path(__file__).parents[2] / "docs" / "ordering.md").read_text(encoding="utf-8")


def section_of(rule: OrderRule) -> str:
    """Return what stands under a rule's heading."""
    _, _, rest = PAGE.partition(f"\n### {rule.name}\n")
    return re.split(r"\n##", rest)[0]


def test_the_table_lists_every_rule_with_its_level() -> None:
    """In the order of the code; a new rule fails here until the page explains it."""
    rows = re.findall(r"^\| \[([\w-]+)\]\(#([\w-]+)\) \| (\w+) \|$", PAGE, re.MULTILINE)

    assert rows == [(rule.name, rule.name, rule.level.value) for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_has_an_example_of_wrong_and_right(rule: OrderRule) -> None:
    """The examples themselves are run like every code block of the pages."""
    section = section_of(rule)
    wrong = "refusal(" if rule.level is Level.ERROR else f'"{rule.name}",'

    assert wrong in section
    assert "== []" in section
