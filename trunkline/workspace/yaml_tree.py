"""YAML to a tree that knows its lines: bounded in size, depth and what aliases expand to, without duplicate keys.

Built from the parser's events with a stack of its own, so no document can exhaust Python's. The values are those of
PyYAML's safe loader as far as JSON has them: text, numbers, booleans, null, lists, mappings with text keys, merge
keys (``<<``). All else (dates, binary, other tags) is a problem with its line.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from trunkline.workspace.problem import Report

MAX_BYTES: Final = 4 * 2**20
MAX_DEPTH: Final = 50
MAX_WEIGHT: Final = 200_000
"""How much a document may hold: a value weighs 1, text 1 more for each 32 characters; what aliases repeat counts
each time."""

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Final[Any] = yaml.resolver.Resolver()
_CONSTRUCTOR: Final = yaml.constructor.SafeConstructor()


class Broken:
    """Stands for a value whose problem is reported already."""


BROKEN: Final = Broken()
Scalar = str | int | float | bool | None


@dataclass(slots=True, eq=False)
class Node:
    """One value and where it starts (from 1). The same node may be reached by several paths (aliases)."""

    line: int
    column: int
    value: Scalar | list[Node] | dict[str, Node] | Broken
    weight: int = 1
    """Its own and that of all in it, see ``MAX_WEIGHT``."""
    key_places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For a mapping: where each key stands."""


@dataclass(frozen=True, slots=True)
class At:
    """A value and the path by which it was reached."""

    node: Node
    path: str


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being read."""

    node: Node
    path: str
    anchor: str | None
    merges: list[Node] = field(default_factory=list)
    awaits_value: bool = False
    key: str | None = None
    """The key whose value comes next; None when the key itself was refused."""
    key_tag: str = ""

    def next_path(self) -> str:
        if isinstance(self.node.value, list):
            return f"{self.path}[{len(self.node.value)}]"
        return step(self.path, self.key) if self.awaits_value and self.key is not None else self.path


class _Stop(Exception):
    """A problem after which the rest of the document can't be read."""


def step(path: str, key: str) -> str:
    """The path of a key below ``path``."""
    short = key if len(key) <= 60 else key[:57] + "…"
    return f"{path}.{short}" if path else short


def items(at: At | None) -> list[At]:
    """The values of a list; none when it is no list."""
    if at is None or not isinstance(at.node.value, list):
        return []
    return [At(node, f"{at.path}[{index}]") for index, node in enumerate(at.node.value)]


def locate(base: At, inner: str) -> tuple[Node, str]:
    """The node that a path inside the settings names, as far as there is one, and the whole path."""
    path = base.path + ("." if inner and not inner.startswith("[") else "") + inner[:200]
    node, rest = base.node, inner
    while rest:
        if isinstance(node.value, dict):
            # Keys may hold dots themselves: the longest one that fits is meant.
            keys = [key for key in node.value if rest == key or rest.startswith((key + ".", key + "["))]
            if not keys:
                break
            key = max(keys, key=len)
            node, rest = node.value[key], rest[len(key) :].removeprefix(".")
        elif isinstance(node.value, list) and (match := re.match(r"\[(\d{1,9})\]\.?", rest)):
            if int(match[1]) >= len(node.value):
                break
            node, rest = node.value[int(match[1])], rest[match.end() :]
        else:
            break
    return node, path


def parse_tree(content: bytes, report: Report, loader: Any = _LOADER) -> Node | None:
    """The document's root; None when it can't be read at all (the report says why)."""
    text = _decode(content, report)
    if text is None:
        return None
    builder = _Builder(report)
    try:
        for event in yaml.parse(text, Loader=loader):
            builder.take(event)
    except _Stop:
        return None
    except yaml.YAMLError as error:
        _report_syntax(error, text, report)
        return None
    except (ValueError, OverflowError):
        # The parser lets a few out: escapes beyond Unicode, version numbers of thousands of digits.
        report.problem(0, 0, "", "not valid YAML: a character or number is out of range", "Mend the file")
        return None
    if builder.root is None:
        report.problem(0, 0, "", "the file holds nothing", "Start with `workspace: {slug: …, name: …}`")
    return builder.root


