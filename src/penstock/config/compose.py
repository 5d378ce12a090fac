"""YAML text to plain data and its positions, without trusting the text.

The events of PyYAML's pure-Python parser are put together here and not by its composer: so nothing
recurses, aliases are paid for, and every mistake is found in one pass. The C parser is not used: it
ends the process on 200,000 open brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from penstock.config.marks import Mark, Position, Text
from penstock.config.problems import Loc, Mistake, nearest, shown
from penstock.config.scalars import read_plain
from penstock.config.sink import Sink

__all__ = ["MOST_DEPTH", "MOST_NODES", "Composer", "Stop"]

# A hundred policies of twenty stages. The well-known bombs ask for millions.
MOST_NODES = 10_000

# The grammar needs 12; what follows here may recurse without fear.
MOST_DEPTH = 50


class Stop(Exception):  # noqa: N818 - it never leaves this package
    """The text cannot be read any further; the reason is in the sink."""


@dataclass(slots=True)
class _Frame:
    """A collection that is not closed yet."""

    data: dict[str, Any] | list[Any]
    mark: Mark
    anchor: str | None
    nodes_before: int
    key: str | None = None
    drops: bool = False
    height: int = 1


@dataclass(frozen=True, slots=True)
class _Anchored:
    data: Any
    mark: Mark
    nodes: int
    height: int


class Composer:
    """Builds the data of one document from PyYAML's events.

    Args:
        text: The file.
        sink: Where mistakes go.
    """

    def __init__(self, text: Text, sink: Sink) -> None:
        self._text = text
        self._sink = sink
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._nodes = 0
        self._documents = 0
        self.data: Any = None
        self.mark = Mark(Position(0, 0))

    def take(self, event: yaml.Event) -> None:
        """Take the next event.

        Raises:
            Stop: Reading on makes no sense.
        """
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop(event, "a policy file holds one document; remove this '---'")
            case yaml.AliasEvent():
                self._take_alias(event)
            case yaml.ScalarEvent():
                self._take_scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case _:
                pass

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        self._check(event, event.tag)
        text = event.value or ""
        if not _is_text(text):
            self._stop(event, "half of a surrogate pair is not a character")
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.data, dict) and frame.key is None:
            self._take_key(frame, frame.data, event)
            return
        value = read_plain(text) if event.implicit[0] else text
        mark = Mark(self._text.span(event.start_mark, event.end_mark))
        self._remember(event.anchor, _Anchored(value, mark, 1, 0))
        self._put(value, mark)

    def _take_key(self, frame: _Frame, data: dict[str, Any], event: yaml.ScalarEvent) -> None:
        key = event.value or ""
        position = self._text.span(event.start_mark, event.end_mark)
        frame.key, frame.drops = key, False
        if key == "<<" and event.implicit[0]:
            frame.drops = True
            mistake = Mistake("merge keys ('<<') are not supported", "write the keys out")
            self._sink.add_at(position, self._loc(), mistake)
        elif key in data:
            frame.drops = True
            first = frame.mark.keys[key].line + 1
            mistake, note = Mistake(f"duplicate key {shown(key)}"), f"first set on line {first}"
            self._sink.add_at(position, self._loc(), mistake, note=note)
        else:
            frame.mark.keys[key] = position

    def _take_alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor or ""
        self._check(event, None)
        if name not in self._anchors:
            known = nearest(name, self._anchors)
            self._stop(event, f"unknown anchor {shown(name)}", known)
        anchored = self._anchors[name]
        if anchored is None:
            self._stop(event, f"the alias '*{name[:60]}' contains itself")
        self._nodes += anchored.nodes
        self._check_bounds(event, anchored.height)
        self._refuse_as_key(event)
        self._put(anchored.data, anchored.mark, anchored.height)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        self._refuse_as_key(event)
        self._check(event, event.tag)
        mark = Mark(self._text.span(event.start_mark, event.end_mark))
        data: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Frame(data, mark, event.anchor, self._nodes))
        self._check_bounds(event, 0)
        if event.anchor is not None:
            self._anchors[event.anchor] = None

    def _close(self) -> None:
        frame = self._stack.pop()
        nodes = self._nodes - frame.nodes_before + 1
        self._remember(frame.anchor, _Anchored(frame.data, frame.mark, nodes, frame.height))
        self._put(frame.data, frame.mark, frame.height)

    def _put(self, value: Any, mark: Mark, height: int = 0) -> None:
        if not self._stack:
            self.data, self.mark = value, mark
            return
        frame = self._stack[-1]
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.data, list):
            frame.mark.values[len(frame.data)] = mark
            frame.data.append(value)
        elif frame.key is not None:
            if not frame.drops:
                frame.data[frame.key] = value
                frame.mark.values[frame.key] = mark
            frame.key = None

    def _remember(self, anchor: str | None, anchored: _Anchored) -> None:
        if anchor is not None:
            self._anchors[anchor] = anchored

    def _check(self, event: yaml.Event, tag: str | None) -> None:
        self._nodes += 1
        self._check_bounds(event, 0)
        if tag is not None:
            short = tag.removeprefix("tag:yaml.org,2002:")
            mistake = Mistake(f"tags are not supported; got {shown(short)}", "remove the tag")
            position = self._text.span(event.start_mark, event.end_mark)
            self._sink.add_at(position, self._loc(), mistake)

    def _check_bounds(self, event: yaml.Event, height: int) -> None:
        if self._nodes > MOST_NODES:
            self._stop(event, f"more than {MOST_NODES} values, those of aliases included")
        if len(self._stack) + height > MOST_DEPTH:
            self._stop(event, f"nested more than {MOST_DEPTH} levels deep")

    def _refuse_as_key(self, event: yaml.Event) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.data, dict) and frame.key is None:
            hint = "a text with '{' needs quotes" if isinstance(event, yaml.NodeEvent) else None
            self._stop(event, "a key must be a plain text", hint)

    def _stop(self, event: yaml.Event, message: str, hint: str | None = None) -> NoReturn:
        position = self._text.span(event.start_mark, event.end_mark)
        self._sink.add_at(position, self._loc(), Mistake(message, hint))
        raise Stop

    def _loc(self) -> Loc:
        steps = (len(f.data) if isinstance(f.data, list) else f.key for f in self._stack)
        return tuple(step for step in steps if step is not None)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
