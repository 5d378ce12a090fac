"""Data to policies: the grammar above the stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from penstock.config.block import refused
from penstock.config.plain import is_list, is_mapping
from penstock.config.problems import Level, Loc, Mistake, nearest, shown
from penstock.config.registry import LATER, OTHER_WORDS, SETTINGS, STAGES, StageEntry
from penstock.config.settings import PolicySettings
from penstock.config.sink import Sink
from penstock.config.values import Surroundings
from penstock.errors import ConfigError
from penstock.order import findings
from penstock.policy import Policy

__all__ = ["ROOT_KEYS", "VERSION", "Builder"]

VERSION = 1
ROOT_KEYS = ("version", "policies", "shared", "allow_literal")

# Each level of fallback policies is built inside the one before.
_MOST_FALLBACKS = 20

Items = list[tuple[Loc, Any]]


class Builder:
    """Builds the policies of one file.

    Args:
        sink: Where mistakes go.
        settings: As for ``Policy(...)``, for all of them; they win over the file's.
        surroundings: Where forms look for what the file only names.
    """

    def __init__(
        self, sink: Sink, settings: Mapping[str, Any], surroundings: Surroundings | None = None
    ) -> None:
        self.surroundings = surroundings or Surroundings()
        self._sink = sink
        self._settings = settings
        self._policies: dict[str, Any] = {}
        self._shared: dict[str, Any] = {}
        self._built: dict[str, Policy] = {}
        self._shared_built: dict[str, Any] = {}
        self._under_way: list[str] = []

    def build(self, data: Any) -> dict[str, Policy]:
        """Return every policy that can be built; the sink says what is wrong with the others."""
        root = self._mapping_at((), data, "a policy file", "write 'version: 1' and 'policies:'")
        if root is None:
            return {}
        self._check_root(root)
        shared = root.get("shared")
        if shared is not None:
            self._shared = self._mapping_at(("shared",), shared, "'shared'") or {}
        self._policies = self._read_policies(root)
        for name in self._policies:
            self._build_policy(name)
        for name in self._shared:
            if name not in self._shared_built:
                self._build_shared(name)
                unused = Mistake(f"shared stage {shown(name)} is not used by any policy")
                self._sink.add(("shared", name), unused, key=True, level=Level.WARNING)
        return {name: self._built[name] for name in self._policies}

    def policy(self, name: str) -> Policy:
        """Return a policy for a fallback of another one.

        Raises:
            Mistake: There is none of that name, or it falls back to itself.
        """
        if name not in self._policies:
            known = "the policies are " + ", ".join(map(shown, list(self._policies)[:5]))
            raise Mistake(f"unknown policy {shown(name)}", nearest(name, self._policies) or known)
        if name in self._under_way:
            raise Mistake(f"policy {shown(name)} would fall back to itself")
        if len(self._under_way) > _MOST_FALLBACKS:
            raise Mistake(f"policies fall back to each other more than {_MOST_FALLBACKS} deep")
        return self._build_policy(name)

    def _check_root(self, root: dict[str, Any]) -> None:
        for key in root:
            if key not in ROOT_KEYS:
                hint = nearest(key, ROOT_KEYS)
                if key in STAGES or key == "pipeline":
                    hint = "stages stand under 'policies:', a name and 'pipeline:'"
                mistake = Mistake(f"unknown key {shown(key)} in a policy file", hint)
                self._sink.add((key,), mistake, key=True)
        if "version" not in root:
            self._sink.add((), Mistake("'version' is missing", f"write 'version: {VERSION}' first"))
        elif isinstance(root["version"], bool) or root["version"] != VERSION:
            mistake = Mistake(f"unknown version {shown(root['version'])}", f"write {VERSION}")
            self._sink.add(("version",), mistake)
        if not isinstance(root.get("allow_literal", False), bool):
            self._sink.add(("allow_literal",), Mistake("'allow_literal' must be true or false"))

    def _read_policies(self, root: dict[str, Any]) -> dict[str, Any]:
        example = "write a name, 'pipeline:' and the stages below it"
        if "policies" not in root:
            self._sink.add((), Mistake("'policies' is missing", example))
            return {}
        policies = self._mapping_at(("policies",), root["policies"], "'policies'", example)
        if policies is None:
            return {}
        if not policies:
            self._sink.add(("policies",), Mistake("there is no policy", example))
        for name in policies:
            if not name.strip():
                mistake = Mistake("the name of a policy must not be empty")
                self._sink.add(("policies", name), mistake, key=True)
        return {name: policy for name, policy in policies.items() if name.strip()}

    def _build_policy(self, name: str) -> Policy:
        if name in self._built:
            return self._built[name]
        self._under_way.append(name)
        loc: Loc = ("policies", name)
        policy = Policy(name)
        try:
            settings = self._read_settings(loc, self._policies[name])
            if settings is not None:
                stages = self._read_pipeline((*loc, "pipeline"), settings.pipeline)
                self._check_order(stages)
                if not self._sink.has_errors:
                    policy = self._assemble(name, settings, [stage for _, stage in stages])
        except ConfigError as error:
            self._sink.add(loc, Mistake(str(error)), key=True)
        finally:
            self._under_way.pop()
        self._built[name] = policy
        return policy

    def _read_settings(self, loc: Loc, data: Any) -> PolicySettings | None:
        if is_list(data) or data is None:
            mistake = Mistake("a policy is a mapping", "write 'pipeline:' above the stages")
            self._sink.add(loc, mistake, key=data is None)
            return None
        settings, slips = SETTINGS.read(data)
        for slip in slips:
            self._sink.add((*loc, *slip.loc), slip.mistake, key=slip.at_key)
        # The stages are looked at all the same: every mistake at once.
        if settings is None and is_mapping(data) and is_list(pipeline := data.get("pipeline")):
            self._check_order(self._read_pipeline((*loc, "pipeline"), pipeline))
        return cast("PolicySettings | None", settings)

    def _assemble(self, name: str, settings: PolicySettings, stages: list[Any]) -> Policy:
        given = {word: getattr(settings, word) for word in SETTINGS.fields if word != "pipeline"}
        policy = Policy(name, **{**given, **self._settings})
        for stage in stages:
            policy = policy.with_stage(stage)
        return policy

    def _read_pipeline(self, loc: Loc, items: list[Any]) -> Items:
        found = [((*loc, place), item) for place, item in enumerate(items)]
        stages = [pair for at, item in found for pair in self._read_item(at, item)]
        return [(at, stage) for at, stage in stages if stage is not None]

    def _read_item(self, loc: Loc, item: Any) -> Items:
        if isinstance(item, str):
            return [(loc, self._read_stage(loc, item, None))]
        if not is_mapping(item) or not item:
            hint = "write '- timeout: 30s'" if not callable(item) else None
            self._sink.add(loc, Mistake(f"expected a stage; got {shown(item)}", hint))
            return []
        if len(item) > 1:
            second = list(item)[1]
            hint = f"put a '-' before {shown(second)}, or indent it if it belongs to the stage"
            mistake = Mistake("an item of a pipeline is one stage", hint)
            self._sink.add((*loc, second), mistake, key=True)
        return [
            ((*loc, key), self._read_stage((*loc, key), key, value)) for key, value in item.items()
        ]

    def _read_stage(self, loc: Loc, key: str, value: Any) -> Any:
        if key == "shared":
            return self._read_shared(loc, value)
        entry = self._entry(loc, key)
        if entry is None:
            return None
        options, slips = entry.block.read(value, self)
        for slip in slips:
            self._sink.add((*loc, *slip.loc), slip.mistake, key=slip.at_key or not slip.loc)
        try:
            return None if options is None else entry.make(options)
        except ConfigError as error:
            self._sink.add(loc, refused(error), key=True)
            return None

    def _entry(self, loc: Loc, key: str) -> StageEntry | None:
        entry = STAGES.get(key)
        if entry is not None:
            return entry
        meant = OTHER_WORDS.get(key.lower(), key)
        if meant in LATER:
            mistake = Mistake(f"stage '{meant}' is not in this release", "a later one brings it")
        else:
            known = (*STAGES, "shared")
            near = f"did you mean '{meant}'?" if meant != key else nearest(key, known)
            hint = near or "the stages are " + ", ".join(known)
            mistake = Mistake(f"unknown stage {shown(key)}", hint)
        self._sink.add(loc, mistake, key=True)
        return None

    def _read_shared(self, loc: Loc, name: Any) -> Any:
        if not isinstance(name, str) or name not in self._shared:
            mistake = Mistake(
                f"unknown shared stage {shown(name)}",
                (nearest(name, self._shared) if isinstance(name, str) else None)
                or "name it under 'shared:'",
            )
            self._sink.add(loc, mistake)
            return None
        if name not in self._shared_built:
            self._build_shared(name)
        return self._shared_built[name]

    def _build_shared(self, name: str) -> None:
        self._shared_built[name] = None
        loc, item = ("shared", name), self._shared[name]
        if is_mapping(item) and "shared" in item:
            mistake = Mistake("a shared stage is a stage, not the name of another one")
            self._sink.add((*loc, "shared"), mistake, key=True)
            return
        found = self._read_item(loc, item)
        self._shared_built[name] = found[0][1] if found else None

    def _check_order(self, stages: Items) -> None:
        for finding in findings([stage for _, stage in stages]):
            if finding.level is not Level.NOTE:
                loc = stages[finding.place][0]
                mistake = Mistake(finding.message)
                self._sink.add(loc, mistake, key=True, level=finding.level)

    def _mapping_at(
        self, loc: Loc, data: Any, what: str, hint: str | None = None
    ) -> dict[str, Any] | None:
        if is_mapping(data):
            return data
        self._sink.add(loc, Mistake(f"{what} must be a mapping; got {shown(data)}", hint))
        return None