def report_too_large(report: Report) -> None:
    """The file is over ``MAX_BYTES``."""
    reason = f"larger than {MAX_BYTES // 2**20} MiB"
    report.problem(0, 0, "", reason, "A workspace's file holds settings, not data: take the rest out")


def _decode(content: bytes, report: Report) -> str | None:
    if len(content) > MAX_BYTES:
        report_too_large(report)
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        report.problem(line, column, "", "not UTF-8 text", "Save the file as UTF-8")
        return None


def _report_syntax(error: yaml.YAMLError, text: str, report: Report) -> None:
    line = column = 0
    reason = str(getattr(error, "problem", None) or "it can't be read")
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            line, column = mark.line + 1, mark.column + 1
        if error.context and error.problem:
            reason = f"{error.context}, {error.problem}"
    elif isinstance(error, yaml.reader.ReaderError):
        character: int | str = error.character
        number = ord(character) if isinstance(character, str) else character
        at = error.position
        if [ord(found) for found in text[at : at + 1]] != [number]:  # the C parser counts bytes
            at = len(text.encode()[:at].decode("utf-8", "ignore"))
        line = text.count("\n", 0, at) + 1
        column = at - text.rfind("\n", 0, at)
        reason = f"the character U+{number:04X} is not allowed"
    report.problem(line, column, "", f"not valid YAML: {reason}", "Mend the file at this place")


def _place(event: yaml.Event) -> tuple[int, int]:
    mark: Any = event.start_mark
    return mark.line + 1, mark.column + 1


def _text_weight(value: object) -> int:
    return len(value) // 32 if isinstance(value, str) else 0


