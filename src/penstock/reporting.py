"""What a good answer says of the quota that is left, told to whom it concerns."""

from __future__ import annotations

from penstock.call import Call

__all__ = ["report_headers"]


def report_headers(call: Call, headers: object) -> None:
    """Tell the resource of a call, or its rate limits, what an answer says is left of the quota.

    Args:
        call: Whose answer it is.
        headers: A mapping or pairs, of any kind and in any case; what cannot be read says nothing.
    """
    call.report(headers)
