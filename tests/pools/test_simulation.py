"""Eight keys with limits that nobody knows: pickers that learn run into them less often."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

Simulate = Callable[..., Any]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Return the benchmark's simulation, which is not installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("bench.key_simulation")
    return lambda pick, seed, *, reports=False: module.simulate(
        module.Plan(pick=pick, reports=reports, seed=seed)
    )


@pytest.mark.parametrize("seed", range(3))
def test_p2c_sees_less_than_half_of_round_robins_429s(simulate: Simulate, seed: int) -> None:
    """A refused key counts as slow for a while, and the load goes where there is room."""
    in_turns, p2c = simulate("round_robin", seed), simulate("p2c_ewma", seed)

    assert in_turns.calls > 3000
    assert p2c.refused < in_turns.refused / 2
    assert in_turns.lost == p2c.lost == 0


@pytest.mark.parametrize("seed", range(3))
def test_most_remaining_sees_less_than_half_of_round_robins_429s(
    simulate: Simulate, seed: int
) -> None:
    """Even where round robin is told what is left, and rests a key that has nothing."""
    in_turns = simulate("round_robin", seed, reports=True)
    most = simulate("most_remaining", seed, reports=True)

    assert most.refused < in_turns.refused / 2
    assert in_turns.lost == most.lost == 0


def test_the_same_seed_gives_the_same_run(simulate: Simulate) -> None:
    """No clock and no randomness but the seed's takes part."""
    first = simulate("p2c_ewma", 7)
    random.random()
    second = simulate("p2c_ewma", 7)

    assert first == second
