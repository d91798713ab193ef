"""YAML text to a plain document with the line of each field. Bounded, without code, dates or sexagesimal numbers."""

from __future__ import annotations

import re
from typing import Any

from headframe.base.errors import InvalidSpec

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
MAX_NODES = 50_000
_TEXT_FIELDS = re.compile(r"python|name|project|env\..*|packages\[\d+\]")  # 3.10 and 1.0 stay as they are written
_TAG = "tag:yaml.org,2002:"


def read(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """(document, 1-based line by dotted path such as `resources.gpu`); raises `InvalidSpec` for anything odd."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _refused("The job file is too large.", f"at most {MAX_BYTES} bytes of YAML")
    root = _composed(text)
    reading = _Reading()
    document = reading.value(root, "", 0) if root is not None else None
    if not isinstance(document, dict):
        raise _refused("The job file is not a table of fields.", "fields such as: run: python train.py", 1)
    return document, reading.lines


def _composed(text: str) -> Any:
    """The tree of nodes; ruamel.yaml is loaded only where a file is read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        return yaml.compose(text)
    except RecursionError:
        raise _refused("The job file is nested too deeply.", f"{MAX_DEPTH} levels") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "context", None) or "it cannot be read"
        line = mark.line + 1 if mark is not None else None
        raise _refused(f"The job file is not YAML: {problem}.", "one YAML document", line) from None
    except (ValueError, AttributeError, KeyError, IndexError, TypeError, AssertionError):
        raise _refused("The job file is not YAML.", "one YAML document") from None


class _Reading:
    """One walk over the nodes, with the lines it has met and the number of nodes so far (aliases count again)."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.nodes = 0

    def value(self, node: Any, path: str, depth: int) -> Any:
        """The plain value of a node."""
        self.nodes += 1
        line = node.start_mark.line + 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _refused(
                "The job file is nested too deeply or holds too many items.",
                f"{MAX_DEPTH} levels, {MAX_NODES} items",
                line,
            )
        kind = type(node).__name__
        if kind == "MappingNode" and _tag(node) == "map":
            return self._table(node, path, depth)
        if kind == "SequenceNode" and _tag(node) == "seq":
            return self._list(node, path, depth)
        if kind == "ScalarNode":
            return _scalar(node, path, line)
        raise _refused(
            f"{path or 'The file'} uses the YAML tag {_tag(node)!r}.", "plain text, numbers, lists, tables", line
        )

    def _table(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if type(key_node).__name__ != "ScalarNode":
                raise _refused(f"{path or 'The file'} has a name that is not text.", "names that are plain text", line)
            key = str(key_node.value)
            place = f"{path}.{key}" if path else key
            if key in found:
                raise _refused(
                    f"{place} is there twice.", f"once; the first is on line {self.lines[place]}", line, place
                )
            self.lines[place] = line
            found[key] = self.value(value_node, place, depth + 1)
        return found

    def _list(self, node: Any, path: str, depth: int) -> list[Any]:
        found = []
        for number, item in enumerate(node.value):
            place = f"{path}[{number}]"
            self.lines[place] = item.start_mark.line + 1
            found.append(self.value(item, place, depth + 1))
        return found


def _tag(node: Any) -> str:
    return str(node.tag).removeprefix(_TAG)


def _scalar(node: Any, path: str, line: int) -> Any:
    """Text, number, truth or nothing, by YAML 1.2; dates stay text."""
    text, tag = str(node.value), _tag(node)
    if tag == "null":
        return None
    if tag in ("str", "timestamp", "value", "merge") or (
        tag in ("int", "float", "bool") and _TEXT_FIELDS.fullmatch(path)
    ):
        return text
    if tag == "bool":
        return text.lower() == "true"
    if tag in ("int", "float"):
        return _number(text, path, line)
    raise _refused(f"{path or 'The file'} uses the YAML tag {tag!r}.", "plain text, numbers, lists, tables", line)


def _number(text: str, path: str, line: int) -> Any:
    """A decimal number; other notations are left as text, for the field to judge."""
    if len(text) > 40:
        raise _refused(f"{path} is a number of {len(text)} digits.", "at most 40 digits", line, path)
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?", text):
        return float(text)
    return text


def _refused(message: str, allowed: str, line: int | None = None, field: str = "") -> InvalidSpec:
    return InvalidSpec(message, field=field, allowed=allowed, line=line, next_step=f"Allowed: {allowed}.")
