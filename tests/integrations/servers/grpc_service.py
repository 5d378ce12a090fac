"""A gRPC service that misbehaves as told; bytes both ways, no protobuf.

``python -m tests.integrations.servers.grpc_service`` prints the ports of the same service on two
addresses.

A request of ``/calls/One`` and ``/calls/Many`` is JSON with a ``name`` and ``plays``: the n-th
request of that name takes the n-th play, the last is repeated. A play is a list of steps:
``{"send": "word"}``, ``{"wait": seconds}``, ``{"fail": "UNAVAILABLE", "trailing": {...}}``,
``{"say": {...}}`` for initial metadata. ``/calls/Told`` takes a name and tells what came of it.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio

from tests.integrations.serving import stdin_ends, tell


class Service:
    """What was asked for, by name."""

    def __init__(self) -> None:
        self.told: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    async def one(self, request: bytes, context: Any) -> bytes:
        """Return the first word of the play."""
        async for word in self.many(request, context):
            return word
        return b""

    async def many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Play."""
        script = json.loads(request)
        told, plays = self.told[script["name"]], script["plays"]
        play = plays[min(len(told), len(plays) - 1)]
        left = context.time_remaining()
        at = {"metadata": dict(context.invocation_metadata()), "left": left, "ended": "read"}
        told.append(at)
        try:
            for step in play:
                if "send" in step:
                    yield step["send"].encode()
                elif "wait" in step:
                    await asyncio.sleep(step["wait"])
                elif "say" in step:
                    await context.send_initial_metadata(tuple(step["say"].items()))
                else:
                    trailing = tuple(step.get("trailing", {}).items())
                    code = grpc.StatusCode[step["fail"]]
                    await context.abort(code, "as asked", trailing)
        except asyncio.CancelledError:
            at["ended"] = "left"
            raise

    async def count(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        """Return how many requests there were."""
        return str(len([request async for request in requests])).encode()

    async def tell(self, request: bytes, context: Any) -> bytes:
        """Say what became of the requests of a name."""
        return json.dumps(self.told[request.decode()]).encode()


async def main() -> None:
    """Serve until stdin ends."""
    service, server = Service(), aio.server()
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(service.one),
        "Many": grpc.unary_stream_rpc_method_handler(service.many),
        "Count": grpc.stream_unary_rpc_method_handler(service.count),
        "Told": grpc.unary_unary_rpc_method_handler(service.tell),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("calls", handlers)])
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(2)]
    await server.start()
    tell(" ".join(map(str, ports)))
    await stdin_ends()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
