"""Share browser sessions: one user each, in line, and replaced while others work on."""

import asyncio
from itertools import count

from penstock import NoResourceError, Pool, Resource
from penstock.testing import run

numbers = count(1)


class Browser:
    """Stands in for a session that cost a login, and grows with each page."""

    pages = 0

    def __init__(self) -> None:
        self.name = f"browser-{next(numbers)}"

    async def open(self, page: str) -> str:
        await asyncio.sleep(2)
        self.pages += 1
        if page == "bad":
            raise ConnectionError("the tab has crashed")
        return f"{page} in {self.name}"


def session() -> Resource[Browser]:
    return Resource(browser := Browser(), id=browser.name, max_in_flight=1)  # exclusive


sessions = Pool([session(), session()], name="sessions", max_queue=4, max_wait=30)


async def screenshot(page: str) -> str:
    async with sessions.lease() as lease:  # waits in line for one that is free
        browser: Browser = lease.resource.value
        is_worn = True  # whatever goes wrong here leaves it in an unknown state
        try:
            done = await browser.open(page)
            is_worn = browser.pages >= 3
            return done
        finally:
            if is_worn:
                # Out while it is ours: uses under way go on, and here that is our own.
                sessions.remove(browser.name)
                sessions.add(session())
                print("closed", browser.name)


async def main() -> None:
    pages = [*(f"page {n}" for n in range(5)), "bad", "one too many"]
    shots = await asyncio.gather(*map(screenshot, pages), return_exceptions=True)
    for page, shot in zip(pages, shots, strict=True):
        print(f"{page}: {shot.case if isinstance(shot, NoResourceError) else shot}")
    print([*sessions.snapshot()["resources"]])


if __name__ == "__main__":
    run(main())  # in virtual time
