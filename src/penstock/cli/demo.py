"""``penstock demo``: see a policy at work."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from penstock.demo.part import Part
from penstock.demo.recipe import PIPELINE, recipe_path

__all__ = ["demo"]

_NEEDS = ("httpx", "rich")

_CALLS = 300
_KEYED_CALLS = 200


def demo(
    part: Annotated[Part, typer.Option(help="Which part to show.")] = Part.ALL,
    requests: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, show_default="300, then 200", help="How many calls in each part."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which script the server plays.")] = 7,
    policy: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Another policy for the pipeline."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text, no live table.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Send real requests to a small server that misbehaves, and see all of them answered.

    The server runs in a process of its own on the loopback interface. For the pipeline it refuses
    some requests with 429 and Retry-After, others with 503, resets connections and answers slowly,
    by a seeded script; For the rotation it knows five keys: two have a limit each, one is revoked,
    one is slow, one is good. The policies are demo.policy.yaml and demo.rotation.policy.yaml in
    the folder recipes.
    """
    _look_for_extras()
    from penstock.demo.main import Wanted, show  # noqa: PLC0415 - what it needs may be missing

    wanted = Wanted(
        part=part,
        calls=requests or _CALLS,
        keyed_calls=requests or _KEYED_CALLS,
        seed=seed,
        recipe=policy or recipe_path(PIPELINE),
    )
    try:
        good = asyncio.run(show(wanted, plain=plain))
    except KeyboardInterrupt:
        typer.echo("stopped; the server is stopped too", err=True)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if good else 1)


def _look_for_extras() -> None:
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        typer.echo(
            f"penstock demo needs {' and '.join(missing)}: pip install 'penstock[demo]'", err=True
        )
        raise typer.Exit(2)
