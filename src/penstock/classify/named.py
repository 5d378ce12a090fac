"""Judge failures and results of any module by a preset that the user has named."""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock.classify.codes import by_code
from penstock.classify.default import by_client_type
from penstock.classify.presets import Preset
from penstock.classify.status import (
    advised,
    classify_result,
    is_failed,
    result_status_of,
    status_of,
)
from penstock.errors import PolicyError
from penstock.verdict import Signal, Verdict

__all__ = ["asking", "judging_results"]


def asking(preset: Preset) -> Callable[[BaseException], Verdict | None]:
    """Return a classifier that answers for what the preset knows better than the table.

    The order of evidence is the table's: a code, then a well-known type, then the status.
    """

    def ask(failure: BaseException) -> Verdict | None:
        if not isinstance(failure, Exception) or isinstance(failure, Signal | PolicyError):
            return None
        told = preset.by_code(failure, time.time())
        if told is None and by_code(failure) is None and by_client_type(failure) is None:
            told = preset.by_status(failure, status_of(failure))
        return None if told is None else advised(told, failure, time.time)

    return ask


def judging_results(preset: Preset) -> Callable[[object], Verdict | None]:
    """Return what reads the status of results, as ``classify_result`` does, by the preset first.

    Of a body it reads what has been loaded already.
    """

    def judge(result: object) -> Verdict | None:
        status = result_status_of(result)
        if status is None or not is_failed(status):
            return classify_result(result)
        told = preset.by_code(result, time.time()) or preset.by_status(result, status)
        return classify_result(result) if told is None else advised(told, result, time.time)

    return judge
