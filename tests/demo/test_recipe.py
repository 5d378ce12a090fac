from __future__ import annotations

from pathlib import Path

import pytest

from penstock import Policy
from penstock.demo.recipe import PIPELINE, ROTATION, recipe_path

ROOT = Path(__file__).parents[2]


def package_in(folder: Path) -> Path:
    """Make a place as deep as the demo's code has it, and return a file there."""
    here = folder / "lib" / "penstock" / "demo" / "recipe.py"
    here.parent.mkdir(parents=True)
    return here


def test_a_checkout_uses_its_own_recipe() -> None:
    """Whoever edits the recipes of the demo sees what that changes."""
    found = [recipe_path(name) for name in (PIPELINE, ROTATION)]

    assert found == [
        ROOT / "recipes" / "demo.policy.yaml",
        ROOT / "recipes" / "demo.rotation.policy.yaml",
    ]


def test_a_wheel_carries_a_copy_beside_the_code(tmp_path: Path) -> None:
    """Without a checkout the copy in the package is found."""
    here = package_in(tmp_path)
    here.with_name("demo.policy.yaml").touch()

    assert recipe_path(PIPELINE, here) == here.with_name("demo.policy.yaml")


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    """The error says where it was looked for."""
    here = package_in(tmp_path)

    with pytest.raises(FileNotFoundError, match=r"looked for .*recipes/demo\.policy\.yaml or .*"):
        recipe_path(PIPELINE, here)


def test_the_recipe_is_a_policy_with_every_core_stage() -> None:
    """The demo shows the pipeline that the README shows."""
    policy = Policy.from_yaml(recipe_path(PIPELINE))

    stages = [stage["stage"] for stage in policy.snapshot()["stages"]]

    assert stages == ["timeout", "retry", "rate_limit", "breaker", "concurrency", "timeout"]
