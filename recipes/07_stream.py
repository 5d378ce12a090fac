"""Stream under a policy: opened again until the first item comes, held until it is closed."""

import asyncio
from collections.abc import AsyncIterator

from penstock import Policy
from penstock.testing import run

policy = Policy("stream").with_retry(attempts=3, wait=0.5).with_concurrency(4).with_timeout(10)

connections: list[str] = []


async def tokens(prompt: str) -> AsyncIterator[str]:
    """What an SDK returns for stream=True; the first connection breaks before any token."""
    connections.append(prompt)
    await asyncio.sleep(0.2)
    if len(connections) == 1:
        raise ConnectionResetError("closed before the first token")
    for word in prompt.split():
        yield word
        await asyncio.sleep(0.1)
        if word == "broken":
            raise ConnectionResetError("closed in the middle")


async def main() -> None:
    # Entering waits for the first item. Until then a failure is retried like any other.
    async with policy.stream(tokens, "water drives the turbine") as items:
        print(policy.snapshot()["stages"][1]["in_flight"], "permit held while it is read")
        print([word async for word in items], "from connection", len(connections))

    # Leaving early closes the source and gives the permit back at once.
    async with policy.stream(tokens, "one two three") as items:
        async for word in items:
            print("only", word)
            break
    print(policy.snapshot()["stages"][1]["in_flight"], "held after it")

    # After the first item nothing is replayed: what was handed on cannot be taken back.
    try:
        async with policy.stream(tokens, "soon broken off") as items:
            async for word in items:
                print(word)
    except ConnectionResetError as error:
        print(error)


if __name__ == "__main__":
    run(main())  # in virtual time
