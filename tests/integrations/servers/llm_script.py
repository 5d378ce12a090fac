"""A test's side of ``llm.py``: it says what the service does, and asks what it has seen."""

from __future__ import annotations

import itertools
import json
import urllib.request
from typing import Any

_numbers = itertools.count(1)


class Script:
    """One script on a running server.

    Args:
        server: The server's URL.
        steps: By key, ``"*"`` for any; see ``llm.py``.
    """

    def __init__(self, server: str, steps: dict[str, list[dict[str, Any]]]) -> None:
        self.server = server
        self.name = str(next(_numbers))
        self.url = f"{server}/s/{self.name}"
        _ask(f"{server}/script/{self.name}", json.dumps(steps).encode())

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The requests so far: ``path``, ``key``, ``headers``, ``body``."""
        seen: list[dict[str, Any]] = _ask(f"{self.server}/seen/{self.name}")
        return seen

    @property
    def keys(self) -> list[str]:
        """The key of each request so far."""
        return [request["key"] for request in self.seen]


def _ask(url: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(url, data, timeout=5) as answer:
        return json.load(answer)
