"""The command `queue`: who waits in which order and why, and what owners hold of what they may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from headframe.cli import printing
from headframe.cli.options import Session, command, common
from headframe.cli.printing import Column

LINE = (
    Column("PLACE", lambda row: row["place"], right=True),
    Column("JOB", lambda row: row["job_id"], whole=True),
    Column("NAME", lambda row: row["name"]),
    Column("ASKS FOR", lambda row: row["asks"], whole=True),
    Column("CLASS", lambda row: row["purchase"]),
    Column("PRIORITY", lambda row: row["priority"], right=True),
    Column("WHOSE", lambda row: f"{row['organization']} / {row['project']}", spare=True),
    Column("SINCE", lambda row: printing.moment(row["submitted_us"]), spare=True),
    Column("WHY", lambda row: row["reason"]),
)
OWNERS = (
    Column("OWNER", lambda row: row["name"], whole=True),
    Column("SCOPE", lambda row: row["scope"]),
    Column("SHARE", lambda row: "" if row["share_ppm"] is None else f"{row['share_ppm'] / 10_000:.1f} %", right=True),
    Column("WEIGHT", lambda row: printing.milli(row["weight_milli"]), right=True),
    Column("GPUS HELD", lambda row: _of(row, "gpu_milli"), right=True),
    Column("GUARANTEED", lambda row: _amount(row["guaranteed"].get("gpu_milli")), right=True),
    Column("RUNNING", lambda row: row["running"] or "", right=True),
    Column("WAITING", lambda row: row["waiting"] or "", right=True),
)


def _amount(value: int | None) -> str:
    return "" if value is None else printing.milli(value)


def _of(row: Mapping[str, Any], meter: str) -> str:
    """`12 of 64`, or `12` where nothing bounds it."""
    held, limit = printing.milli(row["held"].get(meter, 0)), row["limits"].get(meter)
    return held if limit is None else f"{held} of {printing.milli(limit)}"


@command("headframe queue", "headframe queue --org acme --shares")
@click.option("--org", "organization", metavar="NAME", help="Only this organization's.")
@click.option("--shares", is_flag=True, help="Owners with their shares and limits instead of jobs.")
@common
def queue(session: Session, organization: str | None, shares: bool) -> None:
    """List who waits for capacity, in the order of their turns.

    `headframe show JOB` tells with numbers why one waits, and when it is expected to start.
    """
    found = session.client.queue(organization=organization)
    if session.json:
        printing.as_json(found)
        return
    if shares:
        session.rows(found["owners"], OWNERS, "Nobody.")
        return
    session.rows(found["items"], LINE, "Nobody waits.", key="job_id")
    hidden = found["total"] - len(found["items"])
    if hidden and not session.quiet:
        printing.note(f"{hidden} more wait that are not shown here.")
