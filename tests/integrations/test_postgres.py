from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import pytest

from penstock import CallTimeoutError, Policy, Resource
from penstock.classify import classify
from penstock.integrations.postgres import transaction

pytestmark = pytest.mark.integration

Execute = Callable[[Any, str], Awaitable[Any]]


class Database(NamedTuple):
    """A source of transactions, and what runs a statement in one."""

    source: Any
    execute: Execute


def addressed(folder: str, **options: Any) -> dict[str, Any]:
    """Return how asyncpg finds the server."""
    return {"host": folder, "user": "postgres", "database": "postgres", **options}


async def fetch(connection: Any, sql: str) -> list[Any]:
    """Run a statement of asyncpg's."""
    return await connection.fetch(sql)


async def fetch_all(connection: Any, sql: str) -> list[Any]:
    """Run a statement of SQLAlchemy's."""
    from sqlalchemy import text  # noqa: PLC0415 - as below

    result = await connection.execute(text(sql))
    return [*result.all()] if result.returns_rows else []


@pytest.fixture
async def admin(postgres_folder: str) -> AsyncIterator[Any]:
    """Return a connection beside those of the test, with two accounts to work on."""
    connection = await asyncpg.connect(**addressed(postgres_folder))
    await connection.execute("DROP TABLE IF EXISTS accounts")
    await connection.execute("CREATE TABLE accounts (id int PRIMARY KEY, balance int)")
    await connection.execute("INSERT INTO accounts VALUES (1, 100), (2, 100)")
    yield connection
    await connection.close()


@pytest.fixture
async def pool(postgres_folder: str, admin: Any) -> AsyncIterator[Any]:
    """Return a pool of asyncpg's."""
    strict = {"default_transaction_isolation": "serializable"}
    async with asyncpg.create_pool(
        **addressed(postgres_folder), min_size=0, max_size=3, server_settings=strict
    ) as opened:
        yield opened


@pytest.fixture(params=["asyncpg", "engine", "sessions"])
async def database(
    request: pytest.FixtureRequest, postgres_folder: str, pool: Any
) -> AsyncIterator[Database]:
    """Return the database by each of the ways to it."""
    if request.param == "asyncpg":
        yield Database(pool, fetch)
        return
    pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio side needs greenlet")
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine  # noqa: PLC0415

    url = f"postgresql+asyncpg://postgres@/postgres?host={postgres_folder}"
    engine = create_async_engine(url, isolation_level="SERIALIZABLE", pool_size=3)
    yield Database(engine if request.param == "engine" else async_sessionmaker(engine), fetch_all)
    await engine.dispose()


@pytest.fixture
def policy() -> Policy:
    """Return a policy that retries at once."""
    return Policy("bank").with_timeout(10).with_retry(attempts=3, wait=0)


async def failure_of(attempt: Awaitable[Any]) -> BaseException:
    """Return what an awaitable raises: each way to the database has exceptions of its own."""
    (raised,) = await asyncio.gather(attempt, return_exceptions=True)
    assert isinstance(raised, BaseException), raised
    return raised


async def balances(admin: Any) -> list[int]:
    """Return what is on the accounts."""
    return [row["balance"] for row in await admin.fetch("SELECT * FROM accounts ORDER BY id")]


# --- what is retried ----------------------------------------------------------------------------


@pytest.mark.covers("postgres", "retry")
async def test_a_serialization_failure_is_retried_and_both_transactions_count(
    database: Database, policy: Policy, admin: Any
):
    """Both read the same balance at first; the one that loses reads again."""
    both_have_read = asyncio.Barrier(2)
    attempts: list[str] = []

    async def add(connection: Any, who: str, amount: int) -> None:
        is_first = who not in attempts
        attempts.append(who)
        ((balance,),) = await database.execute(
            connection, "SELECT balance FROM accounts WHERE id = 1"
        )
        if is_first:
            await both_have_read.wait()
        new = f"UPDATE accounts SET balance = {balance + amount} WHERE id = 1"
        await database.execute(connection, new)

    async with asyncio.TaskGroup() as group:
        group.create_task(transaction(policy, database.source, add, "a", 10))
        group.create_task(transaction(policy, database.source, add, "b", amount=5))

    assert await balances(admin) == [115, 100]
    assert len(attempts) == 3


