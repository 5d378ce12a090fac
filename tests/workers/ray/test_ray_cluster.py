"""Workers on a cluster of three nodes, one of which goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from penstock import Policy, WorkerPool

pytest.importorskip("ray", reason="Ray is not installed: pip install 'penstock[ray]'")

# Three nodes are nine processes on a machine that may have two cores.
pytestmark = [pytest.mark.ray, pytest.mark.real_time, pytest.mark.timeout(120)]


_STORE = 80 * 2**20


@pytest.fixture(scope="module")
def cluster(ray_environment: None) -> Iterator[Any]:
    """Return a cluster: a head without room for workers, and two nodes with room for two each."""
    import ray  # noqa: PLC0415 - an extra
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False},
    )
    for _ in range(2):
        cluster.add_node(num_cpus=2, object_store_memory=_STORE, resources={"desk": 2})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


async def test_workers_of_a_node_that_goes_away_move_and_all_jobs_end(cluster: Any) -> None:
    """Each result is its job's; a worker without room is starting, until there is a node again."""
    import ray_staff  # noqa: PLC0415 - on the path since the fixture

    policy = Policy("again").with_retry(attempts=20, wait=0.05)
    async with WorkerPool(
        ray_staff.Clerk,
        mode="ray",
        size=4,
        ray_options={"num_cpus": 0, "resources": {"desk": 1}},
        restart_delay=(0.0,),
        policy=policy,
        queue=None,
    ) as pool:
        await _until(partial(_are_up, pool, 4))
        jobs = [await pool.submit("add_later", number, delay=0.05) for number in range(300)]
        await asyncio.sleep(0.5)
        node = cluster.list_all_nodes()[-1]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, partial(cluster.remove_node, node, allow_graceful=False))
        results = await asyncio.gather(*jobs)
        without = pool.stats().by_state
        # It sets signal handlers, which only the main thread can.
        cluster.add_node(num_cpus=2, object_store_memory=_STORE, resources={"desk": 2})
        await _until(partial(_are_up, pool, 4))

    assert results == [*range(1, 301)]
    assert (without["up"], without["starting"]) == (2, 2)


async def _until(condition: Callable[[], bool]) -> None:
    by = time.monotonic() + 40.0
    while not condition():
        assert time.monotonic() < by, "it did not come to pass"
        await asyncio.sleep(0.02)


def _are_up(pool: Any, count: int) -> bool:
    return bool(pool.stats().by_state.get("up") == count)
