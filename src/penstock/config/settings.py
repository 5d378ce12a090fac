"""What a policy of a file may set besides its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from penstock.config.block import Block
from penstock.config.forms.base import Json, PythonObject, one_of
from penstock.config.forms.failures import Several
from penstock.config.plain import is_list
from penstock.options import Flag, Options

__all__ = ["SETTINGS", "PolicySettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings(Options):
    """One policy: its pipeline, and what is not a stage.

    Attributes:
        pipeline: The stages, outermost first.
        classify: What a failure means: a function of the failure that returns a verdict kind's
            word, or None to go on to the built-in table.
        classify_result: What a result means: `http` reads a status, or a function as above. Left
            out, every result is good.
        discard: A function, sync or async, called with a result that is going to be thrown away.
        observers: Functions that take every event.
        telemetry: `false` leaves its calls out of OpenTelemetry's traces and metrics.
    """

    stage: ClassVar[str] = "policy"

    pipeline: Any
    classify: Callable[..., Any] | None = None
    classify_result: Any = None
    discard: Callable[..., Any] | None = None
    observers: Any = ()
    telemetry: Flag = True


class _Pipeline(PythonObject):
    """The list of stages, which is read by itself."""

    example = "[timeout: 30s]"

    def words(self) -> str:
        """Return that it is a list."""
        return "a list of stages, outermost first"

    def read(self, value: Any) -> Any:
        """Return the list as it is."""
        if not is_list(value):
            raise self.refuse(value, "write '- timeout: 30s' below it")
        return value

    def json(self) -> Json:
        """Return a list of stages."""
        return {"type": "array"}


class _ResultClassifier(PythonObject):
    """The word ``http``, or a function."""

    example = "http"

    def words(self) -> str:
        """Return the two ways."""
        return f"http, or {super().words()}"

    def read(self, value: Any) -> Any:
        """Return the word or the function."""
        if value == "http":
            return "http"
        if isinstance(value, str):
            raise self.refuse(value)
        return super().read(value)

    def json(self) -> Json:
        """Return the two ways."""
        return one_of([{"const": "http"}, super().json()])


SETTINGS = Block(
    "policy",
    PolicySettings,
    forms={
        "pipeline": _Pipeline,
        "classify_result": _ResultClassifier,
        "observers": Several,
    },
)