@pytest.mark.covers("postgres", "retry")
async def test_a_deadlock_is_retried_and_both_transactions_commit(
    database: Database, policy: Policy, admin: Any
):
    """Each holds the row that the other wants; the server ends one of them."""
    both_hold = asyncio.Barrier(2)
    attempts: list[int] = []

    async def move(connection: Any, source: int, target: int) -> None:
        is_first = source not in attempts
        attempts.append(source)
        await database.execute(
            connection, f"UPDATE accounts SET balance = balance - 10 WHERE id = {source}"
        )
        if is_first:
            await both_hold.wait()
        await database.execute(
            connection, f"UPDATE accounts SET balance = balance + 10 WHERE id = {target}"
        )

    async with asyncio.TaskGroup() as group:
        group.create_task(transaction(policy, database.source, move, 1, 2))
        group.create_task(transaction(policy, database.source, move, 2, 1))

    assert await balances(admin) == [100, 100]
    assert len(attempts) >= 3


async def kill(admin: Any, pid: int, running: str = "pg_sleep") -> None:
    """End a connection as soon as it runs a statement that sleeps."""
    look = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND query LIKE $2 AND state = 'active'"
    while not await admin.fetchval(look, pid, f"%{running}%"):  # noqa: ASYNC110 - the server's
        await asyncio.sleep(0.005)
    await admin.execute("SELECT pg_terminate_backend($1)", pid)


@pytest.mark.covers("postgres", "retry")
async def test_a_killed_connection_is_retried_on_another_one(
    database: Database, policy: Policy, admin: Any
):
    """What it had written is gone with it."""
    pids: list[int] = []

    async def work(connection: Any) -> None:
        ((pid,),) = await database.execute(connection, "SELECT pg_backend_pid()")
        pids.append(pid)
        await database.execute(connection, "UPDATE accounts SET balance = balance + 1")
        if len(pids) == 1:
            killing = asyncio.create_task(kill(admin, pid))
            await database.execute(connection, "SELECT pg_sleep(5)")
            await killing

    await transaction(policy, database.source, work)

    assert len(pids) == 2
    assert pids[0] != pids[1]
    assert await balances(admin) == [101, 101]


@pytest.mark.covers("postgres", "retry")
async def test_a_rollback_that_fails_does_not_hide_what_failed_first(
    database: Database, policy: Policy, admin: Any
):
    """On a lost connection it fails, too; what the function raised decides all the same."""
    attempts: list[int] = []

    async def work(connection: Any) -> None:
        attempts.append(1)
        ((pid,),) = await database.execute(connection, "SELECT pg_backend_pid()")
        await admin.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        await asyncio.sleep(0.02)
        raise KeyError("id")

    with pytest.raises(KeyError):
        await transaction(policy, database.source, work)

    assert len(attempts) == 1


@pytest.mark.covers("postgres", "retry")
async def test_a_unique_violation_is_not_retried(database: Database, policy: Policy, admin: Any):
    """It is the same the next time; the caller gets it as it is."""
    attempts: list[int] = []

    async def insert(connection: Any) -> None:
        attempts.append(1)
        await database.execute(connection, "INSERT INTO accounts VALUES (3, 0), (1, 0)")

    failure = await failure_of(transaction(policy, database.source, insert))

    assert "accounts_pkey" in str(failure)
    assert classify(failure).kind.value == "caller_bug"
    assert len(attempts) == 1
    assert await balances(admin) == [100, 100]


async def fill(folder: str, others: list[Any]) -> None:
    """Open connections until the server has none left."""
    while True:
        others.append(await asyncpg.connect(**addressed(folder)))


