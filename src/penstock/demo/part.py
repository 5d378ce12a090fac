"""What the demo can show."""

from __future__ import annotations

import enum

__all__ = ["Part"]


class Part(enum.StrEnum):
    """A part of the demo; the values are the words of the command line."""

    PIPELINE = "pipeline"
    ROTATION = "rotation"
    ALL = "all"
