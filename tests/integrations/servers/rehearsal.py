"""What ``serve`` is tested with: a program that serves nothing, well or badly.

``python -m tests.integrations.servers.rehearsal <how> [<word>]``
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from tests.integrations.serving import stdin_ends, tell


def main(how: str, word: str = "") -> None:
    """Behave as told: ``well``, ``raises``, ``silent``, ``stubborn`` or ``talkative``."""
    match how:
        case "raises":
            raise RuntimeError(word)
        case "silent":
            time.sleep(60)
        case "stubborn":
            tell(os.getpid())
            time.sleep(60)
        case "talkative":
            tell(os.getpid())
            tell("x" * 1_000_000)
            asyncio.run(stdin_ends())
        case "fails":
            tell(os.getpid())
            asyncio.run(stdin_ends())
            raise RuntimeError(word)
        case _:
            tell(f"{os.getpid()} {word} {os.environ.get('REHEARSAL', '')}")
            asyncio.run(stdin_ends())


if __name__ == "__main__":
    main(*sys.argv[1:])
