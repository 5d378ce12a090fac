"""What one call has been through so far, and what of it reaches the caller at the end."""

from __future__ import annotations

from contextlib import suppress

from penstock.errors import InvalidResultError, RejectedError
from penstock.stages.retry.machine import Reason

__all__ = ["Trail"]

_NOTE = "penstock: gave up after"


class Trail:
    """The outcomes of one call's attempts.

    Args:
        keeps_all: True when the caller is to get all of them, should no result be accepted.
    """

    __slots__ = ("_cause", "_failures", "_keeps_all", "_results")

    def __init__(self, *, keeps_all: bool) -> None:
        self._keeps_all = keeps_all
        self._failures: list[Exception] = []
        self._results: list[object] = []
        self._cause: Exception | None = None

    def add_failure(self, failure: Exception) -> None:
        """Keep what an attempt or a validator raised."""
        if self._keeps_all:
            self._failures.append(failure)
        if not isinstance(failure, RejectedError):
            self._cause = failure

    def add_refused(self, result: object) -> None:
        """Keep a result that was not accepted."""
        self._results.append(result)

    def last_failure(
        self, failure: Exception | None, attempts: int, seconds: float, reason: Reason
    ) -> Exception:
        """Return what reaches the caller: the failure as it is, or all refused results."""
        story = (
            f"{attempts} attempt{'s' if attempts > 1 else ''} in {seconds:.3f} s: {reason.value}"
        )
        if failure is None:
            return InvalidResultError(
                f"no result was accepted after {story}",
                results=tuple(self._results),
                failures=tuple(self._failures),
            )
        # A failure that was not even tried again is the operation's own affair.
        if attempts > 1 or reason is not Reason.NOT_RETRIED:
            _note(failure, f"{_NOTE} {story}")
        # A refusal alone would hide what had been wrong before it.
        if isinstance(failure, RejectedError) and self._cause and failure.__cause__ is None:
            failure.__cause__ = self._cause
        return failure

    def clear(self) -> None:
        """Let go of everything: failures hold the frames that hold this."""
        self._failures = []
        self._results = []
        self._cause = None


def _note(failure: Exception, text: str) -> None:
    # The same object may be raised again and again; one note is enough. An exception that refuses
    # to be changed (a frozen dataclass) goes without: nothing may replace the failure itself.
    with suppress(Exception):
        notes = getattr(failure, "__notes__", [])
        notes[:] = [note for note in notes if not str(note).startswith(_NOTE)]
        failure.add_note(text)
