"""All tables as they were in the beginning."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

# Columns as "name:form"; a form that ends in "?" may be absent. `id` (or the sequence) is the key.
_TABLES = {
    "organizations": (
        "id:text name:text created_us:number operator:truth prepaid:truth currency:text number:number version:number"
    ),
    "projects": ("id:text organization_id:text name:text created_us:number archived:truth version:number"),
    "members": ("id:text organization_id:text name:text role:text created_us:number disabled:truth version:number"),
    "keys": (
        "id:text organization_id:text member_id:text name:text secret_sha256:text created_us:number "
        "project_id:text? scopes:text expires_us:number? revoked_us:number? version:number"
    ),
    "sessions": (
        "id:text organization_id:text member_id:text key_id:text secret_sha256:text created_us:number seen_us:number "
        "expires_us:number device:text address:text ended_us:number? reason:text version:number"
    ),
    "quotas": (
        "id:text organization_id:text scope:text scope_id:text gpu_milli:number? cpu_milli:number? "
        "memory_mib:number? jobs:number? guaranteed:text borrow:text lend:text weight:number parent_id:text "
        "kinds:text version:number"
    ),
    "fair_uses": (
        "id:text organization_id:text step:number gpu_milli:number cpu_milli:number memory_mib:number version:number"
    ),
    "budgets": (
        "id:text organization_id:text scope:text scope_id:text amount_nano:number currency:text "
        "warn_percent:number at_limit:text warned_month:text stopped_month:text removed:truth "
        "operator:truth version:number"
    ),
    "secrets": (
        "id:text organization_id:text project_id:text name:text sealed:text created_us:number deleted_us:number? "
        "version:number"
    ),
    "regions": ("id:text name:text version:number"),
    "clusters": (
        "id:text region_id:text name:text engine:text labels:text state:text reason:text unreachable_us:number? "
        "trouble:text version:number"
    ),
    "nodes": (
        "id:text cluster_id:text name:text cpu_milli:number memory_mib:number disk_mib:number state:text "
        "reason:text labels:text topology:text fake:truth taints:text taken_cpu_milli:number taken_memory_mib:number "
        "version:number"
    ),
    "accelerators": (
        "id:text node_id:text index:number kind:text vendor:text memory_mib:number uuid:text links:text "
        "healthy:truth reason:text fake:truth taken:truth version:number"
    ),
    "allocations": (
        "id:text organization_id:text project_id:text member_id:text job_id:text cluster_id:text "
        "generation:number purchase:text slices:text held_us:number state:text running_us:number? "
        "released_us:number? reason:text faulted:truth metered_us:number records:number running_metered_us:number "
        "settled:truth marks:text labels:text version:number"
    ),
    "reservations": (
        "id:text organization_id:text name:text from_us:number to_us:number project_id:text? kind:text count:number "
        "nodes:number clusters:text slices:text lacking:number state:text reason:text member_id:text "
        "created_us:number version:number"
    ),
    "jobs": (
        "id:text organization_id:text project_id:text member_id:text name:text spec:text submitted_us:number "
        "state:text reason:text parent:truth parent_id:text? array_index:number? attempt:number failures:number "
        "after:text children_failed:number not_before_us:number started_us:number? ended_us:number? "
        "exit_code:number? stop_reason:text stop_at_us:number? warned:truth ran_us:number claim:text yields_to:text "
        "yields_us:number? home:text version:number"
    ),
    "attempts": (
        "id:text job_id:text number:number allocation_id:text started_us:number running_us:number? "
        "ended_us:number? exit_code:number? outcome:text detail:text pid:number? resumed_from:text cpu_us:number "
        "memory_peak_mib:number story:number checkpoint_us:number? sampled:text version:number"
    ),
    "usage_records": (
        "id:text allocation_id:text job_id:text organization_id:text project_id:text member_id:text purchase:text "
        "region_id:text state:text from_us:number to_us:number quantities:text last:truth "
        "running_before_us:number faulted:truth labels:text late_month:text"
    ),
    "meters": (
        "id:text event_type:text aggregation:text unit:text path:text group_by:text window:text created_us:number "
        "used:truth version:number"
    ),
    "usage_events": (
        "id:text arrival:number organization_id:text project_id:text type:text at_us:number received_us:number "
        "data:text"
    ),
    "readings": (
        "id:text organization_id:text project_id:text meter:text labels:text from_us:number to_us:number value:number "
        "level:number records:number version:number"
    ),
    "intakes": ("id:text arrival:number version:number"),
    "prices": (
        "id:text meter:text unit_nano:number from_us:number to_us:number? currency:text unit:text organization_id:text "
        "region_id:text purchase:text term:text shape:text minimum_us:number tiers:text watts:number book:number "
        "paid_of_list:number version:number"
    ),
    "exchanges": ("id:text base:text quote:text rate_pico:number from_us:number source:text"),
    "contracts": (
        "id:text organization_id:text project_id:text title:text shape:text unit_nano:number from_us:number "
        "to_us:number currency:text meter:text region_id:text quantity:number unit:text upfront:truth steps:text "
        "state:text created_us:number rated_us:number version:number"
    ),
    "charges": (
        "id:text usage_id:text allocation_id:text job_id:text organization_id:text project_id:text member_id:text "
        "meter:text kind:text price_id:text quantity:number unit_nano:number amount_nano:number currency:text "
        "from_us:number to_us:number at_us:number unit:text region_id:text purchase:text pricing:text list_nano:number "
        "contracted_nano:number effective_nano:number contract_id:text tax:text fx_base:text fx_rate_pico:number "
        "fx_source:text fx_us:number labels:text late_month:text corrects:text"
    ),
    "grants": (
        "id:text organization_id:text amount_nano:number left_nano:number currency:text from_us:number "
        "expires_us:number? priority:number project_id:text meter:text paid:truth note:text open:truth version:number"
    ),
    "burns": ("id:text grant_id:text charge_id:text organization_id:text amount_nano:number at_us:number"),
    "holds": (
        "id:text organization_id:text project_id:text amount_nano:number currency:text source:text at_us:number "
        "expires_us:number stage:text posted_nano:number version:number"
    ),
    "transfers": (
        "id:text debit:text credit:text amount_nano:number currency:text at_us:number kind:text source:text "
        "organization_id:text note:text reverses:text recorded_us:number number:number chain:text"
    ),
    "invoices": (
        "id:text number:number organization_id:text month:text currency:text lines:text total_nano:number "
        "from_wallet_nano:number payable_nano:number closed_us:number kind:text corrects:text "
        "corrects_number:number reason:text net_nano:number tax_nano:number taxes:text due_us:number seller:text "
        "buyer:text"
    ),
    "closings": (
        "id:text organization_id:text month:text begin_us:number end_us:number closed_us:number invoice_id:text"
    ),
    "parties": (
        "id:text name:text street:text city:text postcode:text country:text tax_id:text registration:text email:text "
        "language:text reference:text terms_days:number iban:text bic:text bank:text phone:text version:number"
    ),
    "tax_rates": (
        "id:text applies_to:text category:text percent_milli:number from_us:number to_us:number? business:text "
        "reason:text version:number"
    ),
    "datasets": (
        "id:text organization_id:text project_id:text name:text number:number manifest:text size_bytes:number "
        "files:number created_us:number lives_in:text stays:truth"
    ),
    "replies": ("id:text fingerprint:text status:number body:text created_us:number"),
    "deciders": ("id:text term:number url:text secret:text since_us:number"),
    "series": ("id:text subject:text name:text part:text reported:truth from_us:number"),
    "series_chunks": (
        "id:text series_id:text subject:text level:number number:number at_us:text means:text lows:text highs:text "
        "counts:text steps:text"
    ),
    "experiments": ("id:text organization_id:text project_id:text name:text created_us:number"),
    "runs": (
        "id:text experiment_id:text job_id:text organization_id:text project_id:text name:text status:text "
        "started_us:number ended_us:number? params:text tags:text"
    ),
    "events": (
        "at_us:number kind:text subject:text reason:text organization_id:text project_id:text detail:text seq:sequence"
    ),
}

# (table, columns, whether a second row with the same values is refused, which rows)
_INDICES = (
    ("organizations", "name", True, ""),
    ("projects", "organization_id name", True, ""),
    ("members", "organization_id name", True, ""),
    ("keys", "organization_id id", False, ""),
    ("keys", "member_id id", False, ""),
    ("sessions", "organization_id id", False, ""),
    ("sessions", "member_id id", False, ""),
    ("sessions", "id", False, "ended_us IS NULL"),
    ("quotas", "scope scope_id", True, ""),
    ("quotas", "organization_id id", False, ""),
    ("budgets", "scope scope_id", False, ""),
    ("budgets", "organization_id id", False, ""),
    ("secrets", "project_id name", True, "deleted_us IS NULL"),
    ("secrets", "organization_id id", False, ""),
    ("regions", "name", True, ""),
    ("clusters", "name", True, ""),
    ("nodes", "cluster_id name", False, ""),
    ("accelerators", "node_id index", False, ""),
    ("allocations", "job_id id", False, ""),
    ("allocations", "organization_id id", False, ""),
    ("allocations", "id", False, "NOT settled"),
    ("reservations", "organization_id id", False, ""),
    ("reservations", "state id", False, ""),
    ("jobs", "organization_id id", False, ""),
    ("jobs", "organization_id name id", False, ""),
    ("jobs", "project_id id", False, ""),
    ("jobs", "project_id name id", False, ""),
    ("jobs", "state organization_id id", False, ""),
    ("jobs", "parent_id id", False, "parent_id IS NOT NULL"),
    ("attempts", "job_id number", False, ""),
    ("attempts", "allocation_id", False, ""),
    ("attempts", "id", False, "outcome = ''"),
    ("usage_records", "allocation_id from_us", False, ""),
    ("usage_records", "job_id id", False, ""),
    ("usage_records", "organization_id from_us", False, ""),
    ("meters", "event_type", False, ""),
    ("usage_events", "arrival", True, ""),
    ("usage_events", "organization_id type at_us", False, ""),
    ("readings", "organization_id from_us", False, ""),
    ("readings", "meter to_us", False, ""),
    ("prices", "meter from_us", False, ""),
    ("contracts", "organization_id id", False, ""),
    ("grants", "organization_id id", False, ""),
    ("grants", "id", False, "open"),
    ("burns", "grant_id", False, ""),
    ("burns", "charge_id", False, ""),
    ("holds", "organization_id id", False, ""),
    ("holds", "id", False, "stage = 'pending'"),
    ("charges", "organization_id at_us", False, ""),
    ("charges", "at_us", False, ""),
    ("charges", "job_id id", False, ""),
    ("charges", "usage_id", False, ""),
    ("transfers", "debit currency amount_nano", False, ""),
    ("transfers", "credit currency amount_nano", False, ""),
    ("transfers", "organization_id at_us", False, ""),
    ("transfers", "number", True, "number > 0"),
    ("invoices", "number", True, ""),
    ("invoices", "organization_id month", True, "kind = 'invoice' AND corrects = ''"),
    ("invoices", "organization_id id", False, ""),
    ("closings", "organization_id month", True, ""),
    ("closings", "month", False, ""),
    ("datasets", "organization_id name number", True, ""),
    ("replies", "created_us", False, ""),
    ("series", "subject id", False, ""),
    ("series_chunks", "subject id", False, ""),
    ("experiments", "project_id name", True, ""),
    ("runs", "job_id id", False, ""),
    ("events", "subject seq", False, ""),
    ("events", "organization_id seq", False, ""),
)

_APPEND_ONLY = (
    "usage_records",
    "usage_events",
    "exchanges",
    "charges",
    "burns",
    "transfers",
    "invoices",
    "closings",
    "events",
)

_FORMS: dict[str, Any] = {
    "text": sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"),
    "number": sa.BigInteger(),
    "truth": sa.Boolean(),
    "sequence": sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
}


def upgrade() -> None:
    for table, columns in _TABLES.items():
        op.create_table(table, *(_column(word) for word in columns.split()))
    for table, columns, unique, where in _INDICES:
        name = f"{'uq' if unique else 'ix'}_{table}_{columns.replace(' ', '_')}{'_some' if where else ''}"
        rows = sa.text(where) if where else None
        op.create_index(name, table, columns.split(), unique=unique, sqlite_where=rows, postgresql_where=rows)
    dialect = op.get_bind().dialect.name
    _refuse_edits(dialect)
    for statement in _CLOSED[dialect]:
        op.execute(statement)


def _column(word: str) -> sa.Column[Any]:
    name, _, form = word.partition(":")
    key = name == "id" or form == "sequence"
    return sa.Column(
        name, _FORMS[form.rstrip("?")], primary_key=key, nullable=form.endswith("?"), autoincrement=False
    )  # fmt: skip


def _refuse_edits(dialect: str) -> None:
    if dialect == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION headframe_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION '% are facts: they are only added to', TG_TABLE_NAME; END$$"
        )
    for table in _APPEND_ONLY:
        if dialect == "postgresql":
            op.execute(
                f"CREATE TRIGGER {table}_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION headframe_refuse()"
            )
            continue
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuse_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} are facts: they are only added to'); END"
            )


_CLOSED = {
    "sqlite": (
        "CREATE TRIGGER transfers_refuse_closed BEFORE INSERT ON transfers WHEN EXISTS (SELECT 1 FROM closings "
        "WHERE organization_id = NEW.organization_id AND begin_us < NEW.at_us AND NEW.at_us <= end_us) "
        "BEGIN SELECT RAISE(ABORT, 'the month is closed: date the transfer in an open one'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION headframe_refuse_closed() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF EXISTS (SELECT 1 FROM closings WHERE organization_id = NEW.organization_id "
        "AND begin_us < NEW.at_us AND NEW.at_us <= end_us) THEN "
        "RAISE EXCEPTION 'the month is closed: date the transfer in an open one'; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER transfers_refuse_closed BEFORE INSERT ON transfers "
        "FOR EACH ROW EXECUTE FUNCTION headframe_refuse_closed()",
    ),
}


def downgrade() -> None:
    """There is nothing older."""
    raise NotImplementedError("the first tables cannot be taken back; restore a backup instead")
