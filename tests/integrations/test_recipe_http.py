"""The recipes over httpx, as programs, against a real server."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.scripting import Scripts, scripts

pytestmark = pytest.mark.integration

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def script() -> Iterator[Scripts]:
    """Register the steps that the server takes."""
    with scripts() as running:
        yield running


def run(
    name: str,
    arguments: list[object],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Run a recipe as a program and return the lines that it prints."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(RECIPES / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_polite_scraper(
    script: Scripts,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    unused_tcp_port: int,
):
    """A dead proxy rests, one whose password is wrong is out, and every page is read."""
    steps = script.everywhere({"ports": {"1": {"status": 407}}})
    sites = "http://one.example,http://two.example"
    proxies = [script.origin(1), f"http://127.0.0.1:{unused_tcp_port}", script.origin(2)]

    arguments = [sites, ",".join(proxies)]
    lines = run("20_polite_scraper.py", arguments, capsys, monkeypatch)

    assert lines[0] == "24 pages, by status: {'200': 24}"
    assert [line.partition(",")[0] for line in lines[1:]] == [
        "proxy 1: disabled",
        "proxy 2: cooling",
        "proxy 3: ready",
    ]
    assert {request["headers"]["host"] for request in steps.arrived()} == {
        "one.example",
        "two.example",
    }


def test_batch_of_10000(
    script: Scripts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Every item is answered; three first tries are not."""
    steps = script(*[{"status": 503}] * 3, {"body": "12345"})

    lines = run("21_batch_of_10000.py", [steps.url, 1_000], capsys, monkeypatch)

    assert lines[:2] == ["1000 of 1000", "1000 answers, 5000 bytes, 0 failed"]
    assert re.fullmatch(r"[\d,]+ a second", lines[2])
    assert len(steps.arrived()) == 1_003
