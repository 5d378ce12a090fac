"""The demo from start to end: server, policy, run, summary."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from penstock.demo.drive import run
from penstock.demo.live import LiveScreen, width_of
from penstock.demo.process import demo_server
from penstock.demo.report import as_lines, as_panel
from penstock.demo.screen import PlainScreen, Screen
from penstock.demo.tally import Tally
from penstock.policy import Policy

__all__ = ["show"]


async def show(calls: int, seed: int, recipe: Path, *, plain: bool) -> bool:
    """Run the demo on standard output.

    Args:
        calls: How many, from 1.
        seed: Which script the server plays.
        recipe: The policy's YAML file.
        plain: Lines of text also in a terminal.

    Returns:
        Whether every call was answered and the counts agree.
    """
    console = Console(highlight=False)
    write = partial(print, flush=True)
    lively = console.is_terminal and not console.is_dumb_terminal and not plain
    tally = Tally()
    policy = Policy.from_yaml(recipe, observers=[tally])
    with demo_server(seed, calls) as url:
        title = f"penstock demo · {_short(recipe)} · seed {seed} · {url}"
        screen: Screen
        if lively:
            screen = LiveScreen(console, tally, calls, policy.snapshot, title)
        else:
            write(title)
            screen = PlainScreen(tally, calls, write)
        summary = await run(policy, url, calls, tally, screen)
    if lively:
        console.print(as_panel(summary, width_of(console)))
    else:
        write("\n".join(as_lines(summary)))
    return not summary.problems


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])
