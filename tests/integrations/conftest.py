"""What the tests that pass have shown stands in docs/integrations/index.md."""

from __future__ import annotations

import pytest

from tests.integrations.databases import postgres_folder, redis_folders
from tests.integrations.table import Table

__all__ = ["postgres_folder", "redis_folders"]


def pytest_configure(config: pytest.Config) -> None:
    """Watch the whole run: a test elsewhere may cover a cell too."""
    config.pluginmanager.register(Table(config), "penstock-integrations-table")
