"""How records look outside: their fields as they are, without what must never leave. The one place of serialization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, get_type_hints

import orjson

from headframe.tenants.records import Key, Secret

HIDDEN: dict[type[Any], frozenset[str]] = {
    Key: frozenset({"secret_sha256"}),
    Secret: frozenset({"sealed"}),
}


def document(value: Any) -> Any:
    """A record, or anything made of records, ready for JSON."""
    hidden = HIDDEN.get(type(value))
    if hidden is not None:
        return {each.name: getattr(value, each.name) for each in fields(value) if each.name not in hidden}
    if isinstance(value, dict):
        return {name: document(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [document(item) for item in value]
    return value  # orjson writes the other records itself, which is many times faster


def dump(value: Any) -> bytes:
    """JSON of a record, or of anything made of records."""
    return orjson.dumps(document(value))


@cache
def shape(kind: type[Any]) -> type[Any]:
    """The record class as the API describes it: without its hidden fields, all others always present."""
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    hidden = HIDDEN.get(kind, frozenset())
    return make_dataclass(
        kind.__name__, [(each.name, hints[each.name]) for each in fields(kind) if each.name not in hidden]
    )


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
