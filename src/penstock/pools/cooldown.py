"""The cooldown of one candidate: how long it rests, and what shows that it is well again.

::

            cool()                     expire()                    heal()
    ready ─────────> cooling ─────────────────────> recovering ─────────────> ready, level 0
                     │   ↑                          │ one use at a time
                     └───┘ cool(): never shorter    └──cool()──> cooling, one level up
"""

from __future__ import annotations

from penstock.pools.candidate import Candidate

__all__ = ["CooldownRules"]


class CooldownRules:
    """What a pool's options say about rests.

    Args:
        table: Seconds of the first rest, of the second in a row, and so on; the last one repeats.
        probes: True where a candidate comes back with one use at a time until the first success.
    """

    __slots__ = ("_probes", "_table")

    def __init__(self, table: tuple[float, ...], *, probes: bool) -> None:
        self._table = table
        self._probes = probes

    def cool(
        self, candidate: Candidate, now: float, evidence: int, latest: int, seconds: float | None
    ) -> bool:
        """Send a candidate to rest; return False when the failure tells nothing new.

        A use that had begun before the last cooldown belongs to the same incident: it takes no
        further step, and only a time that the server stated can make the rest longer.

        Args:
            candidate: Who failed.
            now: Monotonic seconds.
            evidence: Serial number of the use that failed.
            latest: Serial number of the latest use of the pool.
            seconds: What the server or a signal asks for; None takes the table.
        """
        if evidence > candidate.cooled_at:
            candidate.level += 1
            candidate.cooled_at = latest
            if seconds is None:
                seconds = self._table[min(candidate.level, len(self._table)) - 1]
        elif seconds is None:
            return False
        return self.rest(candidate, now + seconds)

    def rest(self, candidate: Candidate, until: float) -> bool:
        """Let a candidate rest until then; a rest is never made shorter. False: it was not."""
        current = candidate.cooling_until
        if current is not None and current >= until:
            return False
        candidate.cooling_until = until
        return True

    def expire(self, candidate: Candidate) -> None:
        """End a rest whose time has come."""
        candidate.cooling_until = None
        # A rest without a level was no failure's (a quota that came back): there is nothing to try.
        candidate.recovering = self._probes and candidate.level > 0

    def heal(self, candidate: Candidate, evidence: int) -> bool:
        """Take a success as the end of the incident; False when it began too early to show it."""
        if evidence <= candidate.cooled_at or candidate.cooling_until is not None:
            return False
        candidate.level = 0
        candidate.recovering = False
        # The use that was the probe may go on; the next recovery does not wait for it.
        candidate.probe = None
        return True

    def clear(self, candidate: Candidate, latest: int) -> None:
        """Make a candidate as new, whatever uses that are still under way will say."""
        candidate.level = 0
        candidate.cooled_at = latest
        candidate.cooling_until = None
        candidate.recovering = False
        candidate.probe = None
