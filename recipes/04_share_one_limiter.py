"""One rate limit for several policies: the quota is per account, not per function."""

import asyncio

from penstock import Policy
from penstock.stages.rate_limit import RateLimit, RateLimitOptions
from penstock.testing import run

# A stage is an object; the same object in two policies has one state.
account = RateLimit(RateLimitOptions(rate="20/s", max_wait=5))

search = Policy("search").with_timeout(10).with_retry(attempts=3).with_stage(account)
upload = Policy("upload").with_timeout(60).with_stage(account).with_concurrency(2)


async def request(number: int) -> float:
    await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time()


async def main() -> None:
    searched, uploaded = await asyncio.gather(
        search.gather(request, range(30)),
        upload.gather(request, range(30)),
    )
    times = sorted([*searched, *uploaded])
    print(f"60 requests in {times[-1]:.2f} s: 20 in any second, whoever makes them")

    # Code without a policy takes from the same quota, without waiting ...
    print("free now:", account.try_acquire())
    # ... or in line with the others, and gives back what it did not use.
    reservation = await account.acquire()
    reservation.cancel()

    # To have a limit of its own, a policy takes a copy.
    print(search.fresh().snapshot()["stages"][2]["available"])


if __name__ == "__main__":
    run(main())  # in virtual time
