"""``penstock demo``: see a policy at work."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from penstock.demo.recipe import recipe_path

__all__ = ["demo"]

_NEEDS = ("httpx", "rich")


def demo(
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="How many calls.")] = 300,
    seed: Annotated[int, typer.Option(help="Which script the server plays.")] = 7,
    policy: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Another policy file.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text, no live table.")] = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Send real requests to a small server that misbehaves, and see all of them answered.

    The server runs in a process of its own on the loopback interface. It refuses some requests with
    429 and Retry-After, others with 503, resets connections and answers slowly, by a seeded script;
    the policy is recipes/demo.policy.yaml.
    """
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        typer.echo(
            f"penstock demo needs {' and '.join(missing)}: pip install 'penstock[demo]'", err=True
        )
        raise typer.Exit(2)
    from penstock.demo.main import show  # noqa: PLC0415 - what it needs may be missing

    try:
        good = asyncio.run(show(requests, seed, policy or recipe_path(), plain=plain))
    except KeyboardInterrupt:
        typer.echo("stopped; the server is stopped too", err=True)
        raise typer.Exit(130) from None
    raise typer.Exit(0 if good else 1)
