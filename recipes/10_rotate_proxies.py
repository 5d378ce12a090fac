"""Rotate proxies: one client each; a blocked one rests, a visit keeps its proxy, new ones join."""

import httpx

from penstock import CooldownResource, Policy, Pool, Resource
from penstock.testing import run

Client = httpx.AsyncClient


def through(proxy: str) -> Resource[Client]:
    # In earnest: httpx.AsyncClient(proxy=f"http://user:password@{proxy}:3128")
    client = Client(transport=httpx.MockTransport(lambda request: shop(proxy, request)))
    return Resource(client, id=proxy, max_in_flight=2)


def shop(proxy: str, request: httpx.Request) -> httpx.Response:
    """Stands in for the proxies and the shop behind them."""
    if proxy == "oslo":
        return httpx.Response(407)  # the proxy wants another password
    if proxy == "rome" and request.url.path == "/page/2":
        return httpx.Response(403)  # the shop has seen enough of this address
    return httpx.Response(200, text=f"{request.url.path} through {proxy}")


proxies = Pool(
    [through("rome"), through("oslo"), through("bern")],
    name="proxies",
    pick="sticky",  # calls with the same key go to the same proxy, while it can serve
    cooldown=[60, 600],  # a block that comes again is a longer one
)
policy = Policy("shop").with_timeout(60).with_retry(attempts=4).with_timeout(10).rotating(proxies)


async def fetch(client: Resource[Client], path: str) -> str:
    response = await client.value.get(f"http://shop.example{path}")
    if response.status_code == 403:
        # For most services the caller's mistake; for this shop it means the address.
        raise CooldownResource(reason="blocked")
    response.raise_for_status()  # a 407 takes the proxy out
    return response.text


async def visit(visitor: str, pages: int) -> list[str]:
    mine = policy.using(key=visitor)
    return [await mine.call(fetch, f"/page/{page}") for page in range(pages)]


async def main() -> None:
    for visitor in ("ada", "bob", "cyd"):
        print(visitor, await visit(visitor, 3))
    proxies.add(through("kyiv"))  # calls that wait would get it at once
    proxies.remove("oslo")  # what is under way there goes on to its end
    print({name: now["standing"] for name, now in proxies.snapshot()["resources"].items()})


if __name__ == "__main__":
    run(main())  # in virtual time
