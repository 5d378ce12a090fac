"""What the HTTP transports have in common: which answers are bad, and what may be sent again."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Literal, get_args

from penstock.classify import Answer, Guarded, PresetName, classify_result
from penstock.edges import result_classifier
from penstock.errors import ConfigError
from penstock.hints import should_retry
from penstock.integrations.exchange import Exchanges
from penstock.integrations.keys import KeyHeader
from penstock.policy import Policy
from penstock.verdict import Verdict

__all__ = ["Classify", "Replay", "Rules"]

Classify = PresetName | Callable[[Any], Answer]
"""What an answer means: the name of a preset, or a function of the answer."""

Replay = Literal["safe", "always"]
"""Which requests may be sent again after the server may have acted on them."""

# RFC 9110, section 9.2.2, and QUERY, which is registered as idempotent too.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})

# The server says that it has refused to act: doing it again does it once. 425 is RFC 8470's
# "unwilling to process"; 529 is Anthropic's "overloaded".
_REFUSED = frozenset({401, 402, 403, 407, 425, 429, 503, 529})

_FIRST_FAILURE = 400


class Rules:
    """How one transport sends requests under one policy.

    Args:
        policy: Its stages are shared with everybody else who uses it.
        keys: Where the keys of a pool go.
        replay: ``"safe"`` or ``"always"``.
        classify: What an answer means.
        close: Closes an answer that is thrown away.

    Raises:
        ConfigError: ``replay`` or ``classify`` is not allowed, or there are no keys to put in.
    """

    __slots__ = ("_always", "exchanges", "keys", "policy", "wants_url")

    def __init__(
        self,
        policy: Policy,
        keys: KeyHeader,
        *,
        replay: Replay,
        classify: Classify,
        close: Callable[[Any], object],
    ) -> None:
        if replay not in get_args(Replay):
            allowed = " or ".join(map(repr, get_args(Replay)))
            raise ConfigError(f"transport: 'replay' must be {allowed}; got {replay!r}")
        gate: Any = policy.bound()[1].gate
        if keys.puts and gate is None:
            raise ConfigError(
                f"transport: 'header' is for the keys of a pool, and policy '{policy.name}' has "
                "none; give it .rotating(keys)"
            )
        self.policy = policy
        self.keys = keys
        self._always = replay == "always"
        self.exchanges: Exchanges[Any] = Exchanges(
            policy, judge=_judge_of(classify), close=close, headers=_headers_of
        )
        self.wants_url = gate is not None and gate.pool.options.url is not None

    def may_repeat(self, method: str | None, headers: Container[str]) -> bool:
        """Whether a request does no harm when the server acts on it twice."""
        return self._always or method in _IDEMPOTENT or "idempotency-key" in headers

    @staticmethod
    def was_refused(status: int, headers: object) -> bool:
        """Whether the server says that it has not acted, or asks for another attempt."""
        if status in _REFUSED:
            return True
        return status >= _FIRST_FAILURE and should_retry(headers) is True


def _judge_of(classify: Classify) -> Callable[[Any], Verdict | None]:
    if classify == "http":
        return _by_status
    ask = result_classifier(classify)

    def judge(response: Any) -> Verdict | None:
        told = ask(response)
        return _by_status(response) if told is None and isinstance(ask, Guarded) else told

    return judge


def _by_status(response: Any) -> Verdict | None:
    return None if response.status_code < _FIRST_FAILURE else classify_result(response)


def _headers_of(response: Any) -> object:
    return response.headers
