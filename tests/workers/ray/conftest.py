"""A Ray of a test module's own: small, on this machine, and gone after it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = str(Path(__file__).parent)

# Enough for the largest thing that a test sends; Ray takes a third of the memory else.
STORE = 80 * 2**20

QUIET: dict[str, Any] = {
    "include_dashboard": False,
    "object_store_memory": STORE,
    "log_to_driver": False,
    "logging_level": "error",
}


@pytest.fixture(scope="module")
def ray_environment() -> Iterator[None]:
    """Let actors import the workers of the tests, and Ray talk to nobody."""
    with pytest.MonkeyPatch.context() as patch:
        # Test modules are not on the path, neither here nor where the actors are.
        patch.syspath_prepend(HERE)
        paths = [HERE, *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield


@pytest.fixture(scope="module")
def ray_here(ray_environment: None) -> Iterator[Any]:
    """Return Ray, connected to one node on this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'penstock[ray]'")
    ray.init(address="local", num_cpus=2, **QUIET)
    yield ray
    ray.shutdown()


@pytest.fixture
def gone() -> Callable[[int], None]:
    """Return what waits until a process has ended."""

    def wait(pid: int) -> None:
        by = time.monotonic() + 10.0
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < by, f"process {pid} is still there"
            time.sleep(0.01)

    return wait
