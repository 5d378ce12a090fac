from __future__ import annotations

import os

import pytest

from tests.integrations import serving
from tests.integrations.serving import serve

pytestmark = pytest.mark.integration


def _is_there(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def test_the_first_line_is_told_and_the_process_ends_with_the_block():
    """It got its arguments and its environment."""
    with serve("rehearsal", "well", 42, env={"REHEARSAL": "yes"}) as line:
        pid, word, variable = line.split()
        during = _is_there(pid)

    assert (word, variable, during) == ("42", "yes", True)
    assert not _is_there(pid)


def test_it_ends_after_a_test_that_fails_too():
    """The test's own failure is what is raised."""
    with pytest.raises(ZeroDivisionError), serve("rehearsal", "well") as line:
        _ = 1 / 0

    assert not _is_there(line.split()[0])


def test_a_server_that_does_not_start_says_why():
    """What it wrote to stderr stands in the failure."""
    with (
        pytest.raises(AssertionError, match="no port is free"),
        serve("rehearsal", "raises", "no port is free"),
    ):
        pass


def test_a_server_that_fails_at_its_end_fails_the_test():
    """A traceback that nobody reads is a bug that nobody finds."""
    with (
        pytest.raises(AssertionError, match=r"ended with code 1: (?s:.*)at the end"),
        serve("rehearsal", "fails", "at the end"),
    ):
        pass


def test_a_server_that_prints_a_lot_is_not_held_up():
    """Nobody reads what comes after the first line, and the pipe is small."""
    with serve("rehearsal", "talkative") as pid:
        pass

    assert not _is_there(pid)


def test_a_server_that_stays_is_killed(monkeypatch: pytest.MonkeyPatch):
    """Also one that has not said a word in time."""
    monkeypatch.setattr(serving, "END_PATIENCE", 0.1)

    with serve("rehearsal", "stubborn") as pid:
        pass
    with (
        pytest.raises(AssertionError, match="did not say where"),
        serve("rehearsal", "silent", start_patience=0.1),
    ):
        pass

    assert not _is_there(pid)
