"""What a field of a job file is: one record from which reading, the JSON schema and the reference page are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headframe.workloads.readers import Reader


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the job file. `name` is its dotted path; `form`, `default` and `meaning` are for people.

    `example` is YAML. `read` turns the value into its normalized form; `schema` is its JSON schema. A table of
    further fields (such as `resources`) has no entry of its own: it exists because dotted names begin with it.
    """

    name: str
    form: str
    meaning: str
    example: str
    read: Reader
    schema: dict[str, Any] = field(default_factory=dict)
    default: str = ""
    required: bool = False


def tables(fields: tuple[Field, ...]) -> tuple[str, ...]:
    """The names that hold further fields, in order of first appearance."""
    return tuple(dict.fromkeys(item.name.partition(".")[0] for item in fields if "." in item.name))


def schema_of(fields: tuple[Field, ...], title: str) -> dict[str, Any]:
    """The JSON schema (2020-12) of a document with these fields."""
    top: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "additionalProperties": False,
        "properties": {},
        "required": [],
    }
    for table in tables(fields):
        top["properties"][table] = {"type": ["object", "null"], "additionalProperties": False, "properties": {}}
    for item in fields:
        table, _, last = item.name.rpartition(".")
        place = top["properties"][table] if table else top
        described = {
            "description": f"{item.form}. {item.meaning}" + (f" Default: {item.default}." if item.default else "")
        }
        place["properties"][last] = {**described, **item.schema}
        if item.required:
            place.setdefault("required", []).append(last)
    return top
