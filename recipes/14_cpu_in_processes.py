"""CPU work in worker processes: built once in each of them, fed by ``map``, replaced if killed."""

import asyncio
import os
import signal
from math import isqrt

from penstock import Policy, WorkerPool

BELOW, STEP = 400_000, 5_000


class Sieve:
    """Counts primes. What is expensive to build is built once, in the process that needs it."""

    def start(self) -> None:
        self.primes = [n for n in range(2, isqrt(BELOW) + 1) if self.is_prime(n)]

    def is_prime(self, number: int) -> bool:
        return number > 1 and all(number % d for d in range(2, isqrt(number) + 1))

    def count(self, first: int) -> tuple[int, int]:
        found = 0
        for number in range(max(first, 2), first + STEP):
            for prime in self.primes:
                if prime * prime > number:
                    found += 1
                    break
                if number % prime == 0:
                    break
            else:
                found += 1
        return found, os.getpid()


async def main() -> None:
    # A process that is killed fails the call that it serves, and retry makes that call anew.
    policy = Policy("count").with_retry(attempts=3, wait=0.1)
    async with WorkerPool(Sieve, size=2, mode="process", policy=policy, restart_delay=[0]) as pool:
        total, processes = 0, set[int]()
        async for found, process in pool.map(Sieve.count, range(0, BELOW, STEP), ordered=False):
            total += found
            if not processes:
                os.kill(process, signal.SIGKILL)  # as the kernel does when memory runs out
            processes.add(process)
    print(f"{total} primes below {BELOW}")
    print(f"counted by {len(processes)} processes, one of which was killed")


if __name__ == "__main__":  # worker processes import this file, and must not begin anew
    asyncio.run(main())
