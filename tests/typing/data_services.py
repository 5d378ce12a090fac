"""Clients and transactions of data services keep their types; only type-checked, never run."""

from __future__ import annotations

from typing import assert_type

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from penstock import Policy, Resource
from penstock.integrations.postgres import transaction

policy = Policy("bank")


async def add(connection: AsyncConnection, amount: int, *, note: str = "") -> str:
    await connection.exec_driver_sql("SELECT 1")
    return note * amount


async def save(session: AsyncSession, name: str) -> int:
    session.add(name)
    return 1


async def transactions(engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession]) -> None:
    assert_type(await transaction(policy, engine, add, 5, note="rent"), str)
    assert_type(await transaction(policy, sessions, save, "Pelton"), int)


async def wrong_transactions(
    engine: AsyncEngine, sessions: async_sessionmaker[AsyncSession]
) -> None:
    await transaction(policy, engine, add, "five")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await transaction(policy, sessions, add, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await transaction(policy, engine, add)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await transaction(policy, object(), add, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def wrapped(redis: Redis, endpoints: list[Resource[Redis]]) -> None:
    assert_type(policy.wrap_client(redis), Redis)
    rotating = policy.rotating(endpoints)
    assert_type(rotating.wrap_client(redis, bind=lambda _, endpoint: endpoint.value), Redis)
