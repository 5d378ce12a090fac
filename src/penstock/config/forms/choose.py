"""Which form an option has, where its registry line does not say."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Annotated, Any, Union, get_args, get_origin

from penstock.config.forms.base import Form, Option, PlainForm, PythonObject, RuledForm
from penstock.config.forms.failures import Failures
from penstock.config.forms.scalars import Boolean, Duration, Integer, Name, Real, Word
from penstock.matching import Matching
from penstock.options import Choice, Flag, Number, Rule, Whole, rule_of
from penstock.options import Name as NameOption

__all__ = ["form_for"]


def form_for(option: Option) -> Form:
    """Return the form that follows from an option's rule, or else from its annotation."""
    rule = option.rule
    if isinstance(rule, Number) and rule.unit == "s":
        return Duration(option)
    known = _BY_RULE.get(type(rule))
    if known is not None:
        return known(option)
    if _is_callable(option.hint):
        return PythonObject(option)
    return PlainForm(option) if rule is None else RuledForm(option)


_BY_RULE: dict[type[Rule | None], type[Form]] = {
    Number: Real,
    Whole: Integer,
    Choice: Word,
    Matching: Failures,
    type(rule_of(Flag)[0]): Boolean,
    type(rule_of(NameOption)[0]): Name,
}


def _is_callable(hint: Any) -> bool:
    if get_origin(hint) in {Union, types.UnionType}:
        return any(map(_is_callable, get_args(hint)))
    if get_origin(hint) is Annotated:
        return _is_callable(get_args(hint)[0])
    return get_origin(hint) is Callable
