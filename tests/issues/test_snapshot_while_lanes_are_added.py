"""A snapshot from another thread raised RuntimeError while a dimension was seen first."""

from __future__ import annotations

from collections.abc import Iterator

from penstock import Pool
from penstock.pools.lane import Lane


def test_a_lane_that_is_added_while_a_snapshot_is_made_does_not_disturb_it() -> None:
    """What another thread would do in the middle of the count is done by the count itself."""
    pool = Pool(["value"], dimension="model")

    class Disturbing:
        def __init__(self, dimension: str) -> None:
            self.dimension = dimension

        def __len__(self) -> int:
            pool.machine.lane_for(self.dimension)
            return 0

    def lanes() -> Iterator[Lane]:
        yield from pool.machine.lanes.values()

    for number, lane in enumerate([*lanes()]):
        lane.waiting = Disturbing(f"model {number}")  # type: ignore[assignment]

    assert pool.snapshot()["waiting"] == 0
    assert len(pool.machine.lanes) == 2
