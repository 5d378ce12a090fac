"""The demo from start to end: server, policies, runs, summaries."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from penstock.demo.drive import run
from penstock.demo.outlet import Outlet
from penstock.demo.part import Part
from penstock.demo.pipeline_view import pipeline_body, pipeline_status
from penstock.demo.process import demo_server
from penstock.demo.recipe import ROTATION, recipe_path
from penstock.demo.rotation.drive import run as run_keys
from penstock.demo.rotation.policy import five_keys
from penstock.demo.rotation.view import keys_body, keys_status
from penstock.demo.tally import Tally
from penstock.policy import Policy

__all__ = ["Wanted", "show"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to show.

    Attributes:
        part: One part, or both.
        calls: How many the pipeline is given, from 1.
        keyed_calls: How many the five keys are given, from 1.
        seed: Which script the server plays, and which values the keys have.
        recipe: The YAML file of the pipeline's policy.
    """

    part: Part
    calls: int
    keyed_calls: int
    seed: int
    recipe: Path


async def show(wanted: Wanted, *, plain: bool) -> bool:
    """Run the demo on standard output.

    Args:
        wanted: What to show.
        plain: Lines of text also in a terminal.

    Returns:
        Whether every call was answered and the counts agree.
    """
    # What is logged stands in the tables too; lines between them would tear the screen.
    logging.getLogger("penstock").addHandler(logging.NullHandler())
    outlet = Outlet(plain=plain)
    with demo_server(wanted.seed, wanted.calls) as url:
        good = wanted.part is Part.ROTATION or await _show_pipeline(wanted, url, outlet)
        if wanted.part is not Part.PIPELINE:
            good = await _show_rotation(wanted, url, outlet) and good
    return good


async def _show_pipeline(wanted: Wanted, url: str, outlet: Outlet) -> bool:
    tally = Tally()
    policy = Policy.from_yaml(wanted.recipe, observers=[tally])
    screen = outlet.screen(
        f"penstock demo · {_short(wanted.recipe)} · seed {wanted.seed} · {url}",
        wanted.calls,
        lambda: pipeline_body(policy.snapshot(), tally),
        lambda: pipeline_status(tally),
    )
    return outlet.show(await run(policy, url, wanted.calls, tally, screen))


async def _show_rotation(wanted: Wanted, url: str, outlet: Outlet) -> bool:
    recipe = recipe_path(ROTATION)
    keys = five_keys(recipe, wanted.seed, url)
    screen = outlet.screen(
        f"penstock demo · {_short(recipe)} · seed {wanted.seed} · {url}",
        wanted.keyed_calls,
        lambda: keys_body(keys.pool.snapshot(), keys.book, keys.tally),
        lambda: keys_status(keys.pool.snapshot(), keys.book),
    )
    return outlet.show(await run_keys(keys, url, wanted.keyed_calls, screen))


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])
