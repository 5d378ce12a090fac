"""The table of docs/integrations/index.md: which test run has shown what of which integration.

A test says what it shows by ``@pytest.mark.covers("openai", "retry")``. A run writes the table with
``pytest tests --integrations-table``; any other run compares, as far as it has seen enough.
"""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

__all__ = [
    "BEGIN",
    "BEHAVIOURS",
    "END",
    "INTEGRATIONS",
    "PAGE",
    "Cell",
    "Run",
    "Table",
    "is_known",
    "marked_files",
    "read",
    "render",
    "scan",
    "written",
]

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "integrations" / "index.md"

# Each with its page; where that is not there yet, its name stands alone.
INTEGRATIONS = {
    "httpx": "httpx",
    "httpx2": "httpx",
    "requests": "requests",
    "aiohttp": "aiohttp",
    "grpc": "grpc",
    "openai": "openai",
    "anthropic": "anthropic",
    "google_genai": "google_genai",
    "botocore": "aws",
    "redis": "redis",
    "postgres": "postgres",
    "starlette": "starlette",
    "celery": "celery",
    "arq": "arq",
    "taskiq": "taskiq",
}

BEHAVIOURS = {
    "classified": "its errors get the verdict that they mean, found without importing it",
    "retry": "failures that may pass are tried again, the others are not",
    "server hint": "the server's word about when to come back is obeyed, up to the cap",
    "quota headers": "what good answers say about quotas reaches pools and limits",
    "rotation": "each attempt has a key, proxy or client of its own; limited ones rest",
    "origins": "a key reaches no other host, by a redirect neither",
    "streams": "permit and lease are held until the stream is closed; retried until its first item",
    "deadline": "the time that is left is handed down, and nothing waits beyond it",
    "discard": "an answer that is not used is closed, and gives back what it held",
    "replay": "a body that cannot be sent twice is not",
    "own retries": "its own retries are off, or a warning says how to switch them off",
    "types": "static types and overloads survive, under mypy and pyright",
    "junk": "headers, bodies and connections that lie or break off have a defined outcome",
}

Cell = tuple[str, str]

BEGIN = "<!-- the table begins: written by `pytest tests --integrations-table` -->"
END = "<!-- the table ends -->"
_SHOWN = "✓"


