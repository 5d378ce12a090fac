"""10,000 requests with progress: paced, capped, tried again; no failure ends the batch."""

import asyncio
import sys
import time

import httpx

from penstock import Policy
from penstock.integrations.httpx import PolicyTransport

URL, HOW_MANY = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000

# What every request of the client obeys, also those of other parts of the program.
service = (
    Policy("service")
    .with_timeout(30)
    .with_retry(attempts=4, wait=0.05)
    .with_rate(5_000)
    .with_concurrency(50)
)


async def main() -> None:
    transport = PolicyTransport(service, httpx.AsyncHTTPTransport(verify=False))
    async with httpx.AsyncClient(transport=transport) as client:

        async def item(number: int) -> int:
            response = await client.get(URL, params={"item": number})
            response.raise_for_status()  # the last answer, when no attempt has brought a good one
            return len(response.content)

        began = time.perf_counter()
        # Results in the order of the items; an error takes its item's place. progress=True draws
        # a bar; a function is told of every item that is done.
        results = await Policy("batch").gather(
            item,
            range(HOW_MANY),
            concurrency=50,  # no more than the service takes, or the rest would wait inside
            return_exceptions=True,
            progress=lambda done, total: done % 1_000 == 0 and print(f"{done} of {total}"),
        )
        seconds = time.perf_counter() - began

    failed = [result for result in results if isinstance(result, Exception)]
    read = sum(result for result in results if isinstance(result, int))
    print(f"{len(results) - len(failed)} answers, {read} bytes, {len(failed)} failed")
    print(f"{HOW_MANY / seconds:,.0f} a second")


if __name__ == "__main__":
    asyncio.run(main())
