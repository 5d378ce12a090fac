"""Where the demo's policy files are: in a checkout, or inside an installed package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PIPELINE", "ROTATION", "recipe_path"]

PIPELINE, ROTATION = "demo.policy.yaml", "demo.rotation.policy.yaml"


def recipe_path(name: str, beside: Path = Path(__file__)) -> Path:
    """Return the path of ``recipes/<name>``; a wheel carries a copy of it.

    Args:
        name: The file's name, ``PIPELINE`` or ``ROTATION``.
        beside: A file in the folder that holds the copy in a wheel.

    Raises:
        FileNotFoundError: It is in neither place.
    """
    here = beside.resolve()
    # The checkout's own file first: whoever edits it wants to see what that changes.
    places = [here.parents[3] / "recipes" / name, here.with_name(name)]
    for place in places:
        if place.is_file():
            return place
    looked = " or ".join(str(place) for place in places)
    msg = f"a policy file of the demo is missing; looked for {looked}"
    raise FileNotFoundError(msg)
