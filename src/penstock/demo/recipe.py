"""Where the demo's policy file is: in a checkout, or inside an installed package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["recipe_path"]

_NAME = "demo.policy.yaml"


def recipe_path(beside: Path = Path(__file__)) -> Path:
    """Return the path of ``recipes/demo.policy.yaml``; a wheel carries a copy of it.

    Args:
        beside: A file in the folder that holds the copy in a wheel.

    Raises:
        FileNotFoundError: It is in neither place.
    """
    here = beside.resolve()
    # The checkout's own file first: whoever edits it wants to see what that changes.
    places = [here.parents[3] / "recipes" / _NAME, here.with_name(_NAME)]
    for place in places:
        if place.is_file():
            return place
    looked = " or ".join(str(place) for place in places)
    msg = f"the demo's policy file is missing; looked for {looked}"
    raise FileNotFoundError(msg)
