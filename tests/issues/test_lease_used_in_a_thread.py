"""A plain function's ``lease.cooldown`` moved the pool from a worker thread."""

from __future__ import annotations

import threading

import pytest

from penstock import Lease, Policy, Pool, Resource, current_lease
from penstock.pools.news import Change

pytestmark = pytest.mark.real_time

SAYINGS = {
    "cooldown": lambda lease: lease.cooldown(30),
    "disable": lambda lease: lease.disable("revoked"),
    "report": lambda lease: lease.report(remaining=0, resets_in=30),
}


@pytest.mark.parametrize("saying", SAYINGS)
async def test_what_an_operation_in_a_thread_says_is_done_where_the_pool_lives(saying: str) -> None:
    """Waiters, tasks and hooks of a loop are touched in its thread alone."""
    told_in: list[int] = []

    def hook(_change: Change) -> None:
        told_in.append(threading.get_ident())

    pool = Pool({"only": "value"}, on_state_change=hook)
    policy = Policy("plain").rotating(pool)
    ran_in: list[int] = []

    def operation(_resource: Resource[str]) -> str:
        ran_in.append(threading.get_ident())
        lease: Lease = current_lease()
        SAYINGS[saying](lease)
        return pool.snapshot()["resources"]["only"]["standing"]

    standing = await policy.call(operation)

    assert ran_in != [threading.get_ident()]
    assert told_in == [threading.get_ident()]
    assert standing == ("disabled" if saying == "disable" else "cooling")
