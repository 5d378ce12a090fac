from __future__ import annotations

import pytest

from tests.integrations.table import scan

# The numbered pitfalls of client libraries that the integrations were designed round.
FINDINGS = range(1, 16)


@pytest.mark.parametrize("number", FINDINGS)
def test_each_finding_has_a_test(number: int):
    """A pitfall that nobody tests is one that comes back."""
    tests = [path for path, arguments in scan("finding") if arguments == [number]]

    assert tests
