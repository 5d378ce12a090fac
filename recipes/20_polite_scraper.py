"""Read pages through proxies that take turns, politely: a rate and a cap for each host."""

import asyncio
import sys
from collections import Counter

import httpx

from penstock import Policy, Pool, Resource
from penstock.integrations.httpx import PolicyTransport

# In earnest: "http://user:password@proxy.example:3128". The pool tells nobody what they are.
SITES, PROXIES = sys.argv[1].split(","), sys.argv[2].split(",")
PAGES = 12

proxies = Pool(
    {f"proxy {number}": url for number, url in enumerate(PROXIES, 1)},
    name="proxies",
    cooldown=[30, 300],  # a proxy that is dead, or limited by a site, rests; longer each time
)
served: Counter[str] = Counter()


def through(proxy: Resource[str] | None) -> httpx.AsyncBaseTransport:
    # Connections belong to a proxy, so each has a transport of its own: made once, kept.
    return httpx.AsyncHTTPTransport(proxy=None if proxy is None else proxy.value, verify=False)


def polite() -> PolicyTransport:
    policy = (
        Policy("site")
        .with_timeout(20)  # a page, all attempts and waits included
        .with_retry(attempts=4, wait=0.1)
        .with_rate(50)  # what the site can bear: 50 in any second
        .with_concurrency(4)  # until a page was read
        .with_timeout(5)  # an attempt, until its answer begins
        .rotating(proxies)  # one pool for all sites
    )
    return PolicyTransport(policy, through)


async def read(client: httpx.AsyncClient, url: str) -> None:
    response = await client.get(url)
    served[str(response.status_code)] += 1


async def main() -> None:
    # Mounted by host: each has limits of its own, and a redirect elsewhere meets those of its host.
    mounts = {site: polite() for site in SITES}
    async with httpx.AsyncClient(mounts=mounts, follow_redirects=True) as client:
        pages = [f"{site}/page/{number}" for number in range(PAGES) for site in SITES]
        await asyncio.gather(*(read(client, page) for page in pages))
    print(f"{len(pages)} pages, by status: {dict(served)}")
    for name, facts in proxies.snapshot()["resources"].items():
        print(f"{name}: {facts['standing']}, used {facts['uses']} times")


if __name__ == "__main__":
    asyncio.run(main())
