from __future__ import annotations

import inspect
import re
from pathlib import Path

import anthropic
import botocore.session
import httpx
import httpx2
import openai
import pytest
import redis.asyncio
import requests

from tests.integrations.table import (
    BEGIN,
    BEHAVIOURS,
    END,
    INTEGRATIONS,
    PAGE,
    TESTS,
    is_known,
    read,
    render,
    scan,
    written,
)

pytest_plugins = ["pytester"]

CONFTEST = """
import inspect
import re
from pathlib import Path

import anthropic
import botocore.session
import httpx
import httpx2
import openai
from tests.integrations.table import Table

HERE = Path(__file__).parent

def pytest_addoption(parser):
    parser.addoption("--integrations-table", action="store_true")

def pytest_configure(config):
    for line in ("covers(integration, behaviour): one", "slow: another"):
        config.addinivalue_line("markers", line)
    config.pluginmanager.register(Table(config, HERE / "page.md", HERE))
"""

TWO_FILES = {
    "test_one": """
import pytest
import redis.asyncio
import requests

@pytest.mark.covers("redis", "retry")
@pytest.mark.covers("redis", "junk")
def test_retry(): pass

@pytest.mark.covers("redis", "retry")
@pytest.mark.parametrize("n", [1, 2])
def test_retry_again(n): pass

@pytest.mark.slow
@pytest.mark.covers("redis", "deadline")
def test_slow(): pass
""",
    "test_two": """
import pytest
import redis.asyncio
import requests

@pytest.mark.covers("arq", "retry")
def test_arq(): pass

def test_other(): pass
""",
}
SHOWN = {("redis", "retry"), ("redis", "junk"), ("arq", "retry")}
EMPTY = f"# A page\n\n{BEGIN}\n\n{END}\n"


