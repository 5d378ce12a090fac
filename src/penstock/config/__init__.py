"""Policies from YAML files and dicts; imported only when one is loaded."""

from penstock.config.loading import (
    Checked,
    check,
    check_text,
    load,
    load_dict,
    policy_from_dict,
    policy_from_yaml,
)
from penstock.config.problems import ConfigFileError, Level, Problem
from penstock.config.report import report

__all__ = [
    "Checked",
    "ConfigFileError",
    "Level",
    "Problem",
    "check",
    "check_text",
    "load",
    "load_dict",
    "policy_from_dict",
    "policy_from_yaml",
    "report",
]
