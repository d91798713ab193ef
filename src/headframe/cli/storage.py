"""The command about what lies on the server's disk: storage."""

from __future__ import annotations

from typing import Any

import click

from headframe.base.quantities import counted, format_span
from headframe.cli import printing
from headframe.cli.options import Session, command, common
from headframe.cli.printing import Column

PILES = (
    Column("KIND", lambda row: row["kind"], whole=True),
    Column("COUNT", lambda row: row["count"], right=True),
    Column("SIZE", lambda row: printing.size(row["bytes"]), right=True, whole=True),
    Column("KEPT FOR", lambda row: _kept(row["keep_us"]), whole=True),
    Column("DUE", lambda row: row["due"] or "", right=True),
)
DUE = (
    Column("KIND", lambda row: row["kind"], whole=True),
    Column("OF", lambda row: row["subject"], whole=True),
    Column("ORGANIZATION", lambda row: row["organization_id"]),
    Column("COUNT", lambda row: row["count"], right=True),
    Column("SIZE", lambda row: printing.size(row["bytes"]) if row["subject"] else "", right=True, whole=True),
    Column("LAST USED", lambda row: printing.moment(row["used_us"] or None)),
)
_FILES = ("outputs", "checkpoints")  # what the removal calls the files of a job
_DAY_US = 86_400_000_000


def _kept(keep_us: int | None) -> str:
    if keep_us is None:
        return "for good"
    return counted(keep_us // _DAY_US, "day") if keep_us % _DAY_US == 0 else format_span(keep_us)


@command("headframe storage", "headframe storage --prune --dry-run")
@click.option("--prune", is_flag=True, help="Remove what is due now; otherwise the server does so each hour.")
@click.option("--dry-run", is_flag=True, help="With --prune: only say what would go.")
@common
def storage(session: Session, prune: bool, dry_run: bool) -> None:
    """Show what lies on the server's disk by kind, and remove what is due."""
    if dry_run and not prune:
        raise click.UsageError("--dry-run goes with --prune.")
    found = session.client.storage()
    due: list[dict[str, Any]] = found["due"]
    if not prune:
        _show(session, found)
        return
    session.rows(due, DUE, "Nothing is due to be removed.", key="subject")
    if session.json or session.quiet:
        if not dry_run:
            session.client.prune()
        return
    if found["more"]:
        printing.note("There is more than is listed.")
    if dry_run:
        printing.note("Nothing was removed.")
    elif due:
        session.client.prune()
        printing.note(f"The server removes them: {_total(due)}.")


def _show(session: Session, found: dict[str, Any]) -> None:
    many: dict[str, int] = {}
    for one in found["due"]:
        kind = _FILES[0] if one["kind"] == "files" else one["kind"]
        many[kind] = many.get(kind, 0) + one["count"]
    rows = [{**pile, "due": many.get(pile["kind"], 0)} for pile in found["piles"]]
    if session.json:
        printing.as_json(found)
        return
    session.rows(rows, PILES, "Nothing lies there.", key="kind")
    if found["due"] and not session.quiet:
        printing.note(f"Due: {_total(found['due'])}. The server removes it within the hour.")


def _total(due: list[dict[str, Any]]) -> str:
    things = counted(sum(one["count"] for one in due), "thing")
    return f"{things}, {printing.size(sum(one['bytes'] for one in due))}"
