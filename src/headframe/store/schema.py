"""The tables, made from the record classes: one column for each field, the id as the primary key."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from sqlalchemy import DDL, BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text, event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.types import TypeEngine

from headframe.base.changes import Event
from headframe.control.records import Decider, Reply
from headframe.fleet.records import Accelerator, Allocation, Cluster, Node, Region, Reservation
from headframe.jobs.records import Attempt, Job
from headframe.ledger.records import Closing, Invoice, Party, TaxRate, Transfer
from headframe.ledger.wallets import Burn, Grant, Hold
from headframe.metering.records import Intake, Meter, Reading, UsageEvent, UsageRecord
from headframe.metrics.records import Chunk, Experiment, Run, Series
from headframe.pricing.records import Charge, Contract, Exchange, Price
from headframe.scheduling.records import FairUse
from headframe.tenants.records import Budget, Key, Member, Organization, Project, Quota, Secret, Session
from headframe.workloads.records import Dataset

REVISION = "0001"  # what migrations lead up to; a test holds it against the newest migration

TABLES: tuple[tuple[type[Any], str], ...] = (
    (Organization, "organizations"),
    (Project, "projects"),
    (Member, "members"),
    (Key, "keys"),
    (Session, "sessions"),
    (Quota, "quotas"),
    (FairUse, "fair_uses"),
    (Budget, "budgets"),
    (Secret, "secrets"),
    (Region, "regions"),
    (Cluster, "clusters"),
    (Node, "nodes"),
    (Accelerator, "accelerators"),
    (Allocation, "allocations"),
    (Reservation, "reservations"),
    (Job, "jobs"),
    (Attempt, "attempts"),
    (UsageRecord, "usage_records"),
    (Meter, "meters"),
    (UsageEvent, "usage_events"),
    (Reading, "readings"),
    (Intake, "intakes"),
    (Price, "prices"),
    (Exchange, "exchanges"),
    (Contract, "contracts"),
    (Charge, "charges"),
    (Grant, "grants"),
    (Burn, "burns"),
    (Hold, "holds"),
    (Transfer, "transfers"),
    (Invoice, "invoices"),
    (Closing, "closings"),
    (Party, "parties"),
    (TaxRate, "tax_rates"),
    (Dataset, "datasets"),
    (Reply, "replies"),
    (Decider, "deciders"),
    (Series, "series"),
    (Chunk, "series_chunks"),
    (Experiment, "experiments"),
    (Run, "runs"),
    (Event, "events"),
)

# What may only be added to, ever: enforced by triggers, so that no defect and no hand at a prompt rewrites a bill.
APPEND_ONLY: tuple[type[Any], ...] = (
    UsageRecord, UsageEvent, Exchange, Charge, Burn, Transfer, Invoice, Closing, Event,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Indexed:
    """An index. `unique` refuses a second row with the same values; `where` limits it to some rows."""

    columns: tuple[str, ...]
    unique: bool = False
    where: str = ""


def _unique(*columns: str, where: str = "") -> Indexed:
    return Indexed(columns, unique=True, where=where)


def _by(*columns: str, where: str = "") -> Indexed:
    return Indexed(columns, where=where)


INDICES: dict[type[Any], tuple[Indexed, ...]] = {
    Organization: (_unique("name"),),
    Project: (_unique("organization_id", "name"),),
    Member: (_unique("organization_id", "name"),),
    Key: (_by("organization_id", "id"), _by("member_id", "id")),
    Session: (_by("organization_id", "id"), _by("member_id", "id"), _by("id", where="ended_us IS NULL")),
    Quota: (_unique("scope", "scope_id"), _by("organization_id", "id")),
    Budget: (_by("scope", "scope_id"), _by("organization_id", "id")),
    Secret: (_unique("project_id", "name", where="deleted_us IS NULL"), _by("organization_id", "id")),
    Region: (_unique("name"),),
    Cluster: (_unique("name"),),
    Node: (_by("cluster_id", "name"),),
    Accelerator: (_by("node_id", "index"),),
    Allocation: (
        _by("job_id", "id"),
        _by("organization_id", "id"),
        _by("id", where="NOT settled"),
    ),
    Reservation: (_by("organization_id", "id"), _by("state", "id")),
    Job: (
        _by("organization_id", "id"),
        _by("organization_id", "name", "id"),
        _by("project_id", "id"),
        _by("project_id", "name", "id"),
        _by("state", "organization_id", "id"),
        _by("parent_id", "id", where="parent_id IS NOT NULL"),
    ),
    Attempt: (_by("job_id", "number"), _by("allocation_id"), _by("id", where="outcome = ''")),
    UsageRecord: (_by("allocation_id", "from_us"), _by("job_id", "id"), _by("organization_id", "from_us")),
    Meter: (_by("event_type"),),
    UsageEvent: (_unique("arrival"), _by("organization_id", "type", "at_us")),
    Reading: (_by("organization_id", "from_us"), _by("meter", "to_us")),
    Price: (_by("meter", "from_us"),),
    Contract: (_by("organization_id", "id"),),
    Grant: (_by("organization_id", "id"), _by("id", where="open")),
    Burn: (_by("grant_id"), _by("charge_id")),
    Hold: (_by("organization_id", "id"), _by("id", where="stage = 'pending'")),
    Charge: (_by("organization_id", "at_us"), _by("at_us"), _by("job_id", "id"), _by("usage_id")),
    Transfer: (
        _by("debit", "currency", "amount_nano"),  # with the amount, so that balances are summed from the index alone
        _by("credit", "currency", "amount_nano"),
        _by("organization_id", "at_us"),
        _unique("number", where="number > 0"),
    ),
    Invoice: (
        _unique("number"),
        _unique("organization_id", "month", where="kind = 'invoice' AND corrects = ''"),
        _by("organization_id", "id"),
    ),
    Closing: (_unique("organization_id", "month"), _by("month")),
    Dataset: (_unique("organization_id", "name", "number"),),
    Reply: (_by("created_us"),),
    Series: (_by("subject", "id"),),
    Chunk: (_by("subject", "id"),),
    Experiment: (_unique("project_id", "name"),),
    Run: (_by("job_id", "id"),),
    Event: (_by("subject", "seq"), _by("organization_id", "seq")),
}

# PostgreSQL sorts text by the words of a language unless told otherwise; bytes are what SQLite and Python sort by.
TEXT = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
# SQLite keeps rows in the order of an INTEGER key without a second tree beside them.
SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()


def _statement(words: str, dialect: str) -> ExecutableDDLElement:
    made: ExecutableDDLElement = DDL(words)  # type: ignore[no-untyped-call]
    return made.execute_if(dialect=dialect)


# No transfer is dated inside a month that is closed: what comes later is a correction in an open one.
_CLOSED = (
    (
        "CREATE TRIGGER transfers_refuse_closed BEFORE INSERT ON transfers WHEN EXISTS (SELECT 1 FROM closings "
        "WHERE organization_id = NEW.organization_id AND begin_us < NEW.at_us AND NEW.at_us <= end_us) "
        "BEGIN SELECT RAISE(ABORT, 'the month is closed: date the transfer in an open one'); END",
        "sqlite",
    ),
    (
        "CREATE OR REPLACE FUNCTION headframe_refuse_closed() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF EXISTS (SELECT 1 FROM closings WHERE organization_id = NEW.organization_id "
        "AND begin_us < NEW.at_us AND NEW.at_us <= end_us) THEN "
        "RAISE EXCEPTION 'the month is closed: date the transfer in an open one'; END IF; RETURN NEW; END$$",
        "postgresql",
    ),
    (
        "CREATE TRIGGER transfers_refuse_closed BEFORE INSERT ON transfers "
        "FOR EACH ROW EXECUTE FUNCTION headframe_refuse_closed()",
        "postgresql",
    ),
)


def bare_type(hint: Any) -> tuple[Any, bool]:
    """A field's type without None, and whether None is allowed."""
    if get_origin(hint) in (Union, UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        if len(parts) < len(get_args(hint)):
            return (parts[0] if len(parts) == 1 else Union[tuple(parts)]), True  # noqa: UP007
    return hint, False


def is_json(hint: Any) -> bool:
    """Whether a field of this (bare) type is kept as JSON text: all that is not a number, a truth or a text."""
    return not (isinstance(hint, type) and issubclass(hint, int | str))


def key_of(kind: type[Any]) -> str:
    """The column that identifies a row."""
    return "seq" if kind is Event else "id"


def _column(kind: type[Any], name: str, hint: Any) -> Column[Any]:
    bare, optional = bare_type(hint)
    form: TypeEngine[Any]
    if is_json(bare) or issubclass(bare, str):
        form = TEXT
    elif bare is bool:
        form = Boolean()
    elif issubclass(bare, Enum):
        raise TypeError(f"{kind.__name__}.{name}: an enumeration that is kept must be one of texts")
    else:
        form = SEQUENCE if name == "seq" else BigInteger()
    primary = name == key_of(kind)
    return Column(name, form, primary_key=primary, nullable=optional, autoincrement=False)


def _table(kind: type[Any], name: str) -> Table:
    hints = get_type_hints(kind)
    columns = [_column(kind, field.name, hints[field.name]) for field in dataclasses.fields(kind)]
    table = Table(name, metadata, *columns)
    for wanted in INDICES.get(kind, ()):
        where = text(wanted.where) if wanted.where else None
        Index(
            f"{'uq' if wanted.unique else 'ix'}_{name}_{'_'.join(wanted.columns)}{'_some' if wanted.where else ''}",
            *(table.c[column] for column in wanted.columns),
            unique=wanted.unique, sqlite_where=where, postgresql_where=where,
        )  # fmt: skip
    if kind in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            refusal = (
                f"CREATE TRIGGER {name}_refuse_{verb.lower()} BEFORE {verb} ON {name} "
                f"BEGIN SELECT RAISE(ABORT, '{name} are facts: they are only added to'); END"
            )
            event.listen(table, "after_create", _statement(refusal, "sqlite"))
        refusal = (
            f"CREATE TRIGGER {name}_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION headframe_refuse()"
        )
        event.listen(table, "after_create", _statement(refusal, "postgresql"))
    if kind is Transfer:
        for words, dialect in _CLOSED:
            event.listen(table, "after_create", _statement(words, dialect))
    return table


event.listen(
    metadata,
    "before_create",
    _statement(
        "CREATE OR REPLACE FUNCTION headframe_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION '%% are facts: they are only added to', TG_TABLE_NAME; END$$",
        "postgresql",
    ),
)

tables: dict[type[Any], Table] = {kind: _table(kind, name) for kind, name in TABLES}
