"""What can be set on a fallback stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from penstock.matching import Matching, Which
from penstock.options import MISSING, Options

__all__ = ["MISSING", "FallbackOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackOptions(Options):
    """Options of the fallback stage; exactly one of the first three says what answers.

    Attributes:
        value: Returned as it is; None is a value too.
        function: Called as ``function(failure, *args, **kwargs)`` with the call's own arguments;
            sync or async. For a refused result the failure is an ``InvalidResultError``.
        policy: Another policy, under which the same operation is called.
        fallback_on: Which failures are answered: exception types, a predicate, verdict kinds, or
            several of them. None answers every failure but the caller's own bugs; a cancelled
            call is never answered.
    """

    stage: ClassVar[str] = "fallback"

    value: Any = MISSING
    function: Callable[..., Any] | None = None
    policy: Any = None
    fallback_on: Annotated[Which, Matching()] | None = None

    def __post_init__(self) -> None:
        """Check that there is exactly one answer."""
        Options.__post_init__(self)
        given = [self.value is not MISSING, self.function is not None, self.policy is not None]
        if sum(given) != 1:
            what = ", ".join(self.named_answers()) or "none of them"
            raise self.refuse("value", what, "given, or else 'function' or 'policy': exactly one")
        if self.function is not None and not callable(self.function):
            raise self.refuse("function", self.function, "a callable(failure, *args, **kwargs)")
        if self.policy is not None and not hasattr(self.policy, "call"):
            raise self.refuse("policy", self.policy, "a Policy")

    def named_answers(self) -> list[str]:
        """Return the names of the answers that were given."""
        answers = {
            "value": self.value is not MISSING,
            "function": self.function,
            "policy": self.policy,
        }
        return [name for name, given in answers.items() if given not in (False, None)]
