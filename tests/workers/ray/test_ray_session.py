"""Ray is connected to where nobody has, and left again by whoever has connected to it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from penstock import WorkerPool
from penstock.workers import WorkerPoolOptions
from penstock.workers.modes import mode_of


@pytest.mark.ray
@pytest.mark.real_time
async def test_a_pool_that_connects_to_ray_disconnects(
    ray_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pool begins, the last one ends; a second one in between shares."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'penstock[ray]'")
    import ray_staff  # noqa: PLC0415 - on the path since the fixture

    async with WorkerPool(ray_staff.Clerk, mode="ray", size=1) as first:
        async with WorkerPool(ray_staff.Clerk, mode="ray", size=1) as second:
            results = [await first.workers.add(1), await second.workers.add(2)]
        is_there_for_the_first = ray.is_initialized()
        results.append(await first.workers.add(3))

    assert results == [2, 3, 4]
    assert is_there_for_the_first
    assert not ray.is_initialized()


class _Ray:
    """Stands for Ray: says who has connected."""

    def __init__(self) -> None:
        self.job: int | None = None
        self.begun: list[Any] = []

    def is_initialized(self) -> bool:
        return self.job is not None

    def init(self, address: str | None) -> None:
        self.begun.append(address)
        self.job = len(self.begun)

    def shutdown(self) -> None:
        self.job = None

    def get_runtime_context(self) -> _Ray:
        return self

    def get_job_id(self) -> int | None:
        return self.job


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, _Ray]:
    """Return the module that connects, and what it connects to."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'penstock[ray]'")
    from penstock.workers.modes import ray_session  # noqa: PLC0415 - imports Ray

    ray = _Ray()
    monkeypatch.setattr(ray_session, "ray", ray)
    return ray_session, ray


def test_an_address_is_connected_to(session: tuple[Any, _Ray]) -> None:
    """``ray_address`` is what Ray is given."""
    module, ray = session
    options = WorkerPoolOptions(mode="ray", ray_address="auto")

    module.enter(options)
    module.leave(options)

    assert ray.begun == ["auto"]
    assert not ray.is_initialized()


def test_a_connection_of_the_programs_own_is_left_alone(session: tuple[Any, _Ray]) -> None:
    """Neither is it begun a second time, nor ended."""
    module, ray = session
    ray.init("theirs")
    options = WorkerPoolOptions(mode="ray", ray_address="ours")

    module.enter(options)
    module.leave(options)

    assert ray.begun == ["theirs"]
    assert ray.is_initialized()


def test_whoever_connected_anew_meanwhile_keeps_that(session: tuple[Any, _Ray]) -> None:
    """The program may have left Ray and come back while a pool was there."""
    module, ray = session
    options = WorkerPoolOptions(mode="ray")

    module.enter(options)
    ray.shutdown()
    ray.init("theirs")
    module.leave(options)

    assert ray.is_initialized()


def test_a_pool_connects_again_where_somebody_has_disconnected(session: tuple[Any, _Ray]) -> None:
    """A worker that starts anew needs Ray, whoever has ended it."""
    module, ray = session
    options = WorkerPoolOptions(mode="ray")

    module.enter(options)
    ray.shutdown()
    module.enter(options)
    module.leave(options)

    assert len(ray.begun) == 2
    assert not ray.is_initialized()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed Ray is told how to."""
    for name in [*sys.modules]:
        if name.startswith(("penstock.workers.modes.ray_", "penstock.workers.modes.on_ray")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(ImportError, match=r"pip install 'penstock\[ray\]'"):
        mode_of("ray")
