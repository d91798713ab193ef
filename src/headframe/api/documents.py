"""How records look outside: their fields as they are, without what must never leave. The one place of serialization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, get_type_hints

import orjson

from headframe.tenants.records import Key, Secret, Session
from headframe.workloads.spec import Spec

HIDDEN: dict[type[Any], frozenset[str]] = {
    Key: frozenset({"secret_sha256"}),
    Secret: frozenset({"sealed"}),
    Session: frozenset({"secret_sha256"}),
}


def document(value: Any) -> dict[str, Any]:
    """A record as it looks outside."""
    kind: Any = type(value)
    shown = {name: getattr(value, name) for name in _shown(kind)}
    if kind is Spec:
        shown["env"] = dict.fromkeys(value.env)  # tokens are given as variables, too: the names only, as job files do
    return shown


def dump(value: Any) -> bytes:
    """JSON of a record, or of anything made of records."""
    return orjson.dumps(value, default=document, option=orjson.OPT_PASSTHROUGH_DATACLASS)


@cache
def _shown(kind: type[Any]) -> tuple[str, ...]:
    if not is_dataclass(kind):
        raise TypeError(f"{kind} is no record")
    hidden = HIDDEN.get(kind, frozenset())
    return tuple(each.name for each in fields(kind) if each.name not in hidden)


@cache
def shape(kind: type[Any]) -> type[Any]:
    """The record class as the API describes it: without its hidden fields, all others always present."""
    assert is_dataclass(kind)
    hints = get_type_hints(kind) | ({"env": dict[str, None]} if kind is Spec else {})
    return make_dataclass(kind.__name__, [(name, _outside(hints[name])) for name in _shown(kind)])


def _outside(hint: Any) -> Any:
    """The type of a field as it looks outside."""
    return shape(Spec) if hint is Spec else hint


@cache
def page_shape(kind: type[Any]) -> type[Any]:
    """The description of a page of such records."""
    item: Any = shape(kind)  # type: ignore[arg-type]
    return make_dataclass(f"{kind.__name__}Page", [("items", list[item]), ("next", str | None)])


@dataclass(frozen=True, slots=True)
class Page:
    """Some items of a list, and the cursor of the following ones (None: there are none)."""

    items: Sequence[Any]
    next: str | None
