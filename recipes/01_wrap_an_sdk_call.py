"""Put a policy round the call of an SDK; here httpx stands in for it.

Run it against any server: python recipes/01_wrap_an_sdk_call.py http://127.0.0.1:8000
"""

import asyncio
import sys

import httpx

from penstock import Policy

policy = (
    # Some clients raise for a 503, others return it: with "http" a response is judged too.
    Policy("forecast", classify_result="http")
    .with_timeout(20)  # the whole call
    .with_retry(attempts=6)  # waits for Retry-After after a 429, backs off after a 503
    .with_breaker(failures=10, recover_after=5)
    .with_timeout(2)  # each attempt
)


class Forecasts:
    """What an SDK's client looks like. Switch off its own retries, or they multiply with ours."""

    def __init__(self, base_url: str) -> None:
        # timeout=None: the policy bounds the time, and knows why it cancelled.
        self._http = httpx.AsyncClient(base_url=base_url, timeout=None)

    @policy
    async def work(self, number: int) -> dict[str, int]:
        response = await self._http.get(f"/work/{number}")
        response.raise_for_status()  # the policy reads status and headers from the error
        return response.json()

    async def aclose(self) -> None:
        await self._http.aclose()


async def main(base_url: str) -> None:
    client = Forecasts(base_url)
    # By decorator ...
    print(await client.work(0))
    await client.aclose()

    # ... or, for code that is not yours, call by call.
    async with httpx.AsyncClient(base_url=base_url, timeout=None) as http:
        response = await policy.call(http.get, "/work/1")
        print(response.status_code)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
