"""What the tests of HTTP clients have in common: the server, its scripts and what has arrived."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple

from tests.integrations.serving import serve

__all__ = ["Script", "Scripts", "scripts"]


class Script(NamedTuple):
    """The requests of one test.

    Attributes:
        server: Where they go.
        path: Below which they take its steps.
    """

    server: Scripts
    number: int

    @property
    def url(self) -> str:
        """Where requests to the first port go."""
        return self.on(0)

    def on(self, port: int) -> str:
        """Return where requests to one of the ports go."""
        return f"{self.server.origin(port)}/s/{self.number}"

    def log(self) -> dict[str, Any]:
        """Return what has arrived, and how much was under way at once."""
        return self.server.ask("GET", f"/scripts/{self.number}")

    def arrived(self) -> list[dict[str, Any]]:
        """Return what has arrived: method, target, headers, body and port of each request."""
        found: list[dict[str, Any]] = self.log()["arrived"]
        return found


class Scripts:
    """A server that is running, and takes scripts."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports

    def origin(self, port: int = 0) -> str:
        """Return scheme, host and one of the ports."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def __call__(self, *steps: dict[str, Any]) -> Script:
        """Register a script; see ``servers/http.py`` for its steps."""
        return Script(self, self.ask("POST", "/scripts", json.dumps(steps)))

    def everywhere(self, *steps: dict[str, Any]) -> Script:
        """Register a script for all requests that belong to no other."""
        return Script(self, self.ask("POST", "/scripts/0", json.dumps(steps)))

    def ask(self, method: str, path: str, body: str | None = None) -> Any:
        """Return the server's answer to a request of the test's own."""
        connection = HTTPConnection("127.0.0.1", self.ports[0], timeout=5)
        try:
            connection.request(method, path, body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def scripts() -> Generator[Scripts]:
    """Run the server until the block ends."""
    with serve("http") as ports:
        yield Scripts([int(port) for port in ports.split()])
