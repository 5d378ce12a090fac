from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

KINDS = """
import asyncio
import pytest
from penstock import clock

def kind():
    return type(asyncio.get_running_loop()).__name__

@pytest.fixture
async def slow():
    await asyncio.sleep(10)
    return clock.now()
"""

MARKED = (
    KINDS
    + """
@pytest.mark.asyncio
@pytest.mark.virtual_time
async def test_virtual(slow):
    await asyncio.sleep(3600)
    assert kind() == "VirtualTimeLoop" and clock.now() == 3610

@pytest.mark.asyncio
@pytest.mark.virtual_time(start=1e9)
async def test_late():
    assert clock.now() == 1e9

@pytest.mark.asyncio
async def test_real():
    assert kind() != "VirtualTimeLoop"

@pytest.mark.virtual_time
def test_sync():
    pass
"""
)


def _ini(pytester: pytest.Pytester, mode: str, more: str = "") -> None:
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
        f"strict_markers = true\nfilterwarnings = error\n{more}"
    )


def test_marked_tests_run_in_virtual_time_in_strict_mode(pytester: pytest.Pytester) -> None:
    """The marker chooses the loop of tests and fixtures; other tests keep theirs."""
    _ini(pytester, "strict")
    pytester.makepyfile(
        MARKED.replace("@pytest.fixture", "@pytest_asyncio.fixture").replace(
            "import asyncio", "import asyncio, pytest_asyncio", 1
        )
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=4)


def test_marked_tests_run_in_virtual_time_in_auto_mode(pytester: pytest.Pytester) -> None:
    """The same without the asyncio marker."""
    _ini(pytester, "auto")
    pytester.makepyfile(MARKED.replace("@pytest.mark.asyncio\n", ""))

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=4)


def test_a_module_is_marked_as_a_whole(pytester: pytest.Pytester) -> None:
    """``pytestmark`` serves all tests of a file."""
    _ini(pytester, "auto")
    pytester.makepyfile(
        KINDS + "pytestmark = pytest.mark.virtual_time\n"
        "async def test_one(): assert kind() == 'VirtualTimeLoop'\n"
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1)


def test_the_setting_makes_virtual_time_the_default(pytester: pytest.Pytester) -> None:
    """With ``penstock_virtual_time`` a test asks for real time instead."""
    _ini(pytester, "auto", "penstock_virtual_time = true\n")
    pytester.makepyfile(
        KINDS
        + """
async def test_virtual(): assert kind() == "VirtualTimeLoop"
@pytest.mark.real_time
async def test_real(): assert kind() != "VirtualTimeLoop"
"""
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=2)


def test_a_project_that_asks_for_nothing_keeps_its_loops(pytester: pytest.Pytester) -> None:
    """No hook is taken, no test gets another name."""
    _ini(pytester, "auto")
    pytester.makeconftest("""
def pytest_collection_finish(session):
    assert not session.config.hook.pytest_asyncio_loop_factories.get_hookimpls()
""")
    pytester.makepyfile(KINDS + "async def test_real(): assert kind() != 'VirtualTimeLoop'\n")

    result = pytester.runpytest_inprocess("-v")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::test_real PASSED*"])


def test_a_project_with_loop_factories_of_its_own_keeps_them(pytester: pytest.Pytester) -> None:
    """The marker wins for its tests, the project's hook for all others."""
    _ini(pytester, "auto")
    pytester.makeconftest("""
import asyncio
class Own(asyncio.SelectorEventLoop): pass
def pytest_asyncio_loop_factories(): return {"own": Own}
""")
    pytester.makepyfile(
        KINDS
        + """
async def test_own(): assert kind() == "Own"
@pytest.mark.virtual_time
async def test_virtual(): assert kind() == "VirtualTimeLoop"
"""
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=2)


def test_the_marker_without_pytest_asyncio_says_what_is_missing(pytester: pytest.Pytester) -> None:
    """A clear error comes in place of a test that is skipped in silence."""
    pytester.makepyfile("""
import pytest
@pytest.mark.virtual_time
def test_one(): pass
""")

    result = pytester.runpytest_inprocess("-p", "no:asyncio")

    assert result.ret != 0
    result.stdout.fnmatch_lines(["*virtual_time needs pytest-asyncio 1.4 or newer*"])


def test_a_deadlock_fails_the_test_and_not_the_run(pytester: pytest.Pytester) -> None:
    """The next test runs on a loop of its own."""
    _ini(pytester, "auto")
    pytester.makepyfile(
        KINDS
        + """
pytestmark = pytest.mark.virtual_time
async def test_hangs(): await asyncio.Event().wait()
async def test_goes_on(): await asyncio.sleep(1)
"""
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Deadlock: deadlock: 1 task waits and nothing is scheduled*"])
