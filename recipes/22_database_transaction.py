"""Move money between accounts, so that each attempt is a whole transaction.

Run it against a PostgreSQL: python recipes/22_database_transaction.py postgresql://localhost/postgres
"""

import asyncio
import sys

import asyncpg

from penstock import Policy
from penstock.integrations.postgres import transaction
from penstock.stages.retry import Exponential

policy = (
    Policy("bank")
    .with_timeout(10)  # the whole call; what is left of it is the server's statement_timeout too
    .with_retry(15, wait=Exponential(initial=0.01), on_retry=lambda *why: retried.append(why))
    .with_concurrency(8)  # no more transactions at once than the pool has connections
)
retried: list[tuple[int, Exception]] = []


async def transfer(connection: asyncpg.Connection, source: int, target: int, amount: int) -> None:
    # Under "serializable" the database behaves as if transactions ran one after another. What
    # would have read the wrong balance fails with 40001, and is retried: it then reads again.
    balance = "SELECT balance FROM accounts WHERE id = $1"
    if await connection.fetchval(balance, source) < amount:
        raise ValueError("not enough money")  # the caller's mistake: rolled back, never retried
    change = "UPDATE accounts SET balance = balance + $2 WHERE id = $1"
    await connection.execute(change, source, -amount)
    await connection.execute(change, target, amount)
    # Returning commits. Nothing that is not undone by a rollback (a mail, a request to somebody
    # else) belongs in here: it would be done once per attempt.


async def main(url: str) -> None:
    strict = {"default_transaction_isolation": "serializable"}
    async with asyncpg.create_pool(url, max_size=8, min_size=8, server_settings=strict) as pool:
        await pool.execute("DROP TABLE IF EXISTS accounts")
        await pool.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)")
        await pool.execute("INSERT INTO accounts SELECT id, 100 FROM generate_series(0, 3) AS id")

        # Everybody gives to everybody at the same time, in circles: a deadlock waiting to happen.
        pairs = [(source, (source + step) % 4) for source in range(4) for step in (1, 2, 3)]
        given = (transaction(policy, pool, transfer, *pair, 10) for pair in pairs)
        await asyncio.gather(*given)

        try:
            await transaction(policy, pool, transfer, 0, 1, 1000)
        except ValueError as refused:
            print(f"refused: {refused}")
        print("balances", [r["balance"] for r in await pool.fetch("SELECT * FROM accounts")])
        print("retried", "some" if retried else "none", "of", len(pairs), "transfers")
        await pool.execute("DROP TABLE accounts")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
