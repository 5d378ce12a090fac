"""An OTLP/HTTP receiver: it tells its port, takes exports until stdin ends, and shows them.

``GET /received`` answers with every export in its order: the path, the decoded message, and all
the bytes that came (request line, headers, body as sent and inflated), as Latin-1 text.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MESSAGES: dict[str, Any] = {
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/traces": ExportTraceServiceRequest,
}

received: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    """Decodes one export; what cannot be decoded is answered with a 500, and told on stderr."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take an export."""
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        is_small = self.headers.get("Content-Encoding") == "gzip"
        body = gzip.decompress(sent) if is_small else sent
        message = MessageToDict(MESSAGES[self.path].FromString(body))
        head = f"{self.requestline}\n{self.headers}".encode("latin-1")
        came = (head + sent + body).decode("latin-1")
        received.append({"path": self.path, "message": message, "bytes": came})
        # An empty message: everything was accepted.
        self._answer(b"", "application/x-protobuf")

    def do_GET(self) -> None:
        """Show what came."""
        self._answer(json.dumps(received).encode(), "application/json")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until whoever started it closes stdin, or is gone."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
