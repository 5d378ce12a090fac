"""What a policy of a file may set besides its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from penstock.config.block import Block
from penstock.config.forms.base import Json, PythonObject
from penstock.config.forms.classifiers import Classifiers, ResultClassifier
from penstock.config.forms.failures import Several
from penstock.config.plain import is_list
from penstock.options import Flag, Options

__all__ = ["SETTINGS", "PolicySettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings(Options):
    """One policy: its pipeline, and what is not a stage.

    Attributes:
        pipeline: The stages, outermost first.
        classify: What a failure means: a preset, or a function of the failure that returns a
            verdict kind's word, or None to go on; several are asked in order, then the built-in
            table.
        classify_result: What a result means: `http`, or another preset of an HTTP service, reads a
            status; or a function as above. Left out, every result is good.
        discard: A function, sync or async, called with a result that is going to be thrown away.
        observers: Functions that take every event.
        telemetry: `false` leaves its calls out of OpenTelemetry's traces and metrics.
    """

    stage: ClassVar[str] = "policy"

    pipeline: Any
    classify: Any = None
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


SETTINGS = Block(
    "policy",
    PolicySettings,
    forms={
        "pipeline": _Pipeline,
        "classify": Classifiers,
        "classify_result": ResultClassifier,
        "observers": Several,
    },
)
