"""The shape of the code: who may import whom, what a stage consists of, what is public.

Whoever adds a stage and forgets a part of it is told here which.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import Policy
from penstock.config.registry import STAGES as REGISTRY
from penstock.keywords import BreakerKeywords, PoolKeywords
from penstock.options import rules_of

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "penstock"
MODULES = sorted(SOURCE.rglob("*.py"))
STAGES = sorted(p.name for p in (SOURCE / "stages").iterdir() if (p / "__init__.py").exists())
CONTRACTS = {
    contract["id"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
}

PUBLIC = [
    "BudgetExhaustedError",
    "Call",
    "CallTimeoutError",
    "CircuitOpenError",
    "ConcurrencyLimitedError",
    "ConfigError",
    "CooldownResource",
    "DisableResource",
    "Escalation",
    "Event",
    "FunctionPool",
    "Handler",
    "Health",
    "InvalidResultError",
    "Job",
    "Lease",
    "NoResourceError",
    "Observer",
    "Policy",
    "PolicyError",
    "PolicyOrderWarning",
    "Pool",
    "PoolStoppedError",
    "RateLimitedError",
    "RejectedError",
    "RemoteError",
    "Resource",
    "RestartWorker",
    "RotatingPolicy",
    "SkipTask",
    "Stage",
    "StopPool",
    "TripBreaker",
    "TryAgain",
    "Verdict",
    "VerdictKind",
    "Worker",
    "WorkerDiedError",
    "WorkerPool",
    "current_call",
    "current_lease",
    "current_resource",
]

METHODS = {
    "budget": "with_budget",
    "breaker": "with_breaker",
    "concurrency": "with_concurrency",
    "fallback": "with_fallback",
    "rate_limit": "with_rate",
    "retry": "with_retry",
    "rotation": "rotating",
    "timeout": "with_timeout",
}

# Where the key in YAML is not the end of the method's name.
YAML_KEYS = {"rotation": "rotate"}

KEYWORDS = {"breaker": BreakerKeywords, "rotation": PoolKeywords}

# What a stage takes besides its options: Retry(options, seed=...).
EXTRA = {"retry": {"seed"}}

MOST_LINES_OF_A_FILE = 250
MOST_LINES_OF_A_FUNCTION = 35

# Each with its reason; an entry that is no longer needed has to go.
LONGER_FILES = {
    "workers/pool.py": "overloads and documentation of the public class",
    "call.py": "one class and what it is made of, nearly half of it documentation",
    "events.py": "one record per kind of event, most of it documentation",
    "options.py": "one definition per kind of value, all of the same few lines",
    "policy.py": "overloads and documentation of the public class",
    "stages/retry/backoff.py": "nine formulas, each with its source",
}


def _name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def _class_name(stage: str) -> str:
    return "".join(word.title() for word in stage.split("_"))


def _options_of(stage: str) -> Any:
    module = importlib.import_module(f"penstock.stages.{stage}")
    return getattr(module, f"{_class_name(stage)}Options")


def _fields_of(stage: str) -> set[str]:
    return {field.name for field in fields(_options_of(stage))}


# --- public names and imports -----------------------------------------------------------------


def test_the_public_names_are_these_and_no_others():
    """A new one is a promise, and one that goes breaks somebody's code: change it here too."""
    assert penstock.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC
    assert all(hasattr(penstock, name) for name in PUBLIC)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_says_what_it_is_for_and_what_it_gives(path: Path):
    """A docstring, and an ``__all__`` whose names exist, sorted as ruff sorts them."""
    tree = _tree(path)
    if path.stat().st_size == 0:
        return
    assert ast.get_docstring(tree)
    module_name = "penstock." + _name(path)[:-3].replace("/", ".").removesuffix("__init__")
    module = importlib.import_module(module_name.rstrip("."))
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), name


def test_imports_point_one_way():
    """The contracts in pyproject.toml hold."""
    pytest.importorskip("importlinter", reason="it comes with the extra 'lint'")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as m; m()"]

    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_every_stage_is_bound_by_the_contracts():
    """A new one is named among those that do not import each other."""
    assert sorted(CONTRACTS) == ["inside-a-stage", "layers", "pure", "stages"]
    assert CONTRACTS["stages"]["modules"] == [f"penstock.stages.{stage}" for stage in STAGES]
    assert CONTRACTS["layers"]["exhaustive"]


@pytest.mark.parametrize(
    "path",
    [
        SOURCE / "waitlist.py",
        SOURCE / "verdict.py",
        *(
            SOURCE / "pools" / f"{name}.py"
            for name in ("candidate", "cooldown", "lane", "lanes", "leases", "machine", "roster")
        ),
        *sorted((SOURCE / "stages").glob("*/machine.py")),
        *sorted((SOURCE / "stages").glob("*/options.py")),
    ],
    ids=_name,
)
def test_what_decides_is_pure(path: Path):
    """It neither waits nor reads a clock, draws at random or logs."""
    assert _imports(path).isdisjoint({"asyncio", "logging", "random", "time", "penstock.clock"})


HEAVY = {
    "aiolimiter",
    "httpx",
    "opentelemetry",
    "pybreaker",
    "pydantic",
    "pytest",
    "rich",
    "tenacity",
    "typer",
    "yaml",
}


