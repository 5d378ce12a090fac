"""Browser-like workers: opened once, kept busy, started anew when they are worn or crash."""

import asyncio

from penstock import Event, Policy, RestartWorker, WorkerPool, clock
from penstock.testing import run
from penstock.workers.events import WorkerChanged

crashing = {"page 5"}


class Browser:
    """Stands in for a browser: 3 s to open, more memory with each page, a crash now and then."""

    def __init__(self, profile: str) -> None:
        self.profile = profile

    async def start(self, index: int) -> None:
        self.name = f"{self.profile}-{index}"
        await asyncio.sleep(3)

    async def stop(self) -> None:
        await asyncio.sleep(0.5)

    async def fetch(self, page: str) -> str:
        await asyncio.sleep(1)
        if page in crashing:
            crashing.remove(page)
            raise RestartWorker("the tab has crashed")  # this worker is in an unknown state
        return f"{page} in {self.name}"


def tell(event: Event) -> None:
    if isinstance(event, WorkerChanged) and event.new == "restarting":
        print(f"{event.at:.0f} s: {event.worker} starts anew ({event.reason})")


async def main() -> None:
    policy = Policy("fetch").with_timeout(60).with_retry(attempts=3).with_timeout(10)
    async with WorkerPool(
        Browser,
        "guest",
        size=2,
        policy=policy,  # one for all workers; a retry goes to whichever is ready
        start_interval=1,  # not all at once
        restart_every=4,  # before it has eaten all memory
        queue=100,  # who hands in more waits
        observers=[tell],
    ) as pool:
        front_page = await pool.workers.fetch("front page")
        urgent = await pool.submit(Browser.fetch, "urgent", priority=1)
        jobs = [await pool.submit(Browser.fetch, f"page {n}") for n in range(8)]
        pages = await asyncio.gather(*jobs)
        print(front_page, "|", await urgent)
        print(*pages, sep="\n")
        print(f"all in {clock.now():.0f} s")


if __name__ == "__main__":
    run(main())  # in virtual time
