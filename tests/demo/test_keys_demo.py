from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys

import httpx
import pytest
import typer
from typer.testing import CliRunner

from penstock import Resource
from penstock.cli import demo as command
from penstock.demo.rotation.book import Book
from penstock.demo.rotation.drive import KeyedRequests
from penstock.demo.rotation.keys import KEYS, value_of

app = typer.Typer()
app.command()(command.demo)

RUN = "import typer; from penstock.cli.demo import demo; typer.run(demo)"


@pytest.mark.integration
def test_five_keys_answer_every_call_and_show_no_value() -> None:
    """A run in a process of its own: all counts agree, and no key is on its screen."""
    command_line = [sys.executable, "-c", RUN, "--part", "rotation", "--requests", "80"]

    done = subprocess.run(command_line, capture_output=True, text=True, timeout=50, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "80 of 80 calls answered in" in done.stdout
    assert "'revoked' was asked 4 times, never again after its first 401" in done.stdout
    sums = re.search(r"in all +((?:\d+ +){6})", done.stdout)
    assert sums is not None
    sent, saw, *ends = map(int, sums[1].split())
    assert sent == saw == sum(ends)
    assert not values_in(done.stdout, 7)


@pytest.mark.integration
@pytest.mark.parametrize("lively", [False, True])
def test_no_log_record_and_no_screen_shows_a_key(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, lively: bool
) -> None:
    """Neither ours nor the HTTP client's at its most talkative, in lines or in a live table."""
    monkeypatch.setenv("COLUMNS", "200")
    if lively:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    caplog.set_level(logging.DEBUG)

    result = CliRunner().invoke(app, ["--part", "rotation", "--requests", "30", "--seed", "11"])

    assert result.exit_code == 0, result.output
    assert "send_request_headers" in caplog.text
    assert not values_in(result.output + caplog.text, 11)


@pytest.mark.virtual_time
async def test_a_failing_request_shows_no_key() -> None:
    """What httpx raises for a status has the URL in it, and the key is not in the URL."""
    requests = requests_to(lambda _: httpx.Response(401))
    key = Resource(value_of(7, "revoked"), "revoked")

    with pytest.raises(httpx.HTTPStatusError) as caught:
        await requests.fetch(key, 3)

    assert not values_in(f"{caught.value!r} {caught.value}", 7)


@pytest.mark.virtual_time
async def test_a_request_carries_the_key_and_an_answer_its_call() -> None:
    """The key goes into the header and nowhere else."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"call": 42})

    answer = await requests_to(handle).fetch(Resource("secret", "good"), 42)

    assert answer == 42
    assert seen[0].headers["Authorization"] == "Bearer secret"
    assert "secret" not in str(seen[0].url)


@pytest.mark.virtual_time
@pytest.mark.parametrize(("reachable", "seconds"), [(4, 0.1), (3, 2.0)])
async def test_a_server_that_is_behind_is_waited_for_but_not_for_long(
    reachable: int, seconds: float
) -> None:
    """It counts a request when it has read it, which may be after we gave it up."""
    counts = iter(range(2, 100))
    book = Book()
    book.keys["good"].sent = 4
    requests = requests_to(
        lambda _: httpx.Response(200, json={"good": {"200": min(next(counts), reachable)}}), book
    )

    await requests.wait_for_server()

    assert book.seen_with("good") == reachable
    assert seconds <= asyncio.get_running_loop().time() < seconds + 0.1


def requests_to(handle: object, book: Book | None = None) -> KeyedRequests:
    """Return requests to a server that is a function."""
    transport = httpx.MockTransport(handle)  # type: ignore[arg-type]
    client = httpx.AsyncClient(base_url="http://test", transport=transport)
    return KeyedRequests(client, book or Book())


def values_in(text: str, seed: int) -> list[str]:
    """Return the ids of the keys whose values are in a text, line breaks or not."""
    joined = re.sub(r"\s|\x1b\[[0-9;]*m|│", "", text)
    return [terms.id for terms in KEYS if value_of(seed, terms.id)[8:24] in joined]