@pytest.mark.integration
@pytest.mark.parametrize(
    "program",
    [
        "import penstock",
        """
from penstock import Policy
policy = (
    Policy("all", classify_result="http", observers=[print])
    .with_timeout(30).with_fallback(value=None).with_budget().with_retry(3, 0.1)
    .with_rate("10/s").with_breaker().with_concurrency(5).with_timeout(5)
)
async def operation(): raise OSError
policy.run_sync(operation)
""",
    ],
    ids=["imported", "used"],
)
def test_nothing_is_imported_that_is_not_needed(program: str):
    """The packages that penstock goes with cost nothing until one of their objects is given."""
    script = f"{program}\nimport sys; print(*sys.modules, sep='\\n', file=sys.stderr)"

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[0] for name in ran.stderr.split()}
    assert "penstock" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_time_is_read_through_the_clock_alone(path: Path):
    """A copied ``now`` would keep reading real time in a test; ``wait_for`` costs a task."""
    text = path.read_text("utf-8")

    assert not re.search(r"^\s*from penstock\.clock import .*\bnow\b", text, re.MULTILINE)
    assert "asyncio.wait_for(" not in text
    # How long a method has blocked its process no other clock can tell.
    real = {"clock.py", "demo", "testing", "workers/modes/process_child.py"}
    if not real & {_name(path), _name(path).split("/")[0]}:
        assert not re.search(r"\btime\.(monotonic|perf_counter)\(", text)


# --- sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_file_can_be_read_in_one_go(path: Path):
    """Above 250 lines it needs a reason, written down above."""
    lines = len(path.read_text("utf-8").splitlines())

    assert (lines > MOST_LINES_OF_A_FILE) == (_name(path) in LONGER_FILES), lines


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_function_can_be_seen_at_one_glance(path: Path):
    """At most 35 lines, its docstring not counted."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            lines = (node.end_lineno or 0) - node.lineno + 1 - len(docstring.splitlines())
            assert lines <= MOST_LINES_OF_A_FUNCTION, node.name


# --- what a stage consists of -------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_its_three_parts_by_their_names(stage: str):
    """What can I set? How does it decide? How does it wait?"""
    folder = SOURCE / "stages" / stage
    module = importlib.import_module(f"penstock.stages.{stage}")

    for part in ("options.py", "machine.py", "stage.py"):
        assert (folder / part).exists(), part
    assert _options_of(stage).stage == stage
    assert getattr(module, _class_name(stage)).name == stage


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_tested_and_cancelled_at_every_point(stage: str):
    """A test file of its own, with a cancel sweep in it."""
    tests = ROOT / "tests" / "stages" / f"test_{stage}.py"

    assert tests.exists()
    assert "cancel_sweep(" in tests.read_text("utf-8")


@pytest.mark.parametrize("stage", STAGES)
def test_the_page_of_a_stage_lists_its_options(stage: str):
    """All of them, no others, and the page follows the outline."""
    page = (ROOT / "docs" / "stages" / f"{stage}.md").read_text("utf-8")
    options = page.partition("\n## Options\n")[2].partition("\n## ")[0]

    listed = set(re.findall(r"^\| `(\w+)` \|", options, re.MULTILINE))

    assert page.startswith(f"# {stage}\n")
    assert listed == _fields_of(stage) | EXTRA.get(stage, set())
    for heading in ("Example", "Options", "Events", "Pitfalls", "Peers"):
        assert f"\n## {heading}\n" in page, heading


@pytest.mark.parametrize("stage", STAGES)
def test_the_fluent_method_of_a_stage_takes_its_options(stage: str):
    """By the same names, documented in one place."""
    method = getattr(Policy, METHODS[stage])
    parameters = set(inspect.signature(method).parameters) - {"self"}
    if "options" in parameters:
        keywords = KEYWORDS[stage].__annotations__
        parameters = parameters - {"options"} | set(keywords)

    assert parameters == _fields_of(stage) | EXTRA.get(stage, set())
    assert method.__doc__


@pytest.mark.parametrize("stage", STAGES)
def test_yaml_knows_a_stage_by_the_same_options(stage: str):
    """One line in the registry, and a part of the reference."""
    (entry,) = [e for e in REGISTRY.values() if e.block.options is _options_of(stage)]
    reference = (ROOT / "docs" / "reference" / "yaml.md").read_text("utf-8")
    part = reference.partition(f"\n## `{entry.block.key}`\n")[2].partition("\n## ")[0]
    table = part.partition("\n### ")[0]

    assert METHODS[stage].removeprefix("with_") == entry.block.key or stage in YAML_KEYS
    assert entry.block.key == YAML_KEYS.get(stage, entry.block.key)
    assert set(entry.block.fields) == _fields_of(stage)
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == _fields_of(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_the_options_of_a_stage_are_documented_one_by_one(stage: str):
    """Each field in the class's docstring, and each with a rule, but for what takes anything."""
    options = _options_of(stage)
    pages = "\n".join(inspect.getdoc(kind) or "" for kind in options.__mro__[:-1])
    documented = set(re.findall(r"^ {4,8}(\w+): ", pages, re.MULTILINE))

    assert _fields_of(stage) <= documented
    checked_by_hand = {
        "breaker": {"on_state_change"},
        "fallback": {"value", "function", "policy"},
        "rate_limit": {"cost"},
        "rotation": {"resources"},
    }
    assert _fields_of(stage) - set(rules_of(options)) == checked_by_hand.get(stage, set())


def test_every_registered_stage_has_a_folder():
    """Nothing is left of a stage that has gone."""
    assert {entry.block.options.stage for entry in REGISTRY.values()} == set(STAGES)
    assert set(METHODS) == set(STAGES)
    pages = {page.stem for page in (ROOT / "docs" / "stages").glob("*.md")}
    assert pages - {"index"} == set(STAGES)


def test_the_transports_of_httpx_and_httpx2_are_twins():
    """Type checkers need a class of each package; what one learns the other has to learn too."""
    elder, younger = (SOURCE / "integrations" / f"{name}.py" for name in ("httpx", "httpx2"))

    renamed = re.sub(r"\bhttpx\b", "httpx2", elder.read_text("utf-8"))

    assert renamed == younger.read_text("utf-8")
