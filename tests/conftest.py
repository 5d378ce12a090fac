"""Which event loop a test runs on."""

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest

from penstock.testing import VirtualTimeLoop

Factories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Factories:
    """Choose virtual time, unless the test needs real time: then the environment names the loop.

    Tests marked ``virtual_time`` do not come here: the plugin has answered for them.
    """
    if not any(map(item.get_closest_marker, ("real_time", "integration", "slow"))):
        return {"virtual": VirtualTimeLoop}
    if os.environ.get("PENSTOCK_TEST_LOOP") == "uvloop":
        import uvloop  # noqa: PLC0415 - not there on Windows

        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
