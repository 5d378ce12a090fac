"""The body of an answer of requests, with which what the policy holds for it is given back.

requests reads ``response.raw``, an answer of urllib3, in more than one way, and its users may do so
themselves. All of them end where urllib3 gives the connection back, so that is where we listen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

from urllib3.exceptions import HTTPError
from urllib3.util.response import is_fp_closed

from penstock.errors import PolicyError
from penstock.integrations.http.held import Held

__all__ = ["hold_with"]


def hold_with(raw: Any, held: Held) -> None:
    """Give back what is held when the body was read, has failed, or was closed or forgotten.

    Args:
        raw: An answer of urllib3; of anything else nobody can tell when it ends.
        held: What is held; given back at once where the body has ended already.
    """
    kind: Any = type(raw)  # pyright: ignore[reportUnknownVariableType]  # of any version
    try:
        raw.__class__ = _held_kind(kind)
        raw.held_by_policy = held
    except (TypeError, AttributeError):
        held.close()
        return
    if raw.closed or is_fp_closed(raw):
        raw.give_back()


class _HeldRaw:
    """What is put before the class of an answer."""

    held_by_policy: Held | None = None

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Read the body in chunks, none of them after the policy's time is over."""
        for chunk in self._inside.stream(*args, **kwargs):
            held = self.held_by_policy
            if held is not None:
                self._check(held)
            yield chunk
        # What stands for a connection in a test may never be given back.
        self.give_back()

    def release_conn(self) -> None:
        """Give the connection back, and with it what is held."""
        self._inside.release_conn()
        # Called while the error is on its way, if reading has failed. One of urllib3's own: what
        # somebody is dealing with who closes the answer says nothing about it.
        error = sys.exc_info()[1]
        self.give_back(error if isinstance(error, HTTPError) else None)

    def close(self) -> None:
        """Close the connection, and give back what is held."""
        self._inside.close()
        self.give_back()

    def give_back(self, error: BaseException | None = None) -> None:
        """Give back what is held; once."""
        held, self.held_by_policy = self.held_by_policy, None
        if held is None:
            return
        if error is None:
            held.close()
        else:
            held.check()
            held.fail(error)

    @property
    def _inside(self) -> Any:
        return cast("Any", super())

    def _check(self, held: Held) -> None:
        try:
            held.check()
        except PolicyError:
            self.close()
            raise


def _held_kind_of(kind: type[Any]) -> type[Any]:
    return type(f"Held{kind.__name__}", (_HeldRaw, kind), {})


_held_kind = lru_cache(16)(_held_kind_of)
