"""Commands about what is spent: what runs now and costs, what stood idle, how it would have been cheaper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from headframe.base.quantities import HOUR_US, format_span
from headframe.cli import printing
from headframe.cli.metering import usage
from headframe.cli.money import _ORGANIZATION, _money
from headframe.cli.naming import Names
from headframe.cli.options import Session, command, common, part
from headframe.cli.printing import Column

__all__ = ["cheaper", "usage"]


def _percent(value: object) -> str:
    return "" if value is None else f"{value} %"


def _gpu_hours(row: Mapping[str, Any]) -> str:
    held = row["waste"]["gpu_milli_us"]
    return f"{held / 1000 / HOUR_US:.4g}" if held else ""


def _labels(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in row["labels"].items())


@part(usage, "now", "headframe usage now", "headframe usage now --org all")
@_ORGANIZATION
@common
def running_now(session: Session, organization: str | None) -> None:
    """Print what this month has cost so far, and what each running job costs."""
    found = session.client.running_now(organization=organization)
    if session.json:
        printing.as_json(found)
        return
    known = Names(session, organization)
    jobs = (
        Column("JOB", lambda row: row["job_id"], whole=True),
        Column("NAME", lambda row: row["name"]),
        *([Column("ORGANIZATION", lambda row: known.of(row["organization_id"]))] if organization == "all" else []),
        Column("PROJECT", lambda row: known.of(row["project_id"]), spare=True),
        Column("MEMBER", lambda row: known.of(row["member_id"]), spare=True),
        Column("LABELS", _labels, spare=True),
        Column("SINCE", lambda row: printing.moment(row["since_us"])),
        Column("SO FAR", lambda row: _money(found, row["so_far_nano"]), whole=True, right=True),
        Column("AN HOUR", lambda row: _money(found, row["per_hour_nano"]), whole=True, right=True),
        Column("IN ALL", lambda row: _nothing_or_money(found, row["expected_nano"]), right=True),
    )
    if session.quiet:
        session.rows(found["jobs"], jobs, "", key="job_id")
        return
    spenders = (
        Column("SCOPE", lambda row: row["scope"], whole=True),
        Column("OF", lambda row: known.of(row["scope_id"]), whole=True),
        Column(found["month"], lambda row: _money(found, row["total_nano"]), whole=True, right=True),
        Column("NOT YET CHARGED", lambda row: _money(found, row["accrued_nano"]), right=True, spare=True),
        Column("AN HOUR", lambda row: _money(found, row["per_hour_nano"]), whole=True, right=True),
        Column("RUNNING", lambda row: row["running"] or "", right=True),
        Column("BUDGET", lambda row: _nothing_or_money(found, row["budget_nano"]), right=True),
    )
    session.rows(found["spenders"], spenders, "Nothing was spent this month.")
    if found["jobs"]:
        printing.heading("Running")
        session.rows(found["jobs"], jobs, "")
    if found["more"]:
        printing.note(f"{found['more']} further jobs run; `headframe usage --by job` tells of all.")


def _nothing_or_money(found: Mapping[str, Any], nano: object) -> str:
    return "" if nano is None else _money(found, nano)


@part(usage, "waste", "headframe usage waste", "headframe usage waste --by project --from 2026-11-01")
@click.option("--from", "start", metavar="MOMENT", help="From this date or moment; the month's first day when absent.")
@click.option("--to", "end", metavar="MOMENT", help="To this date or moment.")
@click.option("--by", type=click.Choice(("job", "project", "member")), default="job", show_default=True,
              help="What to sum by.")  # fmt: skip
@click.option("--project", metavar="NAME", help="Of one project.")
@_ORGANIZATION
@common
def waste(session: Session, start: str | None, end: str | None, by: str, **where: Any) -> None:
    """Print what was paid for and stood idle, and what would have been enough.

    IDLE is the time in which accelerators were less than 5 % busy, USED how busy they were in the mean.
    """
    found = session.client.waste(start=start, end=end, by=by, **where)
    if session.json:
        printing.as_json(found)
        return
    known = Names(session, where["organization"])
    columns = (
        Column(by.upper(), lambda row: row.get("name") or known.of(row["by"][by]), whole=True),
        *([Column("ID", lambda row: row["by"]["job"], spare=True)] if by == "job" else []),
        Column("GPU HOURS", _gpu_hours, right=True),
        Column("COST", lambda row: _money(found, row["waste"]["gpu_nano"]), right=True),
        Column("USED", lambda row: _percent(row["busy_percent"]), right=True),
        Column("IDLE", lambda row: _percent(row["idle_percent"]), right=True),
        Column("WASTED", lambda row: _money(found, row["waste"]["wasted_nano"]), whole=True, right=True),
        Column("UNUSED PROMISE", lambda row: _money(found, row["waste"]["unused_nano"]), right=True, spare=True),
        Column("NOT LOOKED AT", lambda row: _money(found, row["waste"]["unlooked_nano"]), right=True, spare=True),
    )
    session.rows([{**row, "key": row["by"][by]} for row in found["items"]], columns,
                 "Nothing was held in that time.", key="key")  # fmt: skip
    if session.quiet or not found["items"]:
        return
    advice = [(row.get("name") or row["by"][by], one) for row in found["items"] for one in row["advice"]]
    if advice:
        printing.heading("Advice")
        told = [{"of": of, **one} for of, one in advice]
        session.rows(
            told,
            (
                Column("JOB", lambda row: row["of"], whole=True),
                Column("SAVES", lambda row: _money(found, row["saves_nano"]), whole=True, right=True),
                Column("ADVICE", lambda row: row["text"], wrap=True),
            ),
            "",
        )
    total = found["total"]
    printing.note(
        f"In all {_money(found, total['wasted_nano'])} of {_money(found, total['looked_nano'])} that was looked at "
        f"went to idle time; {_money(found, total['unlooked_nano'])} was not looked at; "
        f"{_money(found, total['unused_nano'])} was promised and held by nobody."
    )


@command("headframe cheaper train-7b", "headframe cheaper train-7b --json")
@click.argument("job")
@click.option("--all", "everything", is_flag=True, help="Also the ways in which it could not have run.")
@common
def cheaper(session: Session, job: str, everything: bool) -> None:
    """Print what a job would have cost on other accelerators, reserved, or as spot, by the prices of that time."""
    found = session.client.cheaper(session.client.job(job)["id"])
    if session.json:
        printing.as_json(found)
        return
    rows = [row for row in found["options"] if everything or row["possible"]]
    columns = (
        Column("ACCELERATOR", lambda row: row["accelerator"] or "none", whole=True),
        Column("PURCHASE", _bought, whole=True),
        Column("TAKES", lambda row: format_span(row["duration_us"]), right=True),
        Column("COST", lambda row: _nothing_or_money(found, row["cost_nano"]), whole=True, right=True),
        Column("SAVES", lambda row: _nothing_or_money(found, row["saving_nano"]), whole=True, right=True),
        Column("MIND", _mind, wrap=True),
    )
    session.rows([{**row, "key": row["accelerator"]} for row in rows], columns, "It has not run.", key="key")
    if session.quiet or not rows:
        return
    hidden = len(found["options"]) - len(rows)
    if hidden:
        printing.note(f"{hidden} further ways were not possible, or had no price; --all tells why.")
    printing.note(f"The first line is how it ran; {_money(found, found['charged_nano'])} was charged for it so far.")


def _bought(row: Mapping[str, Any]) -> str:
    return f"{row['purchase']} {row['term']}".strip()


def _mind(row: Mapping[str, Any]) -> str:
    part = row["break_even_percent"]
    worth = f"worth it from {part} % of the time" if part is not None else ""
    note = row["note"] if row["cost_nano"] is not None else ""
    return "; ".join(text for text in (row["reason"], worth, note) if text)
