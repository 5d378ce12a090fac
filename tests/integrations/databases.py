"""A Redis and a PostgreSQL of Debian's for tests; without their programs the tests are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integrations.serving import serve

__all__ = ["postgres_folder", "redis_folders"]

# Debian keeps several versions of PostgreSQL beside each other, off the PATH.
_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)


def _folder_of(program: str, package: str, *elsewhere: Path) -> Path:
    found = shutil.which(program)
    places = [Path(found)] if found else list(elsewhere)
    if not places:
        pytest.skip(f"{program} not found: install Debian's package {package}")
    return places[0].parent


@pytest.fixture(scope="session")
def redis_folders() -> Iterator[list[str]]:
    """Run two Redis servers; their sockets are ``redis.sock`` in these folders."""
    programs = _folder_of("redis-server", "redis-server")
    with ExitStack() as running:
        yield [running.enter_context(serve("database", "redis", programs)) for _ in range(2)]


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[str]:
    """Run a PostgreSQL; its socket is in this folder."""
    programs = _folder_of("postgres", "postgresql", *_POSTGRES)
    if not (programs / "initdb").exists():
        pytest.skip("initdb not found beside postgres: install Debian's package postgresql")
    with serve("database", "postgres", programs) as folder:
        yield folder
