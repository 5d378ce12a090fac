"""The demo's server, a program of its own: ``python -m penstock.demo.server --calls 300``.

It prints its port on standard output and serves until its standard input ends, so that it cannot
outlive the demo, however that ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterable

from penstock import clock
from penstock.demo.rotation.service import KeyedService
from penstock.demo.script import Kind, Script

__all__ = ["DemoServer", "main"]

# On, and 0 seconds: closing the socket then sends a reset instead of a farewell.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_KEY = re.compile(rb"^authorization: bearer (\S+)\r$", re.IGNORECASE | re.MULTILINE)

_REASONS = {"200": "OK", "401": "Unauthorized", "429": "Too Many Requests", "503": "Busy"}


class DemoServer:
    """Answers ``GET /work/<call>`` by the script, ``GET /keyed/<call>`` by the key that is sent.

    ``GET /seen`` and ``GET /seen/keys`` are answered with what it has counted.

    Args:
        script: What becomes of each call.
        keys: What becomes of each key.
    """

    def __init__(self, script: Script, keys: KeyedService) -> None:
        self._script = script
        self._keys = keys
        self._seen: Counter[Kind] = Counter()

    async def start(self) -> asyncio.Server:
        """Listen on a free port of the loopback interface."""
        return await asyncio.start_server(self._talk, "127.0.0.1", 0)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._serve_one(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client has gone (that is what slow answers are for), or the server ends: Python
            # 3.11 would print a traceback for each handler that ends cancelled.
            return
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await reader.readuntil(b"\r\n\r\n")
        path = request.split(b" ", 2)[1].decode()
        folder, _, name = path.rpartition("/")
        if folder == "/work":
            return await self._misbehave(int(name), writer)
        if folder == "/keyed":
            await self._ask_for_key(int(name), _key_in(request), writer)
        else:
            seen = self._keys.seen if name == "keys" else self._seen_by_kind()
            writer.write(_response("200", json.dumps(seen)))
        return True

    def _seen_by_kind(self) -> dict[str, int]:
        return {kind.value: count for kind, count in self._seen.items()}

    async def _ask_for_key(self, call: int, key: str, writer: asyncio.StreamWriter) -> None:
        answer = self._keys.answer(key, clock.now())
        await asyncio.sleep(answer.after)
        body = json.dumps({"call": call})
        writer.write(_response(str(answer.status), body, answer.headers))

    async def _misbehave(self, call: int, writer: asyncio.StreamWriter) -> bool:
        answer = self._script.next(call)
        self._seen[answer.kind] += 1
        await asyncio.sleep(answer.after)
        match answer.kind:
            case Kind.RESET:
                _reset(writer)
                return False
            case Kind.OK | Kind.SLOW:
                writer.write(_response("200", json.dumps({"call": call})))
            case _:
                writer.write(_response(answer.kind.value, "{}", answer.headers))
        return True


def _key_in(request: bytes) -> str:
    found = _KEY.search(request)
    return found[1].decode() if found else ""


def _response(status: str, body: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "Content-Type: application/json", "", body]).encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def _serve(script: Script, keys: KeyedService) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def wait_for_end_of_input() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    server = await DemoServer(script, keys).start()
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the demo reads it
    await over.wait()
    server.close()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--calls", type=int, default=300)
    given = parser.parse_args()
    # Ctrl-C goes to every program of the terminal; the demo ends this one itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(Script(given.seed, given.calls), KeyedService(given.seed)))


if __name__ == "__main__":
    main()
