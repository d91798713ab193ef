"""The kinds of workload that can be asked for, one line each; the schema and the reference are made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headframe.workloads import batch
from headframe.workloads.fields import Field, schema_of
from headframe.workloads.spec import Spec


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of workload: its fields, and how normalized values become a request."""

    name: str
    fields: tuple[Field, ...]
    build: Callable[[Mapping[str, Any], Mapping[str, str], str], Spec]


KINDS: dict[str, Kind] = {
    batch.NAME: Kind(batch.NAME, batch.FIELDS, batch.build),
}
DEFAULT = batch.NAME


def fields(kind: str = DEFAULT) -> tuple[Field, ...]:
    """The fields of a kind, in the order in which the reference lists them."""
    return KINDS[kind].fields


def json_schema() -> dict[str, Any]:
    """The JSON schema of the job document, for the API and for editors."""
    schemas = [schema_of(kind.fields, f"Headframe {kind.name} job") for kind in KINDS.values()]
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
