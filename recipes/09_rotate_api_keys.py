"""Rotate API keys: a limited one rests, a revoked one is out, a spent one is not asked at all."""

from collections import Counter

import httpx

from penstock import Event, Policy, Resource, current_lease
from penstock.events import ResourceChanged
from penstock.testing import run

API = "https://api.example.com"
KEYS = {"ann": "sk-ann", "ben": "sk-ben", "eve": "sk-eve"}  # from the environment, a vault, ...


def tell(event: Event) -> None:
    if isinstance(event, ResourceChanged):
        rest = f" for {event.seconds:g} s" if event.seconds else ""
        print(f"{event.at:g} s: {event.resource} is {event.new}{rest} ({event.reason})")


policy = (
    Policy("search", observers=[tell])
    .with_timeout(90)  # the whole call, waiting for a key included
    .with_retry(attempts=4)  # goes on to another key at once
    .rotating([Resource(key, id=name, origins=[API]) for name, key in KEYS.items()])
)


@policy
async def search(key: Resource[str], http: httpx.AsyncClient, query: str) -> str:
    url = f"{API}/search"
    headers = {"Authorization": f"Bearer {key.value_for(url)}"}  # nowhere but to its origins
    response = await http.get(url, params={"q": query}, headers=headers)
    response.raise_for_status()  # 401, 429 with Retry-After: the policy knows what they mean
    current_lease().report(headers=response.headers)  # spent: it rests before there is a 429
    return f"{query} by {key.id}"


used: Counter[str] = Counter()


def service(request: httpx.Request) -> httpx.Response:
    """Stands in for the API: three requests a key; only eve's answers say so beforehand."""
    key = request.headers["Authorization"].removeprefix("Bearer sk-")
    used[key] += 1
    if key == "ben":
        return httpx.Response(401)
    if key == "ann" and used[key] == 4:
        return httpx.Response(429, headers={"Retry-After": "20"})
    left = {"RateLimit-Remaining": str(3 - used[key]), "RateLimit-Reset": "45"}
    return httpx.Response(200, headers=left if key == "eve" else {})


async def main() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(service)) as http:
        print([await search(http, f"q{n}") for n in range(7)])


if __name__ == "__main__":
    run(main())  # in virtual time: the last query waits for ann's return
