"""A lane of a pool: what one dimension of it (one model, say) can be served by, and who waits."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from penstock.health import Health
from penstock.pools.candidate import Candidate, Standing
from penstock.pools.picking.base import Picker
from penstock.waitlist import Waiter, WaiterState, WaitList

__all__ = ["Ask", "Lane"]

# Limits of waiters that were served stay until they come up; clearing them out once they outnumber
# the living twice costs O(1) per waiter.
_SWEEP_FROM = 64


class Ask(NamedTuple):
    """What a waiter waits for; it is the waiter's ``cost``.

    Attributes:
        serial: Its place in the order of arrival, over all lanes.
        limit: Monotonic second by which it must have been served.
        key: What calls that belong together share.
        takes: False where it waits at the gate for somebody to be able to serve, and takes nothing.
    """

    serial: int
    limit: float
    key: str | None
    takes: bool


class Lane:
    """The candidates of one dimension, by what they can do at the moment.

    Attributes:
        dimension: What it is for; None for the only lane of most pools.
        origin: Where its calls go: only resources that may are in it. None where nobody says.
        picker: Chooses among the ready.
        candidates: All of them, by resource id.
        counts: How many there are of each standing.
        cooling: Heap of ``(until, serial, candidate)``; entries that were overtaken are dropped
            when they come up, or once they outnumber the candidates.
        waiting: Who waits for a lease.
        at_gate: Who waits until anybody can serve.
        on_ready: Called when a candidate is ready and nobody in line took it; it may look and
            take notes, and change nothing. None for nobody.
    """

    __slots__ = (
        "_limits",
        "_rests",
        "at_gate",
        "candidates",
        "cooling",
        "counts",
        "dimension",
        "on_ready",
        "origin",
        "picker",
        "waiting",
    )

    def __init__(self, dimension: Hashable, picker: Picker, origin: str | None = None) -> None:
        self.dimension = dimension
        self.origin = origin
        self.picker = picker
        self.candidates: dict[str, Candidate] = {}
        self.counts = dict.fromkeys(Standing, 0)
        self.cooling: list[tuple[float, int, Candidate]] = []
        self.waiting = WaitList()
        self.at_gate = WaitList()
        self.on_ready: Callable[[], None] | None = None
        self._limits: list[tuple[float, int, Waiter]] = []
        self._rests = 0

    @property
    def is_shut(self) -> bool:
        """True when nobody can serve before the end of a rest, of a probe or of an absence."""
        return not (self.counts[Standing.READY] or self.counts[Standing.FULL])

    @property
    def may_open_now(self) -> bool:
        """True when somebody serves, or may any moment: when a use, a probe, an absence ends."""
        counts = self.counts
        return bool(counts[Standing.PROBING] or counts[Standing.AWAY]) or not self.is_shut

    @property
    def is_idle(self) -> bool:
        """True when nothing would be lost if the lane began anew."""
        busy = self.waiting or self.at_gate or self.counts[Standing.COOLING]
        return not busy and not any(c.in_flight or c.level for c in self.candidates.values())

    def rest(self, candidate: Candidate, until: float) -> None:
        """Look out for the end of a candidate's rest."""
        self._rests += 1
        heappush(self.cooling, (until, self._rests, candidate))
        if len(self.cooling) > _SWEEP_FROM + 2 * len(self.candidates):
            self.cooling = [
                (c.cooling_until, place, c)
                for place, c in enumerate(self.candidates.values())
                if c.cooling_until is not None
            ]
            heapify(self.cooling)

    def next_return(self) -> float | None:
        """Return the monotonic second at which the first rest ends; None when nobody rests."""
        cooling = self.cooling
        while cooling:
            until, _, candidate = cooling[0]
            if candidate.cooling_until == until and candidate.standing is Standing.COOLING:
                return until
            heappop(cooling)
        return None

    def forget(self, candidate: Candidate) -> None:
        """Let go of a candidate that was taken out, and with it of its resource's value."""
        self.counts[candidate.standing] -= 1
        del self.candidates[candidate.id]
        self.cooling = [entry for entry in self.cooling if entry[2] is not candidate]
        heapify(self.cooling)

    def hope(self) -> float | None:
        """Return the monotonic second from which somebody may serve; None when nobody ever will."""
        return 0.0 if self.may_open_now else self.next_return()

    def health(self, now: float) -> Health:
        """Return what the stages further out are told; changes nothing, and may in any thread."""
        ready, total = self.counts[Standing.READY], len(self.candidates)
        at = now if self.may_open_now else self._first_return()
        wait = None if at is None else max(0.0, at - now)
        return Health(ready, total, wait, "ready" if ready else self.why_not(now))

    def _first_return(self) -> float | None:
        resting = [c for c in [*self.candidates.values()] if c.standing is Standing.COOLING]
        times = [c.cooling_until for c in resting if c.cooling_until is not None]
        return min(times, default=None)

    def why_not(self, now: float) -> str:
        """Say in words why nobody is ready."""
        if not self.candidates:
            return "it has no resources"
        counts = self.counts
        parts: list[str] = []
        if counts[Standing.COOLING]:
            at = self._first_return() or now
            back = f"the first is back in {max(0.0, at - now):.3g} s"
            parts.append(f"{counts[Standing.COOLING]} cooling down ({back})")
        if counts[Standing.FULL]:
            parts.append(f"{counts[Standing.FULL]} in use")
        if counts[Standing.PROBING]:
            parts.append(f"{counts[Standing.PROBING]} being tried after a rest")
        if counts[Standing.AWAY]:
            parts.append(f"{counts[Standing.AWAY]} away")
        if counts[Standing.DISABLED]:
            parts.append(f"{counts[Standing.DISABLED]} disabled")
        return ", ".join(parts)

    def park(self, ask: Ask, priority: int) -> Waiter:
        """Stand in line."""
        waiter = (self.waiting if ask.takes else self.at_gate).park(ask, priority)
        heappush(self._limits, (ask.limit, ask.serial, waiter))
        if len(self._limits) > _SWEEP_FROM + 2 * (len(self.waiting) + len(self.at_gate)):
            self._limits = [e for e in self._limits if e[2].state is WaiterState.PARKED]
            heapify(self._limits)
        return waiter

    def abandon(self, waiter: Waiter) -> bool:
        """Leave the line; False when it was served in the same step."""
        return (self.waiting if waiter.cost.takes else self.at_gate).abandon(waiter)

    def next_limit(self) -> float | None:
        """Return the monotonic second at which the first waiter's time is up."""
        limits = self._limits
        while limits and limits[0][2].state is not WaiterState.PARKED:
            heappop(limits)
        return limits[0][0] if limits else None

    def give_up(self, until: float | None) -> list[Waiter]:
        """Take out everybody whose time is up by ``until``; everybody at all for None."""
        lost: list[Waiter] = []
        while (limit := self.next_limit()) is not None and (until is None or limit <= until):
            waiter = heappop(self._limits)[2]
            self.abandon(waiter)
            lost.append(waiter)
        return lost
