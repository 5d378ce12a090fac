from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "22_database_transaction.py"


@pytest.mark.integration
def test_database_transaction(
    postgres_folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transfers that get in each other's way are all made, and nobody has more or less."""
    url = f"postgresql://postgres@/postgres?host={postgres_folder}"
    monkeypatch.setattr(sys, "argv", [str(RECIPE), url])

    runpy.run_path(str(RECIPE), run_name="__main__")

    assert capsys.readouterr().out.splitlines() == [
        "refused: not enough money",
        "balances [100, 100, 100, 100]",
        "retried some of 12 transfers",
    ]
