"""Our side of the books: what was sent with each key, and what came back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from penstock import clock
from penstock.demo.rotation.keys import KEYS

__all__ = ["Book", "KeyCounts", "Use"]


class KeyCounts:
    """What has been done with one key.

    Attributes:
        begun: Uses, whether or not their request left.
        sent: Requests that left this process.
        doubtful: Requests among them that were cut off while being written: they may not have left.
        answers: Answers that came back, by status.
        cut_off: Requests that left and whose answer nobody waited for.
        unsent: Uses that ended before their request left.
        seconds: How long the good answers took, summed.
        begun_when_refused: Uses begun by the moment in which the first 401 came; None before.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.sent = 0
        self.doubtful = 0
        self.answers: Counter[int] = Counter()
        self.cut_off = 0
        self.unsent = 0
        self.seconds = 0.0
        self.begun_when_refused: int | None = None

    @property
    def latency(self) -> float | None:
        """Mean seconds of a good answer; None before the first."""
        good = self.answers[200]
        return self.seconds / good if good else None

    @property
    def begun_too_late(self) -> int:
        """Uses that began although a 401 had come back."""
        return 0 if self.begun_when_refused is None else self.begun - self.begun_when_refused


class Use:
    """One use of a key, from before its request to after its answer."""

    def __init__(self, counts: KeyCounts) -> None:
        counts.begun += 1
        self._counts = counts
        self._began = clock.now()
        self._is_sent = self._is_answered = False

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """Notice when the request leaves; for httpx, which calls it at every step."""
        if event == "http11.send_request_headers.complete":
            self.send()
        elif event == "http11.send_request_headers.failed":
            # A cancel finds httpx where it has written already and pauses out of politeness.
            self.send(is_doubtful=True)

    def send(self, *, is_doubtful: bool = False) -> None:
        """Count the request as sent."""
        self._is_sent = True
        self._counts.sent += 1
        self._counts.doubtful += is_doubtful

    def answer(self, status: int) -> None:
        """Count what came back."""
        counts = self._counts
        self._is_answered = True
        counts.answers[status] += 1
        if status == 200:  # noqa: PLR2004 - the word for it
            counts.seconds += clock.now() - self._began
        if status == 401 and counts.begun_when_refused is None:  # noqa: PLR2004 - as above
            counts.begun_when_refused = counts.begun

    def end(self) -> None:
        """Count the use as over, however it ended."""
        if self._is_answered:
            return
        if self._is_sent:
            self._counts.cut_off += 1
        else:
            self._counts.unsent += 1


class Book:
    """The counts of all keys.

    Attributes:
        keys: Ours, by key id.
        seen: The server's, by key id and status, as last asked for.
    """

    def __init__(self) -> None:
        self.keys = {terms.id: KeyCounts() for terms in KEYS}
        self.seen: Mapping[str, Mapping[str, int]] = {}

    @property
    def sent(self) -> int:
        """Requests that left this process."""
        return sum(counts.sent for counts in self.keys.values())

    @property
    def seen_in_all(self) -> int:
        """Requests that the server has counted."""
        return sum(map(self.seen_with, self.keys))

    def begin(self, id: str | None) -> Use:  # noqa: A002 - the word of the field
        """Begin a use of a key."""
        return Use(self.keys[id or ""])

    def seen_with(self, id: str, status: int | None = None) -> int:  # noqa: A002 - as above
        """Return how many requests the server has counted for a key, all or those of a status."""
        seen = self.seen.get(id, {})
        return sum(seen.values()) if status is None else seen.get(str(status), 0)
