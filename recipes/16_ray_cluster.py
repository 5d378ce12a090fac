"""From one machine to a cluster: the same workers, the same calls, and one line that says where."""

import asyncio
import os
import sys
from collections import Counter

from penstock import Policy, WorkerPool

# In this line alone a program for one machine and one for a cluster differ: "thread", "process",
# or "ray". With ray_address="auto" Ray takes the cluster that this machine belongs to, with
# "ray://head:10001" a far one; without an address it starts one here.
WHERE = {"mode": "ray"}


class Scorer:
    """Scores documents with a model that takes long to load: once per worker, wherever it lives."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def start(self) -> None:
        self.weights = dict.fromkeys(self.words, 1)  # the model is loaded here

    def score(self, document: str) -> tuple[int, int]:
        counts = Counter(document.split())
        return sum(self.weights.get(word, 0) * n for word, n in counts.items()), os.getpid()

    def crash(self) -> None:
        os._exit(1)  # as when memory runs out


async def main() -> None:
    documents = [f"{'water ' * (n % 5)}and wheel {n}" for n in range(2000)]
    # The policy stays here, and with it one rate, one breaker, one cap for the whole cluster.
    policy = Policy("score").with_retry(attempts=3, wait=0.1).with_timeout(30)
    async with WorkerPool(Scorer, ["water", "wheel"], size=2, **WHERE) as pool:
        # Where a call costs a millisecond, map sends a hundred of them in one.
        scores = [score async for score, _ in pool.map(Scorer.score, documents)]
        print(f"{len(scores)} documents, score {sum(scores)}")

        # A worker that dies fails its own call; retry makes it again, on another machine perhaps.
        jobs = [await pool.submit("score", text, policy=policy) for text in documents[:20]]
        await asyncio.gather(await pool.submit("crash"), return_exceptions=True)
        answers = await asyncio.gather(*jobs)
        here = any(process == os.getpid() for _, process in answers)
        print(f"{len(answers)} more around a crash, {'some' if here else 'none'} in this process")


if __name__ == "__main__":
    WHERE = {"mode": sys.argv[1]} if len(sys.argv) > 1 else WHERE
    asyncio.run(main())
