"""Keep two limits at once: requests per minute, and tokens per minute that are known only after.

Each call pays an estimate before it starts, and settles what it really used.
"""

import asyncio

from penstock import Policy, current_call
from penstock.testing import run

policy = (
    Policy("chat")
    .with_retry(attempts=3)
    .with_rate(
        {"requests": "60/min", "tokens": "9000/min"},
        cost={"requests": 1, "tokens": 1500},  # the estimate: as long as answers ever get
    )
)


async def chat(prompt: str) -> str:
    await asyncio.sleep(1)  # the model's time
    used = 300 + len(prompt)  # what the response says in `usage.total_tokens`
    # What was not used comes back and lets others in; what was used beyond is charged.
    current_call().settle(requests=1, tokens=used)
    return f"{used} tokens"


async def main() -> None:
    began = asyncio.get_running_loop().time()
    answers = await policy.gather(chat, ["short", "a longer prompt " * 50] * 10)
    seconds = asyncio.get_running_loop().time() - began
    print(f"{len(answers)} answers in {seconds:.0f} s, within both limits")
    # A call that is known to be large says so itself.
    print(await policy.using(cost={"tokens": 6000}).call(chat, "summarise " * 500))


if __name__ == "__main__":
    run(main())  # in virtual time; asyncio.run(main()) would take the minutes it says