class _Builder:
    """Takes the parser's events one by one."""

    def __init__(self, report: Report) -> None:
        self.root: Node | None = None
        self._report = report
        self._frames: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._open_anchors: set[str] = set()

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self._take_scalar(event)
            case yaml.CollectionStartEvent():
                self._open(event)
            case yaml.CollectionEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._take_alias(event)
            case yaml.DocumentStartEvent() if self.root is not None:
                self._problem(event, "a second document starts here", "Keep one document in the file")
                raise _Stop

    def _path(self) -> str:
        return self._frames[-1].next_path() if self._frames else ""

    def _problem(self, event: yaml.Event, reason: str, mend: str) -> None:
        line, column = _place(event)
        self._report.problem(line, column, self._path(), reason, mend)

    def _node(self, event: yaml.Event, value: Any) -> Node:
        line, column = _place(event)
        return Node(line, column, value, weight=1 + _text_weight(value))

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        tag = event.tag
        if tag is None or tag == "!":
            tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
        is_key = bool(self._frames) and self._expects_key(self._frames[-1])
        if is_key and tag == _MERGE:
            node = self._node(event, event.value)
        else:
            node = self._node(event, self._scalar(event, tag, is_key=is_key))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node, tag)

    def _scalar(self, event: yaml.ScalarEvent, tag: str, *, is_key: bool) -> Scalar | Broken:
        text = event.value
        kind = tag.removeprefix(_TAG)
        if kind in ("str", "value", "merge"):
            if any("\ud800" <= character <= "\udfff" for character in text):
                self._problem(event, "half of a surrogate pair is not a character", "Write the whole character")
                return BROKEN
            return str(text)
        what = "key" if is_key else "value"
        if kind == "timestamp":
            self._problem(event, f"a date can't be a {what}", "Put it in quotes to make it text")
            return BROKEN
        construct = {
            "null": _CONSTRUCTOR.construct_yaml_null,
            "bool": _CONSTRUCTOR.construct_yaml_bool,
            "int": _CONSTRUCTOR.construct_yaml_int,
            "float": _CONSTRUCTOR.construct_yaml_float,
        }.get(kind if tag.startswith(_TAG) else "")
        if construct is None:
            self._problem(event, f"the tag {tag[:80]} is not allowed", "Remove the tag, or quote the value")
            return BROKEN
        try:
            value: Scalar = construct(yaml.ScalarNode(tag, text))
        except (ValueError, KeyError, IndexError, OverflowError):
            self._problem(event, f"not a value of the tag {kind}", "Put it in quotes to make it text")
            return BROKEN
        too_large = isinstance(value, int) and not -(2**63) <= value < 2**64
        if too_large or (isinstance(value, float) and not math.isfinite(value)):
            self._problem(event, "a number that JSON can't hold", "Put it in quotes to make it text")
            return BROKEN
        return value

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if len(self._frames) >= MAX_DEPTH:
            self._problem(event, f"nested deeper than {MAX_DEPTH} levels", "Flatten it")
            raise _Stop
        is_list = isinstance(event, yaml.SequenceStartEvent)
        tag = event.tag or "!"
        if tag not in ("!", _TAG + ("seq" if is_list else "map")):
            self._problem(event, f"the tag {tag[:80]} is not allowed", "Remove the tag")
        empty: list[Node] | dict[str, Node] = [] if is_list else {}
        self._frames.append(_Frame(self._node(event, empty), self._path(), event.anchor))
        if event.anchor is not None:
            self._open_anchors.add(event.anchor)

    def _close(self) -> None:
        frame = self._frames.pop()
        self._merge(frame)
        if frame.anchor is not None:
            self._open_anchors.discard(frame.anchor)
            self._anchors[frame.anchor] = frame.node
        self._attach(frame.node, "")

    def _take_alias(self, event: yaml.AliasEvent) -> None:
        node: Node | None = None
        anchor = event.anchor or ""
        if anchor in self._open_anchors:
            self._problem(event, f"*{anchor} stands inside of what it repeats", "Write it out")
        else:
            node = self._anchors.get(anchor)
            if node is None:
                self._problem(event, f"no anchor &{anchor} comes before it", "Name one that does")
        self._attach(node or self._node(event, BROKEN), "")

    @staticmethod
    def _expects_key(frame: _Frame) -> bool:
        return isinstance(frame.node.value, dict) and not frame.awaits_value

    def _attach(self, node: Node, tag: str) -> None:
        if not self._frames:
            self.root = node
            return
        frame = self._frames[-1]
        if self._expects_key(frame):
            self._take_key(frame, node, tag)
            return
        self._weigh(frame, node)
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
            return
        frame.awaits_value = False
        if frame.key_tag == _MERGE:
            frame.merges.append(node)
        elif frame.key is not None and isinstance(frame.node.value, dict):
            frame.node.value[frame.key] = node

    def _take_key(self, frame: _Frame, node: Node, tag: str) -> None:
        path = frame.path
        frame.awaits_value, frame.key, frame.key_tag = True, None, tag
        if tag == _MERGE or isinstance(node.value, Broken):
            return
        if not isinstance(node.value, str):
            reason, mend = "a key that is not text", "Put the key in quotes"
            self._report.problem(node.line, node.column, path, reason, mend)
        elif node.value in frame.node.key_places:
            first = frame.node.key_places[node.value][0]
            reason, mend = f"the key stands here a second time, after line {first}", "Keep one of them"
            self._report.problem(node.line, node.column, step(path, node.value), reason, mend)
        else:
            frame.key = node.value
            frame.node.weight += _text_weight(node.value)
            frame.node.key_places[node.value] = (node.line, node.column)

    def _weigh(self, frame: _Frame, node: Node) -> None:
        frame.node.weight += node.weight
        if frame.node.weight > MAX_WEIGHT:
            reason = "too many values, those that aliases repeat counted each time"
            self._report.problem(frame.node.line, frame.node.column, frame.path, reason, "Make it smaller")
            raise _Stop

    def _merge(self, frame: _Frame) -> None:
        """Take over the keys of merged mappings, the first one's before the later ones', own keys before all."""
        target = frame.node
        for merged in frame.merges:
            for node in merged.value if isinstance(merged.value, list) else [merged]:
                if isinstance(node.value, Broken):
                    continue
                if not isinstance(node.value, dict) or not isinstance(target.value, dict):
                    reason, mend = "<< needs a mapping, or a list of mappings", "Name an anchor of a mapping"
                    self._report.problem(node.line, node.column, frame.path, reason, mend)
                    continue
                for key, value in node.value.items():
                    if key not in target.key_places:
                        frame.node.weight += _text_weight(key)
                        self._weigh(frame, value)
                        target.value[key] = value
                        target.key_places[key] = node.key_places[key]