class Project:
    """A project whose tests cover cells, and its page."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.page = pytester.path / "page.md"
        self.show(set())
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(**TWO_FILES)

    def show(self, cells: set[tuple[str, str]]) -> None:
        """Write a page that shows some cells."""
        self.page.write_text(written(EMPTY, render(cells, [])), encoding="utf-8")

    def shown(self) -> set[tuple[str, str]]:
        """Return the cells that its page shows."""
        return read(self.page.read_text(encoding="utf-8"))

    def change(self, old: str, new: str) -> None:
        """Change the text of its tests."""
        files = {name: text.replace(old, new) for name, text in TWO_FILES.items()}
        self._pytester.makepyfile(**files)

    def run(self, *args: str) -> tuple[int, str]:
        """Run its tests; return the exit code and what was printed."""
        selected = ("-m", "not slow", "-p", "no:cacheprovider", "-p", "no:asyncio")
        result = self._pytester.runpytest_inprocess(*selected, *args)
        return int(result.ret), result.stdout.str()


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    """Return a project with three cells to show."""
    return Project(pytester)


# --- the real page and the real tests ----------------------------------------------------------


def test_every_mark_names_a_cell_of_the_table():
    """A misspelt word would be a tick that is never set."""
    unknown = [
        (path.name, cell)
        for path, cell in scan("covers")
        if path.is_relative_to(TESTS) and all(isinstance(word, str) for word in cell)
        if not is_known(tuple(cell))
    ]

    assert unknown == []


def test_the_page_has_the_rows_columns_and_legend_of_today():
    """Only the ticks and the links of the table may be news."""
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition(BEGIN)[2]
    pages = {page for page in INTEGRATIONS.values() if f"]({page}.md) |" in table}

    assert written(text, render(read(text), pages)) == text


# --- writing and comparing ---------------------------------------------------------------------


def test_a_table_that_was_written_is_read_again():
    """Also where a row leads to a page."""
    cells = {(i, b) for n, i in enumerate(INTEGRATIONS) for b in list(BEHAVIOURS)[: n % 5]}

    text = written(EMPTY, render(cells, ["redis", "aws"]))

    assert read(text) == cells
    assert "[botocore](aws.md)" in text
    assert text.startswith("# A page\n")


def test_the_option_writes_what_the_run_has_shown(project: Project):
    """And the next run without it agrees."""
    written_by = project.run("--integrations-table")
    compared = project.run()

    assert project.shown() == SHOWN
    assert (written_by[0], compared[0]) == (0, 0)


def test_a_tick_too_many_fails_the_run(project: Project):
    """Nobody covers it any longer."""
    project.show({*SHOWN, ("grpc", "streams")})

    code, output = project.run()

    assert code == pytest.ExitCode.TESTS_FAILED
    assert "grpc, streams: the page has ✓, but no test that passes" in output
    assert "pytest tests --integrations-table" in output


def test_a_tick_too_few_fails_the_run(project: Project):
    """The tests pass, and nobody has written it down."""
    project.show(SHOWN - {("arq", "retry")})

    code, output = project.run()

    assert code == pytest.ExitCode.TESTS_FAILED
    assert "arq, retry: the page has none, but its tests pass" in output


@pytest.mark.parametrize(
    "selection",
    [("-k", "again"), ("test_two.py",), ("--deselect", "test_two.py::test_arq"), ("--co",)],
    ids=["by word", "by file", "deselected", "collected only"],
)
def test_a_run_of_some_tests_compares_nothing(project: Project, selection: tuple[str, ...]):
    """What it has not seen it cannot judge."""
    project.show({("grpc", "streams")})

    code, output = project.run(*selection)

    assert (code, "grpc" in output) == (0, False)


def test_a_failing_test_is_what_a_failing_run_tells(project: Project):
    """Its cell, and those after ``-x``, are no second failure."""
    project.show(SHOWN)
    project.change("def test_arq(): pass", "def test_arq(): assert False")

    failed, cut = project.run(), project.run("-x", "test_two.py", "test_one.py")

    assert (failed[0], cut[0]) == (1, 1)
    assert "the page has" not in failed[1] + cut[1]


def test_a_cell_whose_test_failed_is_written_blank(project: Project):
    """All tests of a cell have to pass."""
    project.show(SHOWN)
    project.change("def test_retry_again(n): pass", "def test_retry_again(n): assert n == 1")

    code, _ = project.run("--integrations-table")

    assert code == 1
    assert project.shown() == SHOWN - {("redis", "retry")}


@pytest.mark.parametrize("tick", [True, False])
def test_a_skipped_test_says_nothing_of_its_cell(project: Project, *, tick: bool):
    """Where a server is missing, the page is right whatever it says; the other cells count."""
    project.change("def test_arq(): pass", "def test_arq(): pytest.skip('no server')")
    project.show(SHOWN if tick else SHOWN - {("arq", "retry")})

    code, _ = project.run()
    project.show({("arq", "retry")})
    other, output = project.run()

    assert (code, other) == (0, 1)
    assert "redis, junk" in output
    assert "arq, retry" not in output


@pytest.mark.parametrize("how", ["skip", "select"])
def test_nothing_is_written_from_a_run_that_has_not_seen_all(project: Project, how: str):
    """It would take away ticks that others have earned."""
    project.show({("grpc", "streams")})
    if how == "skip":
        project.change("def test_arq(): pass", "def test_arq(): pytest.skip('no server')")

    code, output = project.run(
        "--integrations-table", *(["-k", "again"] if how == "select" else [])
    )

    assert code == pytest.ExitCode.TESTS_FAILED
    assert "not written: " in output
    assert project.shown() == {("grpc", "streams")}


def test_a_mark_that_is_no_cell_fails_the_run(project: Project):
    """Whatever else was selected."""
    project.change('"arq", "retry"', '"arq", "retries"')

    code, output = project.run("test_two.py")

    assert code == pytest.ExitCode.TESTS_FAILED
    assert "covers ('arq', 'retries'), which is no cell of the table" in output


def test_marks_are_found_without_running_the_tests(tmp_path: Path):
    """Also in parameters, and with arguments that are no constants."""
    tmp_path.joinpath("test_it.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.finding(4)\n"
        "@pytest.mark.finding(2)\n"
        "def test(): pass\n"
        "ROW = pytest.param(1, marks=[pytest.mark.finding(NUMBER)])\n",
        encoding="utf-8",
    )

    found = [arguments for _, arguments in scan("finding", tmp_path)]

    assert found[:2] == [[2], [4]] or found[:2] == [[4], [2]]
    assert len(found) == 3


# --- what the page says of others ---------------------------------------------------------------


def test_the_retries_that_the_page_tells_are_those_of_the_libraries():
    """Where a new release has others, its row needs a new number."""
    defaults = {
        "openai": openai.AsyncOpenAI(api_key="sk").max_retries,
        "anthropic": anthropic.AsyncAnthropic(api_key="sk").max_retries,
        "redis-py": redis.asyncio.Redis().get_retry()._retries,
        "requests": requests.adapters.HTTPAdapter().max_retries.total,
        "httpx": inspect.signature(httpx.AsyncHTTPTransport).parameters["retries"].default,
        "httpx2": inspect.signature(httpx2.AsyncHTTPTransport).parameters["retries"].default,
    }

    told = PAGE.read_text("utf-8").partition("## Switch")[2].partition(BEGIN)[0]
    rows = {
        name: re.search(rf"^\| [^|]*\b{name}\b[^|]*\| (\w+)", told, re.MULTILINE)
        for name in defaults
    }

    assert {name: row and row[1] for name, row in rows.items()} == {
        name: str(number or "none") for name, number in defaults.items()
    }


def test_botocore_retries_unless_it_is_told_not_to():
    """Its default mode is the one that the page counts."""
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "key"}
    created = botocore.session.Session().create_client("s3", "eu-west-1", **keys)

    assert created.meta.config.retries["mode"] == "legacy"
