"""The pytest plugin: tests marked ``virtual_time`` run on the virtual-time loop.

pytest loads it in every project that has penstock installed, so it stays inert (no hook of
pytest-asyncio's is taken, no test gets another name) until a project asks for virtual time.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator, Mapping

import pytest

__all__: list[str] = []

_NAME = "penstock-loop-factories"
_INI = "penstock_virtual_time"

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that makes virtual time the default of a project."""
    parser.addini(_INI, "run async tests in virtual time unless marked real_time", "bool", False)  # noqa: FBT003


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    for line in (
        "virtual_time(start=0.0): run the async test on penstock's virtual-time loop",
        f"real_time: run the async test in real time although {_INI} is set",
    ):
        config.addinivalue_line("markers", line)


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, None, None]:
    """Offer the loop to pytest-asyncio once a test asks for it, and not before."""
    plugins = metafunc.config.pluginmanager
    if _start_of(metafunc.definition) is not None and not plugins.has_plugin(_NAME):
        if not hasattr(metafunc.config.hook, "pytest_asyncio_loop_factories"):
            raise pytest.UsageError("virtual_time needs pytest-asyncio 1.4 or newer")
        plugins.register(_LoopFactories(), _NAME)
    yield


class _LoopFactories:
    @pytest.hookimpl(tryfirst=True)
    def pytest_asyncio_loop_factories(self, item: pytest.Item) -> LoopFactories | None:
        if item.get_closest_marker("virtual_time") is None:
            return None
        return _virtual(item)

    @pytest.hookimpl(specname="pytest_asyncio_loop_factories", trylast=True)
    def pytest_asyncio_other_loop_factories(self, item: pytest.Item) -> LoopFactories:
        # pytest-asyncio wants an answer for every test from the moment that one plugin answers.
        return _virtual(item) or {"asyncio": asyncio.new_event_loop}


def _virtual(item: pytest.Item) -> LoopFactories | None:
    start = _start_of(item)
    if start is None:
        return None
    # Imported late: what a plugin imports is loaded before coverage starts to measure.
    from penstock.testing.virtual_time import VirtualTimeLoop  # noqa: PLC0415

    return {"virtual": functools.partial(VirtualTimeLoop, start)}


def _start_of(item: pytest.Item) -> float | None:
    marker = item.get_closest_marker("virtual_time")
    if marker is not None:
        start: float = marker.kwargs.get("start", 0.0)
        return start
    by_default = item.config.getini(_INI) and item.get_closest_marker("real_time") is None
    return 0.0 if by_default else None
