from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.servers.llm_answers import TEXT
from tests.integrations.servers.llm_script import Script
from tests.integrations.serving import serve

pytestmark = pytest.mark.integration

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve for all tests of this file."""
    with serve("llm") as url:
        yield url


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run a recipe as a program and return the lines that it prints."""

    def run(name: str, script: Script) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, f"{script.url}/v1"])
        runpy.run_path(str(RECIPES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_llm_five_keys(server: str, run):
    """One key is revoked, one limited: the others answer, none beyond its budget."""
    limited = {"status": 429, "headers": {"retry-after": "50"}}
    script = Script(server, {"sk-ben": [{"status": 401}] * 9, "sk-dan": [limited] * 9})

    answers, used = run("17_llm_five_keys.py", script)

    assert answers.startswith("9 answers Health(")
    assert ast.literal_eval(used) == {"ann": 3, "ben": 0, "cid": 3, "dan": 0, "eve": 3}


def test_wrap_a_client(server: str, run):
    """The calls go through failures, and the last one fails with the SDK's own error."""
    bad = {"status": 400, "error": {"message": "messages must not be empty"}}
    limited = {"status": 429, "headers": {"retry-after": "30"}}
    good = {}
    script = Script(
        server,
        {"sk-ann": [limited], "sk-ben": [{"status": 500}, good, {"status": 503}, good, good, bad]},
    )

    lines = run("18_wrap_a_client.py", script)

    assert lines == [
        TEXT,
        TEXT,
        "['model-0', 'model-1']",
        "BadRequestError: Error code: 400 - messages must not be empty",
    ]


def test_streaming_chat(server: str, run):
    """A stream that breaks before its first word is opened again, one that breaks later is not."""
    script = Script(
        server,
        {
            "*": [
                {"status": 503},
                {"items": 0, "then": "reset"},
                {},
                {},
                {"items": 2, "then": "cut"},
            ]
        },
    )

    lines = run("19_streaming_chat.py", script)

    assert lines == [
        "water drives the turbine",
        "water drives ",
        "water drives ... (APIConnectionError)",
        "0 permits held",
    ]
