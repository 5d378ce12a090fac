"""On what a figure was measured."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["facts"]

_PACKAGES = (
    "penstock",
    "tenacity",
    "aiolimiter",
    "pybreaker",
    "hyx",
    "pyresilience",
    "resilix",
    "rotapool",
    "uvloop",
)


def facts(loop: str, effort: str) -> dict[str, str]:
    """Return what a reader needs to compare with figures of their own."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),  # noqa: UP017 - reads as it is meant
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "event loop": loop,
        "effort": effort,
        "packages": ", ".join(filter(None, map(_versioned, _PACKAGES))),
    }


def _versioned(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"
