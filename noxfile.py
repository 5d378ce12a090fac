"""The checks of this project, each in an environment of its own; `nox -l` lists them."""

import json
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
# A Python that was not found is a Python that was not tested.
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typecheck", "tests"]

PYTHONS = ["3.11", "3.12", "3.13"]
LOOPS = ["asyncio", "uvloop"]


@nox.session(python=PYTHONS)
@nox.parametrize("loop", LOOPS)
def tests(session: nox.Session, loop: str) -> None:
    """Run the tests on one Python and one event loop."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs, env={"PENSTOCK_TEST_LOOP": loop})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the direction of imports."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types with mypy and pyright, both strict."""
    session.install("-e", ".[test,lint]")
    session.run("mypy")
    session.run("pyright")


@nox.session
def stress(session: nox.Session) -> None:
    """Run the soak and stress tests, which take minutes."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slow", "--timeout", "900", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure penstock against its peers; a run on a busy machine tells nothing."""
    session.install("-e", ".[test,bench]")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run every code block of the pages and of the README."""
    session.install("-e", ".[docs]")
    session.run("pytest", "docs", "README.md", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Break the machines on purpose, and list the mutants that no test notices."""
    session.install("-e", ".[test]", "mutmut>=3.8")
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "results")
    session.run("mutmut", "export-cicd-stats")
    stats = json.loads(Path("mutants/mutmut-cicd-stats.json").read_text(encoding="utf-8"))
    session.log("mutants: %s", ", ".join(f"{count} {kind}" for kind, count in stats.items()))
