"""Which event loop a test runs on, and that no test leaves a process behind."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings

from penstock.testing import VirtualTimeLoop

# How long an example takes says more about the machine than about the code.
settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")

Factories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare here what tests/integrations asks for: a conftest further down is read too late."""
    parser.addoption(
        "--integrations-table",
        action="store_true",
        help="write the table of docs/integrations/index.md from the tests that pass",
    )


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


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Fail at the end of the run where a test has left a process behind."""
    yield
    by = time.monotonic() + 10
    while left := _children():
        assert time.monotonic() < by, f"left behind: {left}"
        time.sleep(0.1)


def _children() -> list[str]:
    # Those of multiprocessing itself serve the whole program, and end with it.
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    found: list[str] = []
    for pid in " ".join(each.read_text() for each in listed).split():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if words and not any(own in words for own in ("forkserver", "resource_tracker")):
            found.append(words)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Leave the coverage tool out where Hypothesis tries hundreds of examples.

    It would take two thirds of the time of the whole suite, and what one example covers stands in a
    test of its own.
    """
    tracer = sys.gettrace() if is_hypothesis_test(getattr(item, "obj", None)) else None
    if tracer is not None:
        sys.settrace(None)
    try:
        return (yield)
    finally:
        if tracer is not None:
            sys.settrace(tracer)