class Table:
    """The plugin: writes the table after a run, or compares it with the run."""

    def __init__(self, config: pytest.Config, page: Path = PAGE, tests: Path = TESTS) -> None:
        self._page = page
        self._tests = tests
        self._writes = config.getoption("integrations_table", default=False)
        self._run = Run()
        self._said: list[str] = []

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Note what is left out."""
        self._run.deselected(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is going to run."""
        self._run.collected(session.items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how it went."""
        self._run.reported(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write or compare; a difference fails the run."""
        is_complete = self._run.is_complete(marked_files(self._tests))
        self._said = self._run.unknown_words()
        if self._writes:
            self._said += self._write(is_complete=is_complete)
        elif is_complete and session.exitstatus == pytest.ExitCode.OK:
            self._said += self._run.differences(read(self._page.read_text(encoding="utf-8")))
        if self._said:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is different."""
        if self._said:
            terminalreporter.section(f"the table of {self._page}", red=True)
            for line in self._said:
                terminalreporter.line(line)
            terminalreporter.line("to write it anew: pytest tests --integrations-table")

    def _write(self, *, is_complete: bool) -> list[str]:
        if not is_complete:
            return ["not written: not every test that covers a cell was run"]
        if skipped := sorted(self._run.skipped()):
            return [f"not written: skipped a test of {' and '.join(map(' '.join, skipped))}"]
        there = {page.stem for page in self._page.parent.glob("*.md")}
        text = self._page.read_text(encoding="utf-8")
        self._page.write_text(written(text, render(self._run.shown(), there)), encoding="utf-8")
        return []


class Run:
    """What one run of pytest has seen of the tests that cover a cell."""

    def __init__(self) -> None:
        self._cells: dict[str, set[Cell]] = {}
        self._files: set[Path] = set()
        self._bad: set[str] = set()
        self._good: set[str] = set()
        self._skipped: set[str] = set()
        self._is_cut = False

    def collected(self, items: Iterable[pytest.Item]) -> None:
        """Note the tests that are going to run."""
        for item in items:
            if cells := _cells_of(item):
                self._cells[item.nodeid] = cells
                self._files.add(item.path)

    def deselected(self, items: Iterable[pytest.Item]) -> None:
        """Note that some of the tests are not going to run; slow ones never do by themselves."""
        for item in items:
            if _cells_of(item):
                self._files.add(item.path)
                self._is_cut = self._is_cut or item.get_closest_marker("slow") is None

    def reported(self, report: pytest.TestReport) -> None:
        """Note how a phase of a test ended."""
        if report.failed or hasattr(report, "wasxfail"):
            self._bad.add(report.nodeid)
        elif report.skipped:
            self._skipped.add(report.nodeid)
        elif report.when == "call":
            self._good.add(report.nodeid)

    def unknown_words(self) -> list[str]:
        """Return the tests whose marks name no integration or behaviour of the table."""
        return [
            f"{test} covers {cell}, which is no cell of the table"
            for test, cells in self._cells.items()
            for cell in sorted(cells)
            if not is_known(cell)
        ]

    def is_complete(self, marked: Iterable[Path]) -> bool:
        """Return True if every test that covers a cell was to run, and has come to an end."""
        ended = self._good | self._bad | self._skipped
        return not self._is_cut and self._files >= set(marked) and ended >= self._cells.keys()

    def skipped(self) -> set[Cell]:
        """Return the cells of which nothing is known: one of their tests was skipped."""
        return self._of(self._skipped)

    def shown(self) -> set[Cell]:
        """Return the cells all of whose tests have passed."""
        return self._of(self._good) - self._of(self._bad) - self.skipped()

    def differences(self, page: set[Cell]) -> list[str]:
        """Return in which cells the page says something else than this run."""
        differing = (page ^ self.shown()) - self.skipped()
        return [
            f"{integration}, {behaviour}: the page has "
            + (f"{_SHOWN}, but no test that passes" if cell in page else "none, but its tests pass")
            for cell in sorted(differing)
            for integration, behaviour in [cell]
        ]

    def _of(self, tests: set[str]) -> set[Cell]:
        return {cell for test in tests for cell in self._cells.get(test, ())}


def _cells_of(item: pytest.Item) -> set[Cell]:
    return {mark.args for mark in item.iter_markers("covers")}


def is_known(cell: tuple[object, ...]) -> bool:
    """Return True for an integration and a behaviour of the table."""
    return len(cell) == 2 and cell[0] in INTEGRATIONS and cell[1] in BEHAVIOURS


def render(shown: Iterable[Cell], pages: Iterable[str]) -> str:
    """Return the table and its legend as Markdown.

    Args:
        shown: The cells that get a tick.
        pages: The pages that are there to link to, without their suffix.
    """
    ticked, there = set(shown), set(pages)
    lines = ["|  | " + " | ".join(BEHAVIOURS) + " |", "|---|" + ":-:|" * len(BEHAVIOURS)]
    for name, page in INTEGRATIONS.items():
        marks = (_SHOWN if (name, behaviour) in ticked else "" for behaviour in BEHAVIOURS)
        first = f"[{name}]({page}.md)" if page in there else name
        lines.append(f"| {first} | " + " | ".join(marks) + " |")
    legend = [f"- **{behaviour}**: {meaning}" for behaviour, meaning in BEHAVIOURS.items()]
    return "\n".join([*lines, "", *legend])


def written(text: str, table: str) -> str:
    """Return a page's text with another table between its two marks."""
    before, _, after = _parted(text)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def read(text: str) -> set[Cell]:
    """Return the cells that have a tick in a page's text."""
    rows = [line.split("|")[1:-1] for line in _parted(text)[1].splitlines() if line[:1] == "|"]
    heads = [cell.strip() for cell in rows[0]] if rows else []
    return {
        (re.sub(r"\[(.*)\]\(.*\)", r"\1", row[0].strip()), head)
        for row in rows[2:]
        for head, cell in zip(heads, row, strict=True)
        if cell.strip() == _SHOWN
    }


def _parted(text: str) -> tuple[str, str, str]:
    before, begin, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    assert begin, f"the page has no line {BEGIN}"
    assert end, f"the page has no line {END}"
    return before, table, after


def scan(mark: str, folder: Path = TESTS) -> Iterator[tuple[Path, list[object]]]:
    """Find where a mark is used in the tests, without running any.

    Yields:
        The file and the mark's arguments; of those that are no constants the expression itself.
    """
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if f"mark.{mark}" in text:
            yield from ((path, arguments) for arguments in _uses(mark, _parsed(text)))


def _parsed(text: str) -> ast.AST:
    # A future that is collected meanwhile logs its traceback, which is parsed too, and Python 3.11
    # takes that for a mistake of its parser.
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()


def _uses(mark: str, tree: ast.AST) -> Iterator[list[object]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(ast.Attribute(_, "mark"), name), args) if name == mark:
                yield [each.value if isinstance(each, ast.Constant) else each for each in args]
            case _:
                pass


def marked_files(folder: Path = TESTS) -> set[Path]:
    """Return the test files in which a cell is covered."""
    return {path for path, _ in scan("covers", folder) if path.name.startswith("test_")}
