from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from penstock.cli import demo as command
from penstock.demo import process as process_module
from penstock.demo.process import demo_server

pytestmark = pytest.mark.integration

app = typer.Typer()
app.command()(command.demo)

RUN = "import typer; from penstock.cli.demo import demo; typer.run(demo)"

WITHOUT_RETRY = """\
version: 1
policies:
  demo:
    pipeline:
      - timeout: 1s
"""


def is_listening(port: int) -> bool:
    """Whether anybody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def port_in(text: str) -> int:
    """Return the port of the first loopback URL in a text."""
    found = re.search(r"http://127\.0\.0\.1:(\d+)", text)
    assert found is not None, text
    return int(found[1])


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the demo as a user would, in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_every_call_is_answered_and_the_server_agrees() -> None:
    """A short run in a process of its own ends well, in plain lines, and leaves no server."""
    with started("--part", "pipeline", "--requests", "40", "--seed", "3") as process:
        out, err = process.communicate(timeout=50)

    assert (process.returncode, err) == (0, "")
    assert "40 of 40 calls answered in" in out
    assert "none lost" in out
    saw, attempts = re.search(r"in all +(\d+) +(\d+)\n", out).groups()  # type: ignore[union-attr]
    assert saw == attempts
    assert not is_listening(port_in(out))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_stops_the_server_too() -> None:
    """An interrupted demo ends at once, with the shell's code for it, and leaves no server."""
    with started("--requests", "300") as process:
        assert process.stdout is not None
        port = port_in(process.stdout.readline())
        process.stdout.readline()
        was_listening = is_listening(port)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)

    assert was_listening
    assert process.returncode == 130
    assert err == "stopped; the server is stopped too\n"
    assert not is_listening(port)


def test_lost_calls_end_in_exit_code_1(tmp_path: Path) -> None:
    """With a policy that never retries some are lost, and a good second part does not hide it."""
    recipe = tmp_path / "policy.yaml"
    recipe.write_text(WITHOUT_RETRY)

    result = CliRunner().invoke(app, ["--requests", "20", "--policy", str(recipe), "--plain"])

    assert result.exit_code == 1
    assert re.search(r"\d+ of 20 calls lost \(.*HTTPStatusError", result.output)
    assert "20 of 20 calls answered" in result.output


def test_an_interrupted_demo_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130 is what a shell expects after Ctrl-C."""

    async def interrupted(_wanted: object, *, plain: bool) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("penstock.demo.main.show", interrupted)

    result = CliRunner().invoke(app, [])

    assert result.exit_code == 130
    assert "stopped" in result.output


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without httpx the command says what to install, and starts nothing."""
    monkeypatch.setattr(command, "_NEEDS", ("rich", "no_such_package"))

    result = CliRunner().invoke(app, [])

    assert result.exit_code == 2
    assert "needs no_such_package: pip install 'penstock[demo]'" in result.output


def test_a_terminal_gets_the_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal both parts paint and end with a panel."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")

    result = CliRunner().invoke(app, ["--requests", "5"])

    assert result.exit_code == 0, result.output
    assert "✔" in result.output
    assert result.output.count("5 of 5 calls answered") == 2
    assert "disabled: 401" in result.output


def test_the_server_ends_with_its_block() -> None:
    """Also when the block raises."""
    ports: list[int] = []

    def fail() -> None:
        with demo_server(1, 1) as url:
            ports.append(port_in(url))
            assert is_listening(ports[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not is_listening(ports[0])


def test_a_server_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck server is not waited for longer than a moment."""
    monkeypatch.setattr(process_module, "_SECONDS_TO_END", 0.1)
    stuck = [sys.executable, "-c", "import time; time.sleep(600)"]

    with subprocess.Popen(stuck, text=True) as process:
        process_module._end(process)

    assert process.returncode not in (None, 0)


def test_a_second_ctrl_c_leaves_no_server_either() -> None:
    """Whoever presses it again has no patience left; the server is killed and the key heard."""

    class Stuck:
        stdin = None
        killed = False

        def wait(self, _seconds: float) -> None:
            raise KeyboardInterrupt

        def kill(self) -> None:
            self.killed = True

    process = Stuck()

    with pytest.raises(KeyboardInterrupt):
        process_module._end(process)  # type: ignore[arg-type]

    assert process.killed


def test_a_server_that_does_not_start_is_an_error() -> None:
    """A run of no calls has no script; the server says why and the demo does not hang."""
    with pytest.raises(RuntimeError, match="did not start"), demo_server(1, 0):
        pytest.fail("it cannot have started")
