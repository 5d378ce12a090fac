"""What the tests of policy files share."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent, indent
from typing import Any

import pytest

from penstock.config import Checked, check_text

Check = Callable[..., Checked]


@pytest.fixture
def check_file() -> Check:
    """Check the text of a whole file."""

    def check(text: str, **settings: Any) -> Checked:
        return check_text(dedent(text).encode(), **settings)

    return check


@pytest.fixture
def check_stages() -> Check:
    """Check the stages of one policy, written as the items of its pipeline."""

    def check(text: str) -> Checked:
        head = "version: 1\npolicies:\n  p:\n    pipeline:\n"
        return check_text((head + indent(dedent(text).strip(), "      ")).encode())

    return check


@pytest.fixture
def complaints(check_stages: Check) -> Callable[[str], list[str]]:
    """Return what is said about stages: message and hint of each problem."""

    def complain(text: str) -> list[str]:
        problems = check_stages(text).problems
        return [f"{each.message} | {each.hint or ''}".rstrip("| ") for each in problems]

    return complain
