"""A collector, a service and a Prometheus, each for real and gone after the tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

FOLDER = Path(__file__).parent
ALERTS = FOLDER.parents[2] / "docs" / "telemetry" / "alerts.yml"

# Scrapes and answers take milliseconds; a busy machine gets this long.
PATIENCE = 30


def until(look: Callable[[], Any]) -> Any:
    """Look again and again until there is something, and return it."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, f"nothing came within {PATIENCE} s"
        time.sleep(0.1)
    return found


@pytest.fixture(name="until")
def _until() -> Callable[[Callable[[], Any]], Any]:
    return until


@contextmanager
def script(name: str) -> Iterator[int]:
    """Run a script of this folder until the block ends, and yield the port that it tells."""
    command = [sys.executable, str(FOLDER / name)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        try:
            assert running.stdout
            yield int(running.stdout.readline())
            assert running.stdin
            running.stdin.close()
            assert running.wait(10) == 0
        finally:
            running.kill()


class Received:
    """What a collector was sent, with attributes as plain dictionaries."""

    def __init__(self, exports: list[dict[str, Any]]) -> None:
        self.bytes = "".join(export["bytes"] for export in exports)
        self.spans = _items(exports, "resourceSpans", "scopeSpans", "spans")
        self.metrics = _items(exports, "resourceMetrics", "scopeMetrics", "metrics")
        self.logs = _items(exports, "resourceLogs", "scopeLogs", "logRecords")

    def call(self, policy: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return a policy's first call: its span and those of its attempts, in their order."""
        calls = [s for s in self.spans if s["attributes"].get("penstock.policy.name") == policy]
        span = min(calls, key=lambda each: int(each["startTimeUnixNano"]))
        return span, self.children(span)

    def children(self, span: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the spans directly below one, in their order."""
        below = [each for each in self.spans if each.get("parentSpanId") == span["spanId"]]
        return sorted(below, key=lambda each: int(each["startTimeUnixNano"]))

    def points(self, name: str) -> list[dict[str, Any]]:
        """Return the points of a metric, their attributes in ``by``."""
        (metric,) = (each for each in self.metrics if each["name"] == name)
        (data,) = (metric[kind] for kind in ("sum", "gauge", "histogram") if kind in metric)
        return [{**point, "by": _plain(point)} for point in data["dataPoints"]]


def _items(exports: list[dict[str, Any]], *path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [export["message"] for export in exports]
    for key in path:
        found = [each for item in found for each in item.get(key, ())]
    return [{**each, "attributes": _plain(each)} for each in found]


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in item.get("attributes", ())}


def _value(value: dict[str, Any]) -> Any:
    ((kind, plain),) = value.items()
    return int(plain) if kind == "intValue" else plain


class Collector:
    """A running collector."""

    def __init__(self, url: str) -> None:
        self.url = url

    def received(self) -> Received:
        """Return what it was sent until now."""
        return Received(httpx.get(f"{self.url}/received", trust_env=False).json())


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Run a collector in a process of its own."""
    with script("otlp_receiver.py") as port:
        yield Collector(f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module")
def service() -> Iterator[ThreadingHTTPServer]:
    """Serve ``/search``, which succeeds at the third time, ``/broken`` and ``/slow``."""
    first = deque([(429, {"Retry-After": "60"}), (503, {})])
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/slow"):
                stopped.wait(PATIENCE)
                return
            broken = self.path.startswith("/broken")
            status, headers = (500, {}) if broken else first.popleft() if first else (200, {})
            body = json.dumps(["found"]).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def debian_prometheus() -> dict[str, str]:
    """Return the paths of Prometheus' two programs; without them the tests are skipped."""
    found = {name: shutil.which(name) for name in ("prometheus", "promtool")}
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"{' and '.join(missing)} not found: install Debian's package prometheus")
    return {name: str(path) for name, path in found.items()}


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **params: str) -> Any:
        """Ask its API, and return the data of the answer."""
        response = httpx.get(f"{self._url}/api/v1/{path}", params=params, trust_env=False)
        answer = response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series of an expression, now."""
        return self.get("query", query=expr)["result"]

    def values(self, expr: str, *labels: str) -> dict[Any, float]:
        """Return the values of an expression by labels, once it has any."""
        series = until(lambda: self.query(expr))
        keys = [tuple(each["metric"][label] for label in labels) for each in series]
        return {key: float(each["value"][1]) for key, each in zip(keys, series, strict=True)}

    def is_ready(self) -> bool:
        """Return True as soon as it answers."""
        try:
            return httpx.get(f"{self._url}/-/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def prometheus(
    debian_prometheus: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Run a Prometheus with our alerts, which scrapes a program that calls under policies."""
    folder = tmp_path_factory.mktemp("prometheus")
    with script("scraped_program.py") as target:
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {"job_name": "calls", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        with _prometheus(debian_prometheus["prometheus"], folder) as running:
            yield running


@contextmanager
def _prometheus(program: str, folder: Path) -> Iterator[Prometheus]:
    # It does not say which port it got if it is told to take any.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    log = folder / "log"
    with (
        log.open("wb") as lines,
        subprocess.Popen(
            command, stdout=lines, stderr=lines, cwd=folder, env={**os.environ, "GOMAXPROCS": "1"}
        ) as running,
    ):
        try:
            one = Prometheus(f"http://{address}")
            until(lambda: running.poll() is not None or one.is_ready())
            assert running.poll() is None, log.read_text("utf-8")
            yield one
        finally:
            running.terminate()
            try:
                running.wait(10)
            finally:
                running.kill()
