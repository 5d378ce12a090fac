from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.demo.process import demo_server

RECIPES = Path(__file__).parents[2] / "recipes"


def run(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run a recipe as a program and return the lines that it prints."""
    runpy.run_path(str(RECIPES / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


@pytest.mark.integration
def test_wrap_an_sdk_call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls come through a server that misbehaves towards each of them."""
    with demo_server(seed=3, calls=2) as url:
        monkeypatch.setattr(sys, "argv", ["recipe", url])
        lines = run("01_wrap_an_sdk_call.py", capsys)

    assert lines == ["{'call': 0}", "200"]


def test_policy_from_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    """The policies of the file work, and a mistake in one is explained."""
    lines = run("02_policy_from_yaml.py", capsys)

    assert lines[:3] == [
        "<Policy 'search': timeout, retry, rate_limit, timeout>",
        "found turbines",
        "report written",
    ]
    assert "retri" in lines[3]


def test_token_budget_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """Estimates are corrected, so twice the calls get through that the estimates allow."""
    lines = run("03_token_budget_rate.py", capsys)

    assert lines == ["20 answers in 63 s, within both limits", "5300 tokens"]


def test_share_one_limiter(capsys: pytest.CaptureFixture[str]) -> None:
    """Two policies together keep the one rate."""
    lines = run("04_share_one_limiter.py", capsys)

    assert lines == [
        "60 requests in 2.10 s: 20 in any second, whoever makes them",
        "free now: False",
        "[20]",
    ]


def test_batch_with_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress, results and errors of a batch; then the first result of one without end."""
    lines = run("05_batch_with_progress.py", capsys)

    assert lines == [
        "25 of 50",
        "50 of 50",
        "45 converted, 5 failed: page 7 is blank",
        "first: page 0",
    ]


@pytest.mark.integration
def test_test_in_virtual_time() -> None:
    """The recipe's own tests pass, with nothing but the plugin that penstock brings."""
    path = str(RECIPES / "06_test_in_virtual_time.py")

    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout
    assert "3 passed" in finished.stdout


def test_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """Opened again before the first item, closed after a break, never replayed."""
    lines = run("07_stream.py", capsys)

    assert lines == [
        "1 permit held while it is read",
        "['water', 'drives', 'the', 'turbine'] from connection 2",
        "only one",
        "0 held after it",
        "soon",
        "broken",
        "closed in the middle",
    ]


def test_fallback_to_second_model(capsys: pytest.CaptureFixture[str]) -> None:
    """The second model answers for the first, and the cache for both."""
    lines = run("08_fallback_to_second_model.py", capsys)

    assert lines == [
        "fallback after OverloadedError",
        "a short answer to 'why is the sky blue?'",
        "fallback after OverloadedError",
        "fallback after OverloadedError",
        "Paris (from yesterday)",
    ]


def test_rotate_api_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """One key is out, one rests before it is told to, one when it is told; no query fails."""
    *changes, answers = run("09_rotate_api_keys.py", capsys)

    assert changes == [
        "0 s: ben is disabled (401)",
        "0 s: eve is cooling for 45 s (quota)",
        "0 s: ann is cooling for 20 s (429)",
        "20 s: ann is ready (probe)",
    ]
    assert re.findall(r"q(\d) by (\w+)", answers) == [
        *zip("0123456", ["ann", "eve"] * 3 + ["ann"], strict=True)
    ]


def test_rotate_proxies(capsys: pytest.CaptureFixture[str]) -> None:
    """Each visit keeps its proxy, until that is blocked; the one with a wrong password is gone."""
    lines = run("10_rotate_proxies.py", capsys)

    assert lines == [
        "ada ['/page/0 through rome', '/page/1 through rome', '/page/2 through bern']",
        "bob ['/page/0 through bern', '/page/1 through bern', '/page/2 through bern']",
        "cyd ['/page/0 through bern', '/page/1 through bern', '/page/2 through bern']",
        "{'rome': 'cooling', 'bern': 'ready', 'kyiv': 'ready'}",
    ]


def test_exclusive_browser_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    """Two at a time, four in line, worn ones replaced while the others work."""
    lines = run("11_exclusive_browser_sessions.py", capsys)

    assert lines == [
        "closed browser-1",
        "closed browser-2",
        "page 0: page 0 in browser-1",
        "page 1: page 1 in browser-2",
        "page 2: page 2 in browser-1",
        "page 3: page 3 in browser-2",
        "page 4: page 4 in browser-1",
        "bad: the tab has crashed",
        "one too many: queue_full",
        "['browser-3', 'browser-4']",
    ]


def test_gpu_slots(capsys: pytest.CaptureFixture[str]) -> None:
    """Models are loaded less often where they stick, and a lower cap sends work elsewhere."""
    spread, stuck, uses = run("12_gpu_slots.py", capsys)

    assert spread.startswith("least_in_flight: 360 answers in ")
    assert stuck.startswith("sticky: 360 answers in ")
    told = [map(int, re.findall(r"(\d+) (?:s,|times)", line)) for line in (spread, stuck)]
    seconds, loads = zip(*told, strict=True)
    assert seconds[1] < seconds[0]
    assert loads[1] < loads[0] / 1.5
    assert int(re.findall(r"'gpu-0': (\d+)", uses)[0]) < 360 / 6


def test_browser_workers(capsys: pytest.CaptureFixture[str]) -> None:
    """A worn browser and a crashed one are started anew, and every page is fetched."""
    lines = run("13_browser_workers.py", capsys)

    assert lines[:2] == [
        "7 s: worker-0 starts anew (restart_every)",
        "8 s: worker-1 starts anew (the tab has crashed)",
    ]
    pages = [line.partition(" in guest-")[0] for line in lines[2:-1]]
    assert pages == ["front page", *(f"page {n}" for n in range(8))]
    assert "| urgent in guest-" in lines[2]
    assert re.fullmatch(r"all in \d+ s", lines[-1])


@pytest.mark.integration
def test_cpu_in_processes() -> None:
    """All primes are counted although a process is killed in the middle."""
    finished = subprocess.run(
        [sys.executable, str(RECIPES / "14_cpu_in_processes.py")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    told, processes = finished.stdout.splitlines()
    assert told == "33860 primes below 400000"
    assert re.fullmatch(r"counted by [123] processes, one of which was killed", processes)


def test_gpu_workers(capsys: pytest.CaptureFixture[str]) -> None:
    """Devices come when questions wait, keep their conversations, and the lost one is replaced."""
    lines = run("15_gpu_workers.py", capsys)

    assert lines[0] == " 20 s: worker-0 is up (started)"
    assert lines[3] == " 40 s: {'cuda:0': 40}"
    assert lines[5].count("cuda:") == 3
    assert sum("unhealthy" in line for line in lines) == 1
    assert sum("(idle)" in line for line in lines) == 2


@pytest.mark.integration
@pytest.mark.ray
@pytest.mark.parametrize("where", ["process", "ray"])
def test_ray_cluster(where: str) -> None:
    """The same program runs on one machine and on Ray, and survives a crash on both."""
    if where == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'penstock[ray]'")

    finished = subprocess.run(
        [sys.executable, str(RECIPES / "16_ray_cluster.py"), where],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )

    assert finished.returncode == 0, finished.stderr
    assert "2000 documents, score 6000" in finished.stdout
    assert "20 more around a crash, none in this process" in finished.stdout


@pytest.mark.parametrize("path", sorted(RECIPES.glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_a_recipe_is_short_and_has_a_test(path: Path) -> None:
    """At most 60 lines, and named by a test, here or among those of its integration."""
    beside = Path(__file__).parents[1].glob("integrations/**/*.py")
    tests = "".join(each.read_text(encoding="utf-8") for each in (Path(__file__), *beside))

    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
    assert path.name in tests
