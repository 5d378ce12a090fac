"""Many calls at once, with a progress bar; results as they come, errors kept apart."""

import asyncio
from collections.abc import AsyncIterator

from penstock import Policy
from penstock.testing import run

policy = Policy("batch").with_retry(attempts=3, wait=0.1).with_concurrency(8).with_timeout(2)


async def convert(page: int) -> str:
    await asyncio.sleep(0.2)
    if page % 10 == 7:
        raise ValueError(f"page {page} is blank")  # the caller's affair: not retried
    return f"page {page}"


async def main() -> None:
    # All results in input order; an error takes its item's place. progress=True draws a bar,
    # a callable gets (done, total).
    results = await policy.gather(
        convert,
        range(50),
        return_exceptions=True,
        progress=lambda done, total: done % 25 == 0 and print(f"{done} of {total}"),
    )
    blank = [result for result in results if isinstance(result, Exception)]
    print(f"{len(results) - len(blank)} converted, {len(blank)} failed: {blank[0]}")

    # Or one by one as they are done, from a source that may never end: it is read as it is needed.
    async def pages() -> AsyncIterator[int]:
        for page in range(0, 1_000_000, 2):
            yield page

    async for text in policy.map(convert, pages()):
        print("first:", text)
        break  # what is under way is cancelled


if __name__ == "__main__":
    run(main())  # in virtual time; use progress=True and asyncio.run(main()) to watch a bar
