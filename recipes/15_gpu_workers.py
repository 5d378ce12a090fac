"""GPU workers with one model each: loaded once per device, conversations kept where they are."""

import asyncio
from collections import Counter

from penstock import Event, WorkerPool, clock
from penstock.testing import run
from penstock.workers.events import WorkerChanged


class Gpu:
    """Stands in for a model on one device: 20 s to load; a known conversation is answered fast."""

    def __init__(self, model: str) -> None:
        self.model, self.known, self.is_lost = model, set[str](), False

    async def start(self, index: int) -> None:
        self.device = f"cuda:{index}"  # the index is the worker's place, after a restart as well
        await asyncio.sleep(20)

    async def healthy(self) -> bool:
        return not self.is_lost  # asked every `health_interval` seconds

    async def answer(self, conversation: str) -> str:
        await asyncio.sleep(0.5 if conversation in self.known else 4)
        self.known.add(conversation)
        return self.device

    async def lose(self) -> None:
        self.is_lost = True  # "GPU has fallen off the bus"


def tell(event: Event) -> None:
    if isinstance(event, WorkerChanged) and event.new != "starting" and event.old != "stopping":
        print(f"{event.at:3.0f} s: {event.worker} is {event.new} ({event.reason})")


async def main() -> None:
    async with WorkerPool(
        Gpu,
        "llama",
        size=1,
        max_size=3,  # devices: the others load the model when questions wait
        idle_timeout=60,  # and are free again when none came for a minute
        pick="sticky",  # the key keeps a conversation with the device that has its cache
        per_worker=8,  # questions that a device takes side by side
        health_interval=15,
        observers=[tell],
    ) as gpus:
        talks = [f"talk {n}" for n in range(40)]
        for _ in range(3):
            asked = [await gpus.submit("answer", talk, key=talk) for talk in talks]
            devices = Counter(await asyncio.gather(*asked))
            print(f"{clock.now():3.0f} s: {dict(sorted(devices.items()))}")
        await gpus.workers.lose()
        await asyncio.sleep(120)


if __name__ == "__main__":
    run(main())  # in virtual time
