"""A file's bytes to data: every way in which bytes can be hostile ends in a problem here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from penstock.config.compose import Composer, Stop
from penstock.config.marks import Position, Text
from penstock.config.problems import Mistake
from penstock.config.sink import Sink

__all__ = ["MOST_BYTES", "read_bytes", "read_document"]

# A hundred policies of twenty stages. The pure-Python parser takes up to 1.8 s for a megabyte of
# words or line breaks, and twice that on a busy machine; no file may cost anybody a second.
MOST_BYTES = 128 * 1024


def read_bytes(path: str | Path) -> bytes:
    """Return a file's bytes, and never much more than ``MOST_BYTES`` of them.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        return file.read(MOST_BYTES + 1)


def read_document(raw: bytes) -> tuple[Any, Sink]:
    """Return the data of a YAML text, None where there is none, and a sink with its mistakes."""
    text, sink = _decoded(raw)
    if sink.problems:
        return None, sink
    composer = Composer(sink.text or Text(""), sink)
    try:
        _compose(text, composer)
    except Stop:
        return None, sink
    except yaml.YAMLError as error:
        _report(error, sink)
        return None, sink
    except (ValueError, OverflowError, RecursionError):
        # PyYAML's own mistakes, for example about the escape "\\UFFFFFFFF".
        sink.add_at(Position(0, 0), (), Mistake("this is not YAML that can be read"))
        return None, sink
    sink.mark = composer.mark
    return composer.data, sink


def _decoded(raw: bytes) -> tuple[str, Sink]:
    if len(raw) > MOST_BYTES:
        sink = Sink(Text(""))
        limit = f"{MOST_BYTES // 1024} KiB"
        sink.add_at(Position(0, 0), (), Mistake(f"a policy file holds at most {limit}"))
        return "", sink
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        readable = Text(raw[: error.start].decode("utf-8-sig"))
        sink = Sink(readable)
        position = readable.position_of(error.start)
        mistake = Mistake(f"not UTF-8: byte {raw[error.start]:#04x}", "save the file as UTF-8")
        sink.add_at(position, (), mistake)
        return "", sink
    return text, Sink(Text(text))


def _compose(text: str, composer: Composer) -> None:
    # Any: the stubs do not say what a loader's events are.
    loader: Any = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            composer.take(loader.get_event())
    finally:
        loader.dispose()


def _report(error: yaml.YAMLError, sink: Sink) -> None:
    text = sink.text or Text("")
    if isinstance(error, yaml.reader.ReaderError):
        message = f"the character #x{_code(error.character):04x} is not allowed in YAML"
        sink.add_at(text.position_of(error.position), (), Mistake(message))
        return
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = Position(mark.line, mark.column) if mark is not None else Position(0, 0)
    problem = getattr(error, "problem", None) or "this is not YAML that can be read"
    context = getattr(error, "context", None)
    sink.add_at(position, (), Mistake(f"{problem} ({context})" if context else problem))


def _code(character: str | int) -> int:
    return character if isinstance(character, int) else ord(character)