@pytest.mark.covers("postgres", "retry")
async def test_a_full_server_is_asked_again(postgres_folder: str, pool: Any, admin: Any):
    """Everybody else leaves before the second attempt."""
    others: list[Any] = []
    kinds: list[str] = []

    def leave(_: int, failure: BaseException) -> None:
        kinds.append(classify(failure).kind.value)
        for other in others:
            other.terminate()

    policy = Policy("bank").with_retry(attempts=3, wait=0.1, on_retry=leave)
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await fill(postgres_folder, others)

    assert await transaction(policy, pool, fetch, "SELECT 7") == [(7,)]
    assert kinds == ["overloaded"]


# --- what failures mean -------------------------------------------------------------------------


@pytest.mark.covers("postgres", "classified")
@pytest.mark.parametrize(
    ("sql", "kind", "reason"),
    [
        ("SELECT * FROM accounts WHERE id = 1 FOR UPDATE NOWAIT", "transient", "55P03"),
        ("SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)", "timeout", "57014"),
        ("INSERT INTO accounts VALUES (1, 1)", "caller_bug", "23505"),
        ("SELECT 1 / 0", "caller_bug", "22012"),
        ("SELECT * FROM nothing", "caller_bug", "42P01"),
        ("SELECT nonsense(", "caller_bug", "42601"),
    ],
)
async def test_what_the_server_says_is_understood(
    database: Database, admin: Any, sql: str, kind: str, reason: str
):
    """The SQLSTATE decides, whoever brings it."""

    async def statements(connection: Any) -> None:
        for statement in sql.split(";"):
            await database.execute(connection, statement)

    async with admin.transaction():
        await admin.execute("SELECT * FROM accounts WHERE id = 1 FOR UPDATE")
        failure = await failure_of(transaction(Policy("bank"), database.source, statements))

    verdict = classify(failure)
    assert (verdict.kind.value, verdict.reason) == (kind, reason)


@pytest.mark.covers("postgres", "classified")
async def test_a_statement_that_is_retried_in_a_failed_transaction_is_refused(
    pool: Any, policy: Policy, admin: Any
):
    """25P02: only a whole new transaction helps, so it is the caller's mistake."""
    async with admin.transaction():
        await admin.execute("SELECT * FROM accounts FOR UPDATE")
        async with pool.acquire() as connection, connection.transaction():
            locked = "SELECT * FROM accounts FOR UPDATE NOWAIT"
            with pytest.raises(asyncpg.InFailedSQLTransactionError) as caught:
                await policy.call(connection.fetch, locked)

    assert classify(caught.value).kind.value == "caller_bug"


# --- the end of a transaction -------------------------------------------------------------------

_SLOW_COMMIT = """
CREATE OR REPLACE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql
  AS 'BEGIN PERFORM pg_sleep(5); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER pausing AFTER UPDATE ON accounts
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pause();
"""


@pytest.mark.covers("postgres", "retry")
async def test_a_commit_whose_outcome_nobody_knows_is_not_repeated(
    database: Database, policy: Policy, admin: Any
):
    """The connection is lost while COMMIT is under way: doing it again might do it twice."""
    await admin.execute(_SLOW_COMMIT)
    killings: list[asyncio.Task[None]] = []

    async def update(connection: Any) -> None:
        ((pid,),) = await database.execute(connection, "SELECT pg_backend_pid()")
        await database.execute(connection, "UPDATE accounts SET balance = 0 WHERE id = 1")
        killings.append(asyncio.create_task(kill(admin, pid, "COMMIT")))

    failure = await failure_of(transaction(policy, database.source, update))
    await asyncio.gather(*killings)

    assert len(killings) == 1
    assert any("may have been done or not" in note for note in failure.__notes__)


async def test_a_commit_that_is_cut_off_is_not_repeated(pool: Any, admin: Any):
    """An attempt's time-out that comes during COMMIT ends the call."""
    await admin.execute(_SLOW_COMMIT)
    policy = Policy("bank").with_retry(attempts=3, wait=0).with_timeout(0.2)
    attempts: list[int] = []

    async def update(connection: Any) -> None:
        attempts.append(1)
        await connection.execute("UPDATE accounts SET balance = 0 WHERE id = 1")

    with pytest.raises(CallTimeoutError):
        await transaction(policy, pool, update)

    assert len(attempts) == 1


