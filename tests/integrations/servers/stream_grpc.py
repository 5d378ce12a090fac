"""A gRPC service whose one streaming method plays what its request says; bytes both ways.

``python -m tests.integrations.servers.stream_grpc`` prints its address. A request of
``/streams/Play`` is JSON with a ``name`` and ``plays``: the n-th request of that name takes the
n-th play, a list of steps: ``{"send": "word"}``, ``{"wait": 2}`` or ``{"fail": "UNAVAILABLE"}``.
``/streams/Told`` takes a name, and tells the key of each such request and how it ended.
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
        self.told: defaultdict[str, list[dict[str, str]]] = defaultdict(list)

    async def play(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Do what the request says."""
        script = json.loads(request)
        told = self.told[script["name"]]
        play = script["plays"][len(told)]
        key = dict(context.invocation_metadata()).get("key", "")
        told.append({"key": key, "ended": "read"})
        at = told[-1]
        try:
            for step in play:
                if "send" in step:
                    yield step["send"].encode()
                elif "wait" in step:
                    await asyncio.sleep(step["wait"])
                else:
                    await context.abort(grpc.StatusCode[step["fail"]], "as asked")
        except (asyncio.CancelledError, GeneratorExit):
            # Cancelled while it waits, or closed while its item is on the way.
            at["ended"] = "left"
            raise

    async def tell(self, request: bytes, context: Any) -> bytes:
        """Say what became of the requests of a name."""
        return json.dumps(self.told[request.decode()]).encode()


async def main() -> None:
    """Serve until stdin ends."""
    service, server = Service(), aio.server()
    handlers = {
        "Play": grpc.unary_stream_rpc_method_handler(service.play),
        "Told": grpc.unary_unary_rpc_method_handler(service.tell),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("streams", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tell(f"127.0.0.1:{port}")
    await stdin_ends()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
