"""Spread work over GPU workers: slots for each, models where they are loaded, caps that move."""

import asyncio
from collections import Counter
from random import Random

from penstock import Policy, Pool, Resource, clock
from penstock.testing import run

loads: Counter[str] = Counter()


class Worker:
    """Stands in for a GPU server with room for five models: loading one takes 20 s."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    async def infer(self, model: str, prompt: str) -> str:
        if model not in self.loaded:
            self.loaded = [*self.loaded[-4:], model]
            loads[model] += 1
            await asyncio.sleep(20)
        await asyncio.sleep(len(prompt) / 10)
        return f"{prompt}!"


def workers(pick: str) -> Pool[Worker]:
    return Pool({f"gpu-{n}": Resource(Worker(), max_in_flight=6) for n in range(4)}, pick=pick)


async def serve(gpus: Pool[Worker]) -> str:
    """Twelve models, each asked thirty times, one question after the other."""
    policy = Policy("infer").with_timeout(600).with_retry(attempts=3).rotating(gpus)
    began = clock.now()
    loads.clear()

    async def infer(worker: Resource[Worker], model: str, prompt: str) -> str:
        return await worker.value.infer(model, prompt)

    async def client(model: str) -> None:
        mine, lengths = policy.using(key=model), Random(model)  # sticky goes by this key
        for _ in range(30):
            await mine.call(infer, model, "why? " * lengths.randint(1, 9))

    await asyncio.gather(*(client(f"model {n}") for n in range(12)))
    return f"360 answers in {clock.now() - began:.0f} s, a model loaded {loads.total()} times"


async def main() -> None:
    for pick in ("least_in_flight", "sticky"):
        print(f"{pick}: {await serve(workers(pick))}")
    gpus = workers("sticky")
    gpus.resize("gpu-0", 1)  # somebody trains on it; what is under way would go on
    await serve(gpus)
    print("answers by", {worker.id: worker.uses for worker in gpus.stats().resources})


if __name__ == "__main__":
    run(main())  # in virtual time