@pytest.mark.covers("postgres", "retry")
async def test_a_commit_that_the_server_refuses_is_judged_as_any_failure(
    database: Database, policy: Policy, admin: Any
):
    """It says that it was not done: there is nothing unknown about a deferred constraint."""
    await admin.execute(
        "ALTER TABLE accounts ADD UNIQUE (balance, id) DEFERRABLE INITIALLY DEFERRED"
    )
    await admin.execute("ALTER TABLE accounts DROP CONSTRAINT accounts_pkey")

    async def update(connection: Any) -> None:
        await database.execute(connection, "UPDATE accounts SET id = 1")

    failure = await failure_of(transaction(policy, database.source, update))

    assert classify(failure).reason == "23505"
    assert not any("may have been" in note for note in getattr(failure, "__notes__", ()))


class Stuck:
    """A source whose rollback does not end."""

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Any]:
        """Open nothing."""
        try:
            yield self
        except KeyError:
            await asyncio.sleep(60)

    async def fail(self) -> None:
        """Fail."""
        raise KeyError("id")


async def test_a_cancel_during_the_rollback_is_a_cancel():
    """It is not what failed first, but nobody may swallow it."""
    policy = Policy("bank").with_retry(attempts=3, wait=0)
    rolling_back = asyncio.create_task(transaction(policy, Stuck(), Stuck.fail))
    await asyncio.sleep(0.01)

    rolling_back.cancel()

    assert isinstance(await failure_of(rolling_back), asyncio.CancelledError)


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.covers("postgres", "deadline")
async def test_the_time_that_is_left_is_handed_down(database: Database, policy: Policy):
    """The server ends a statement even where our cancel does not reach it."""

    async def limit(connection: Any) -> str:
        ((value,),) = await database.execute(connection, "SHOW statement_timeout")
        return str(value)

    bounded = await transaction(policy.using(timeout=3), database.source, limit)
    unbounded = await transaction(Policy("bank"), database.source, limit)

    assert 2900 < int(bounded.removesuffix("ms")) <= 3100
    assert unbounded == "0"


@pytest.mark.covers("postgres", "deadline")
async def test_a_time_out_gives_the_connection_back_and_ends_the_statement(
    postgres_folder: str, admin: Any
):
    """A pool of one serves the next call."""
    policy = Policy("bank").with_timeout(0.2)
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND state = 'active'"
    async with asyncpg.create_pool(**addressed(postgres_folder), min_size=1, max_size=1) as one:
        with pytest.raises(CallTimeoutError):
            await transaction(policy, one, fetch, "SELECT pg_sleep(5) /* mine */")

        assert await transaction(policy, one, fetch, "SELECT 7") == [(7,)]
        assert await admin.fetchval(asleep + " AND pid <> pg_backend_pid()") == 0


# --- sources ------------------------------------------------------------------------------------


@pytest.mark.covers("postgres", "rotation")
async def test_reads_go_to_another_replica_when_one_is_away(postgres_folder: str, pool: Any):
    """The pool of each is a resource; the one that cannot be reached is not asked first again."""
    async with asyncpg.create_pool(host="127.0.0.1", port=1, user="x", min_size=0) as away:
        replicas = [Resource(away, id="away"), Resource(pool, id="there")]
        policy = (
            Policy("reads").with_retry(attempts=2, wait=0).rotating(replicas, pick="round_robin")
        )
        used: list[str] = []

        async def read(replica: Resource[Any], sql: str) -> Any:
            used.append(replica.id)
            async with replica.value.acquire() as connection:
                return await connection.fetchval(sql)

        assert await policy.call(read, "SELECT 7") == 7

    assert used == ["away", "there"]


async def test_what_has_no_transactions_is_refused():
    """The message names what has."""
    with pytest.raises(TypeError, match="asyncpg Pool, an AsyncEngine or an async_sessionmaker"):
        await transaction(Policy("bank"), object(), fetch, "SELECT 7")  # type: ignore[call-overload]
