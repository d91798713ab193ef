"""What people look at: rows by key, by filter and in sums, straight from the tables, from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from sqlalchemy import ColumnElement, ColumnExpressionArgument, Select, and_, false, func, literal_column, select
from sqlalchemy.sql.elements import KeyedColumnElement

from headframe.base.changes import Event
from headframe.base.errors import Invalid
from headframe.base.quantities import DAY_US
from headframe.jobs.records import Job
from headframe.store.database import Database, explained
from headframe.store.rows import Mapping, kept_text, mapping_of

_PART = 1 << 32  # where `exact_sum` divides a number
_LARGEST = (1 << 63) - 1
_HIGHEST = "\U0010ffff"  # sorts after every other character


def column_of(mapping: Mapping, name: str) -> KeyedColumnElement[Any]:
    """The column of that name; a name from outside never becomes part of a statement."""
    if name == "id":
        return mapping.key
    if name not in mapping.names or name in mapping.json_names:
        raise Invalid(
            f"There is nothing to filter by called {name!r}.",
            field=name, allowed=", ".join(known for known in mapping.names if known not in mapping.json_names),
        )  # fmt: skip
    return mapping.table.c[name]


def _value(value: object) -> object:
    return kept_text(value) if isinstance(value, str) else value


def condition(mapping: Mapping, key: str, value: object) -> ColumnExpressionArgument[bool]:
    """One filter: `column`, `column__ge`, `column__lt`, `column__prefix` or `column__child_of`."""
    name, _, comparison = key.partition("__")
    column = column_of(mapping, name)
    if isinstance(value, int) and abs(value) > _LARGEST:
        return false()
    if comparison == "ge":
        return column >= _value(value)
    if comparison == "lt":
        return column < _value(value)
    if comparison == "prefix":
        start = kept_text(str(value))
        return and_(column >= start, column < start + _HIGHEST)
    if comparison == "child_of":
        jobs = mapping_of(Job).table
        return column.in_(select(jobs.c.id).where(jobs.c.parent_id == _value(value)))
    if comparison:
        allowed = "column, column__ge, column__lt, column__prefix, column__child_of"
        raise Invalid(f"{key!r} is not a filter.", field=key, allowed=allowed)
    if value is None:
        return column.is_(None)
    if isinstance(value, tuple | list):
        return column.in_([_value(each) for each in value])
    return column == _value(value)


def group_of(mapping: Mapping, name: str) -> ColumnElement[Any]:
    """What to group by: a column, `labels` by their JSON text, or `<column>__day`."""
    plain, _, part = name.partition("__")
    if part == "day":  # numbers stand in the words: PostgreSQL must see the same ones where it selects and groups
        return (column_of(mapping, plain) - literal_column("1")) // literal_column(str(DAY_US))
    return mapping.table.c[name] if name == "labels" and name in mapping.names else column_of(mapping, name)


def exact_sum(column: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Two sums, of the upper and of the lower part of a number: SQLite's own sum ends at 64 bits."""
    return func.sum(column // _PART), func.sum(column % _PART)


def joined(upper: Any, lower: Any) -> int:
    """The number of which `exact_sum` gives the parts (0 when there were no rows)."""
    return int(upper or 0) * _PART + int(lower or 0)


class SqlReads:
    """`control.ports.Reads` on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, kind: type[Any], record_id: str) -> Any | None:
        mapping = mapping_of(kind)
        found = self._records(mapping, select(mapping.table).where(condition(mapping, "id", record_id)))
        return found[0] if found else None

    def find(
        self,
        kind: type[Any],
        *,
        after: str | int | None = None,
        limit: int = 100,
        newest: bool = False,
        **where: object,
    ) -> list[Any]:
        mapping = mapping_of(kind)
        question = self._filtered(mapping, select(mapping.table), where)
        if after is not None:
            place = _value(after)
            question = question.where(mapping.key < place if newest else mapping.key > place)
        order = mapping.key.desc() if newest else mapping.key
        return self._records(mapping, question.order_by(order).limit(limit))

    def count(self, kind: type[Any], **where: object) -> int:
        mapping = mapping_of(kind)
        with self._database.read() as connection:
            question = self._filtered(mapping, select(func.count()).select_from(mapping.table), where)
            return int(connection.execute(question).scalar_one())

    def tally(self, kind: type[Any], by: Sequence[str], **where: object) -> list[dict[str, Any]]:
        """How many rows there are in each group, ordered by the groups."""
        mapping = mapping_of(kind)
        groups = [group_of(mapping, name) for name in by]
        question: Select[Any] = select(*groups, func.count())
        question = self._filtered(mapping, question, where).group_by(*groups).order_by(*groups)
        with self._database.read() as connection:
            rows = connection.execute(question).all()
        return [{**dict(zip(by, row, strict=False)), "count": int(row[-1])} for row in rows]

    def total(
        self, kind: type[Any], column: str | Sequence[str], by: Sequence[str], **where: object
    ) -> list[dict[str, Any]]:
        """Exact sums, ordered by the groups; each sum stands under its column's own name. No group: one row."""
        mapping = mapping_of(kind)
        groups = [group_of(mapping, name) for name in by]
        columns = [column] if isinstance(column, str) else list(column)
        sums = [part for name in columns for part in exact_sum(column_of(mapping, name))]
        question: Select[Any] = select(*groups, *sums)
        question = self._filtered(mapping, question, where).group_by(*groups).order_by(*groups)
        with self._database.read() as connection:
            rows = connection.execute(question).all()
        first = len(groups)
        return [
            {
                **dict(zip(by, row, strict=False)),
                **{name: joined(row[at], row[at + 1]) for name, at in zip(columns, count(first, 2), strict=False)},
            }
            for row in rows
        ]

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 500,
        subject: str | None = None,
        organization_id: str | None = None,
    ) -> list[Event]:
        where: dict[str, Any] = {"subject": subject, "organization_id": organization_id}
        where = {name: value for name, value in where.items() if value is not None}
        return self.find(Event, after=after, limit=limit, **where)

    def _filtered(self, mapping: Mapping, question: Select[Any], where: dict[str, object]) -> Select[Any]:
        return question.where(*(condition(mapping, key, value) for key, value in where.items()))

    def _records(self, mapping: Mapping, question: Select[Any]) -> list[Any]:
        with explained(), self._database.read() as connection:
            rows = connection.execute(question).all()
        return [mapping.decode(row) for row in rows]
