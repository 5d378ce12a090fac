"""The commands that read policy files and print their schema."""

from __future__ import annotations

import builtins
import json
import sys

import pytest
from typer.testing import CliRunner

from penstock import cli
from penstock.cli.app import app
from penstock.config.schema import policy_schema

GOOD = "version: 1\npolicies: {search: {pipeline: [timeout: 3s]}, report: {pipeline: []}}\n"
BAD = "version: 1\npolicies:\n  search:\n    pipeline:\n      - timeout: 30 secs\n"
WARN = "version: 1\npolicies: {p: {pipeline: [rate: 3/s, retry: 3]}}\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    """Run in a folder with a good, a bad and a doubtful file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in (("good", GOOD), ("bad", BAD), ("warn", WARN)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def run(*arguments: str):
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments))


def test_check_names_the_policies_of_a_good_file():
    """One line, and an exit code of 0."""
    result = run("check", "good.yaml")

    assert (result.exit_code, result.stdout) == (0, "good.yaml: ok (search, report)\n")


def test_check_prints_the_report_of_a_bad_file_and_ends_with_1():
    """The text is the one that the exception has, and no escape code is in it."""
    result = run("check", "bad.yaml")

    assert result.exit_code == 1
    assert result.stdout == (
        "bad.yaml:5:18: error: unknown time unit 'secs'\n"
        "  5 |       - timeout: 30 secs\n"
        "    |                  ^^^^^^^ did you mean '30s'?\n"
        "1 error(s) in bad.yaml\n"
    )


def test_check_prints_warnings_and_ends_with_0():
    """A warning is worth reading, and refuses nothing."""
    result = run("check", "warn.yaml")

    assert result.exit_code == 0
    assert "warn.yaml:2:38: warning: the rate limit stands outside retry" in result.stdout
    assert result.stdout.endswith("warn.yaml: ok (p)\n")


def test_check_goes_through_all_files():
    """One that is wrong hides none of the others, nor does one that is not there."""
    result = run("check", "bad.yaml", "missing.yaml", "good.yaml")

    assert result.exit_code == 1
    assert "1 error(s) in bad.yaml" in result.stdout
    assert "missing.yaml: error: No such file or directory" in result.stdout
    assert result.stdout.endswith("good.yaml: ok (search, report)\n")


def test_check_prints_json_for_programs():
    """Everything about each problem but the line of the file."""
    result = run("check", "--format", "json", "bad.yaml", "good.yaml")

    bad, good = json.loads(result.stdout)
    assert result.exit_code == 1
    assert good == {"file": "good.yaml", "policies": ["search", "report"], "problems": []}
    assert bad["problems"] == [
        {
            "message": "unknown time unit 'secs'",
            "path": "policies.search.pipeline[0].timeout",
            "line": 5,
            "column": 18,
            "hint": "did you mean '30s'?",
            "note": None,
            "level": "error",
            "width": 7,
        }
    ]


def test_check_finds_modules_in_the_current_directory(in_folder):
    """A policy file stands beside the code that it names."""
    (in_folder / "penstock_test_hooks.py").write_text("def answer(failure): ...\n")
    stage = "fallback: {python: 'penstock_test_hooks:answer'}"
    (in_folder / "p.yaml").write_text(f"version: 1\npolicies: {{p: {{pipeline: [{stage}]}}}}\n")

    result = run("check", "p.yaml")

    assert result.stdout == "p.yaml: ok (p)\n"


def test_check_colours_the_report_on_a_terminal(monkeypatch):
    """The caret is red where somebody looks at it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    result = CliRunner().invoke(app, ["check", "bad.yaml"], color=True)

    assert "\x1b[1;31m" in result.stdout


def test_brackets_in_a_file_are_not_markup(in_folder):
    """What looks like rich's markup is printed as it is."""
    (in_folder / "p.yaml").write_text("version: 1\npolicies: {p: {pipeline: ['[bold]x[/bold]']}}\n")

    result = run("check", "p.yaml")

    assert "pipeline: ['[bold]x[/bold]']" in result.stdout


def test_schema_prints_the_json_schema():
    """To stdout, for a pipe."""
    result = run("schema")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == policy_schema()


def test_schema_writes_to_a_file(in_folder):
    """Or to a file, and then nothing is printed."""
    result = run("schema", "--output", "policy.schema.json")

    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((in_folder / "policy.schema.json").read_text()) == policy_schema()


def test_schema_says_when_it_cannot_write():
    """Without a traceback."""
    result = run("schema", "--output", "nowhere/policy.schema.json")

    assert result.exit_code == 1
    assert result.stderr == "nowhere/policy.schema.json: error: No such file or directory\n"


def test_all_commands_are_there():
    """The help lists them."""
    result = run("--help")

    assert result.exit_code == 0
    for command in ("check", "schema", "demo"):
        assert command in result.stdout


def test_the_entry_point_runs_the_command(monkeypatch, capsys):
    """What is installed as ``penstock`` is this."""
    monkeypatch.setattr(sys, "argv", ["penstock", "check", "good.yaml"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 0
    assert capsys.readouterr().out == "good.yaml: ok (search, report)\n"


@pytest.fixture
def without(monkeypatch):
    """Hide a module from the imports that follow."""

    def hide(name: str) -> None:
        real = builtins.__import__

        def importing(module, *args, **kwargs):
            if module.split(".")[0] == name:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(module, *args, **kwargs)

        for loaded in [each for each in sys.modules if each.startswith("penstock.cli.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setattr(builtins, "__import__", importing)

    return hide


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_a_plain_install_is_told_what_to_install(name, without, capsys):
    """The command is there without its libraries, because it is an entry point of the package."""
    without(name)

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "the penstock command needs typer and rich: pip install 'penstock[cli]'\n"
    )


def test_a_broken_module_is_not_taken_for_a_missing_extra(without):
    """Advice that does not help is worse than a traceback."""
    without("enum")

    with pytest.raises(ModuleNotFoundError, match="enum"):
        cli.main()
