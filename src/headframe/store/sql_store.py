"""The store: one transaction for each `Changes`, and what the loop needs when it starts."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping as Rows
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_type_hints

from sqlalchemy import Connection, delete, exc, func, literal, select, text, union_all

from headframe.base.changes import Changes, Event
from headframe.base.errors import Conflict, Invalid, StoreFailed, VersionConflict
from headframe.control.world import WARM
from headframe.ledger.chain import Head
from headframe.ledger.records import Invoice, Transfer
from headframe.metering.records import UsageEvent
from headframe.store import schema
from headframe.store.database import LOCK_WAIT_MS, Database, explain
from headframe.store.migrations import stored_revision, wrong_revision
from headframe.store.reads import SqlReads, condition, exact_sum, joined
from headframe.store.rows import Mapping, mapping_of

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


class _Stale(Exception):
    """Fewer rows were updated than there were updates: undo everything, then find out which."""

    def __init__(self, kind: type[Any], updates: list[tuple[Any, int]]) -> None:
        super().__init__(kind.__name__)
        self.kind, self.updates = kind, updates


@dataclass(slots=True)
class Batch:
    """What one `Changes` does to one table: records to insert, and (record, stored version) to update."""

    inserts: list[Any]
    updates: list[tuple[Any, int]]


class Statements:
    """The texts that write one table, made once: to compile them for each batch would cost more than to run them."""

    def __init__(self, mapping: Mapping, database: Database) -> None:
        quote = database.quote
        mark = "?" if database.is_sqlite else "%s"
        table = quote(mapping.table.name)
        columns = ", ".join(quote(name) for name in mapping.names)
        marks = ", ".join([mark] * len(mapping.names))
        self.insert = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608  names come from the schema
        self.insert_new = f"{self.insert} ON CONFLICT DO NOTHING"
        renewed = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in mapping.names[1:])
        self.put = f"{self.insert} ON CONFLICT (id) DO UPDATE SET {renewed}"
        self.remove = f"DELETE FROM {table} WHERE id = {mark}"  # noqa: S608
        settings = ", ".join(f"{quote(name)} = {mark}" for name in mapping.names[1:])
        self.update = f"UPDATE {table} SET {settings} WHERE id = {mark} AND version = {mark}"  # noqa: S608


def batches_of(rows: Sequence[Any]) -> dict[type[Any], Batch]:
    """Rows by class. Of several versions of one row only the last is written, on top of what was before the first."""
    by_kind: dict[type[Any], list[Any]] = defaultdict(list)
    for record in rows:
        by_kind[type(record)].append(record)
    return {kind: _batch(kind, records) for kind, records in by_kind.items()}


def _batch(kind: type[Any], records: list[Any]) -> Batch:
    if not mapping_of(kind).versioned:
        return Batch(records, [])
    before: dict[str, int] = {}
    last: dict[str, Any] = {}
    for record in records:
        known = last.get(record.id)
        if known is None:
            before[record.id] = record.version - 1
        elif record.version != known.version + 1:
            raise _version_conflict(kind, record.id, known.version, record.version - 1)
        last[record.id] = record
    inserts = [record for record_id, record in last.items() if before[record_id] == 0]
    return Batch(inserts, [(record, before[record_id]) for record_id, record in last.items() if before[record_id]])


def _version_conflict(kind: type[Any], record_id: str, stored: int | None, expected: int) -> VersionConflict:
    now = "is not there" if stored is None else f"is at version {stored}"
    return VersionConflict(
        f"{kind.__name__} {record_id} {now}, not at version {expected}: somebody changed it first.",
        next_step="Read it again and repeat the change.",
        details={"kind": kind.__name__, "id": record_id, "stored": stored, "expected": expected},
    )


def _taken(kind: type[Any], record_id: Any, columns: tuple[str, ...], values: tuple[Any, ...]) -> Conflict:
    named = ", ".join(f"{column} {value!r}" for column, value in zip(columns, values, strict=True))
    return Conflict(
        f"There is a {kind.__name__} with {named} already.",
        next_step="Use another one, or change the one that is there.",
        details={"kind": kind.__name__, "id": record_id, "fields": list(columns)},
    )


def _too_large(kind: type[Any], records: Sequence[Any]) -> Invalid:
    for record in records:
        for name in mapping_of(kind).names:
            value = getattr(record, name)
            if isinstance(value, int) and not _LEAST <= value <= _MOST:
                return Invalid(
                    f"{name} of {kind.__name__} {record.id} is {value}, which is too large to be kept.",
                    field=name, value=value, allowed="64-bit integers",
                )  # fmt: skip
    return Invalid(f"A {kind.__name__} has a value that cannot be kept.", next_step="Report this: it is a defect.")


def _others(kind: type[Any], column: str, values: tuple[object, ...]) -> tuple[object, ...]:
    """All values of an enumeration but these: an index serves "is one of", not "is none of"."""
    form = get_type_hints(kind)[column]
    assert issubclass(form, Enum), f"{kind.__name__}.{column} must be an enumeration to be excluded from"
    return tuple(value for value in form if value not in values)


class SqlStore(SqlReads):
    """`control.ports.Store` on SQLite or PostgreSQL. `sqlite://` is a store in memory that begins empty."""

    def __init__(self, url: str, *, lock_wait_ms: int = LOCK_WAIT_MS) -> None:
        super().__init__(Database(url, lock_wait_ms=lock_wait_ms))
        self._taking_in = threading.Lock()
        self._statements = {kind: Statements(mapping_of(kind), self._database) for kind in schema.tables}
        try:
            if self._database.in_memory:
                with self._database.write() as connection:
                    schema.metadata.create_all(connection, checkfirst=False)
            else:
                self._check_revision()
        except BaseException:
            self.close()
            raise

    def decide_in(self, term: int) -> None:
        """Write only while this term lasts; from then on whatever would write raises `ChangingOver`."""
        self._database.term = term

    def close(self) -> None:
        """Let go of all connections."""
        self._database.close()

    def apply(self, changes: Changes) -> None:
        """Write all rows and events in one transaction, durably, or nothing. What holds only orders to engines
        writes nothing, and yet only the server that decides may give them."""
        if not changes.rows and not changes.events and not (changes.actions and self._database.term):
            return
        batches = batches_of(changes.rows)
        kind, batch = Event, Batch([], [])
        try:
            with self._database.write() as connection:
                # Updates come first: one may give free the name that an insert takes.
                for kind, batch in batches.items():
                    if batch.updates:
                        self._update(connection, kind, batch.updates)
                for kind, batch in batches.items():
                    if batch.inserts:
                        self._insert(connection, kind, batch.inserts)
                if changes.events:
                    kind, batch = Event, Batch(list(changes.events), [])
                    self._insert(connection, kind, batch.inserts)
        except exc.IntegrityError as error:
            raise self._conflict(kind, batch) or explain(error) from error
        except (OverflowError, exc.DataError) as error:
            raise _too_large(kind, [*batch.inserts, *(record for record, _ in batch.updates)]) from error
        except _Stale as stale:
            raise self._stale(stale) from None
        except (exc.SQLAlchemyError, OSError) as error:
            raise explain(error) from error

    def _insert(self, connection: Connection, kind: type[Any], records: Sequence[Any]) -> None:
        encode = mapping_of(kind).encode
        connection.exec_driver_sql(self._statements[kind].insert, [encode(record) for record in records])

    def _update(self, connection: Connection, kind: type[Any], updates: list[tuple[Any, int]]) -> None:
        encode = mapping_of(kind).encode
        values = []
        for record, before in updates:
            record_id, *others = encode(record)  # the id stands first in every record that has a version
            values.append((*others, record_id, before))
        if connection.exec_driver_sql(self._statements[kind].update, values).rowcount != len(updates):
            raise _Stale(kind, updates)

    def _stale(self, stale: _Stale) -> Conflict | StoreFailed:
        """Name the record whose stored version is another one (looked up after the transaction is undone)."""
        mapping = mapping_of(stale.kind)
        with self._database.read() as connection:
            for record, before in stale.updates:
                question = select(mapping.table.c.version).where(mapping.key == record.id)
                stored = connection.execute(question).scalar_one_or_none()
                if stored != before:
                    return _version_conflict(stale.kind, record.id, stored, before)
        return StoreFailed(
            "Rows were changed by somebody else while they were written.",
            next_step="End the other program that writes this database.",
        )

    def _conflict(self, kind: type[Any], batch: Batch) -> Conflict | None:
        """Name the record that is there already (looked up after the transaction is undone)."""
        mapping = mapping_of(kind)
        known = [index for index in schema.INDICES.get(kind, ()) if index.unique]
        keys = [((mapping.key.name,), ""), *((index.columns, index.where) for index in known)]
        written = [(record, False) for record in batch.inserts] + [(record, True) for record, _ in batch.updates]
        with self._database.read() as connection:
            for columns, some in keys:
                seen: set[tuple[Any, ...]] = set()
                for record, is_update in written:
                    values = tuple(getattr(record, column) for column in columns)
                    question = select(mapping.key).where(
                        *(condition(mapping, column, value) for column, value in zip(columns, values, strict=True))
                    )
                    if is_update:
                        question = question.where(mapping.key != record.id)
                    if some:  # only rows that the index holds can be in the way
                        question = question.where(text(some))
                    if (values in seen and not some) or connection.execute(question.limit(1)).first() is not None:
                        return _taken(kind, record.id, columns, values)
                    seen.add(values)
        return None

    def load(self) -> Rows[type[Any], Sequence[Any]]:
        """All rows that the loop keeps warm, by class, ordered by id."""
        warm: dict[type[Any], list[Any]] = {}
        for kind, rule in WARM.items():
            mapping = mapping_of(kind)
            question = select(mapping.table).order_by(mapping.key)
            if rule is not None:
                column, inside, values = rule
                if not inside:
                    values = _others(kind, column, values)
                # One value is compared by equality, so that the index over just these rows serves.
                question = question.where(condition(mapping, column, values[0] if len(values) == 1 else values))
            warm[kind] = self._records(mapping, question)
        return warm

    def balances(self) -> dict[tuple[str, str], int]:
        """(account, currency) -> debits minus credits in nano-units, over all transfers."""
        transfers = mapping_of(Transfer).table.c
        sides = union_all(
            *(
                select(
                    side.label("account"), transfers.currency, literal(sign), *exact_sum(transfers.amount_nano)
                ).group_by(side, transfers.currency)
                for side, sign in ((transfers.debit, 1), (transfers.credit, -1))
            )
        )
        sums: dict[tuple[str, str], int] = defaultdict(int)
        with self._database.read() as connection:
            for account, currency, sign, upper, lower in connection.execute(sides):
                sums[account, currency] += sign * joined(upper, lower)
        return dict(sorted(sums.items()))

    def last_event_seq(self) -> int:
        return self._largest(Event, "seq")

    def last_invoice(self) -> int:
        return self._largest(Invoice, "number")

    def last_transfer(self) -> Head:
        """The newest link of the chain of transfers."""
        transfers = mapping_of(Transfer).table.c
        question = select(transfers.number, transfers.chain).order_by(transfers.number.desc()).limit(1)
        question = question.where(transfers.number > 0)
        with self._database.read() as connection:
            found = connection.execute(question).first()
        return Head(*found) if found is not None else Head()

    def last_arrival(self) -> int:
        return self._largest(UsageEvent, "arrival")

    def take_in(self, events: Sequence[UsageEvent]) -> int:
        """Keep the events that are not kept yet; each has a place behind all before it. Gives how many are new.

        Only one thread at a time does so: whoever reads up to a place must have seen all before it.
        """
        mapping, statement = mapping_of(UsageEvent), self._statements[UsageEvent].insert_new
        place = mapping.names.index("arrival")
        arrival = mapping.table.c.arrival
        try:
            with self._taking_in, self._database.write() as connection:
                last = int(connection.execute(select(func.max(arrival))).scalar() or 0)
                rows = []
                for number, event in enumerate(events, last + 1):
                    values = mapping.encode(event)
                    rows.append((*values[:place], number, *values[place + 1 :]))
                if not rows:
                    return 0
                kept = connection.exec_driver_sql(statement, rows).rowcount
        except (exc.SQLAlchemyError, OSError) as error:
            raise explain(error) from error
        return int(kept)

    def put(self, rows: Sequence[Any], removed: Sequence[tuple[type[Any], str]] = ()) -> None:
        """Write rows over those of the same ids, and remove others."""
        by_kind: dict[type[Any], list[Any]] = defaultdict(list)
        for record in rows:
            by_kind[type(record)].append(record)
        try:
            with self._database.write() as connection:
                for kind, records in by_kind.items():
                    encode = mapping_of(kind).encode
                    connection.exec_driver_sql(self._statements[kind].put, [encode(record) for record in records])
                for kind, record_id in removed:
                    connection.exec_driver_sql(self._statements[kind].remove, (record_id,))
        except exc.IntegrityError as error:
            raise Conflict("There is one of that name already.", next_step="Use that one.") from error
        except (exc.SQLAlchemyError, OSError) as error:
            raise explain(error) from error

    def prune(self, kind: type[Any], limit: int, **where: object) -> int:
        """Delete at most `limit` rows; how many that were."""
        mapping = mapping_of(kind)
        some = self._filtered(mapping, select(mapping.key), dict(where)).limit(limit)
        try:
            with self._database.write() as connection:
                return int(connection.execute(delete(mapping.table).where(mapping.key.in_(some))).rowcount)
        except (exc.SQLAlchemyError, OSError) as error:
            raise explain(error) from error

    def _largest(self, kind: type[Any], column: str) -> int:
        with self._database.read() as connection:
            return int(connection.execute(select(func.max(mapping_of(kind).table.c[column]))).scalar() or 0)

    def _check_revision(self) -> None:
        """Refuse a database that this program does not know the tables of."""
        with self._database.read() as connection:
            found = stored_revision(connection)
        if found != schema.REVISION:
            raise wrong_revision(found)
