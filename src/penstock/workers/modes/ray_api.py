"""Ray, imported once: it is an extra, and what its types say is of no help here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["cloudpickle", "exceptions", "ray"]

try:
    ray: Any = import_module("ray")
except ImportError as error:
    raise ImportError(
        "mode='ray' needs Ray; install it with: pip install 'penstock[ray]'"
    ) from error

cloudpickle: Any = import_module("ray.cloudpickle")
exceptions: Any = import_module("ray.exceptions")
