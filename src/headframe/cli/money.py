"""Commands about money: prices, usage, budget, credits, invoices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from headframe.base.quantities import format_span
from headframe.cli import printing
from headframe.cli.limits import scope_of
from headframe.cli.naming import Names
from headframe.cli.options import Session, command, common, confirm, group, part
from headframe.cli.printing import Column

PRICES = (
    Column("METER", lambda row: row["meter"], whole=True),
    Column("PER HOUR", lambda row: printing.money(row["unit_nano"], row["currency"]), whole=True, right=True),
    Column("PURCHASE", lambda row: row["purchase"]),
    Column("REGION", lambda row: row["region_id"]),
    Column("FROM", lambda row: printing.moment(row["from_us"]), whole=True),
    Column("TO", lambda row: printing.moment(row["to_us"])),
    Column("MINIMUM", lambda row: format_span(row["minimum_us"])),
    Column("ID", lambda row: row["id"], spare=True),
)
BUDGETS = (
    Column("SCOPE", lambda row: row["budget"]["scope"]),
    Column("MONTH", lambda row: row["month"], spare=True),
    Column("BUDGET", lambda row: _money(row["budget"], row["budget"]["amount_nano"]), whole=True, right=True),
    Column("SPENT", lambda row: _money(row["budget"], row["spent_nano"]), whole=True, right=True),
    Column("RUNNING", lambda row: _money(row["budget"], row["accrued_nano"]), right=True, spare=True),
    Column("WARNS AT", lambda row: f"{row['budget']['warn_percent']} %", right=True, spare=True),
    Column("AT THE LIMIT", lambda row: "stops jobs" if row["budget"]["stops"] else "goes on"),
)
INVOICES = (
    Column("NUMBER", lambda row: row["number"], right=True),
    Column("MONTH", lambda row: row["month"], whole=True),
    Column("TOTAL", lambda row: _money(row, row["total_nano"]), whole=True, right=True),
    Column("PREPAID", lambda row: _money(row, row["from_wallet_nano"]), right=True),
    Column("TO PAY", lambda row: _money(row, row["payable_nano"]), whole=True, right=True),
    Column("CLOSED", lambda row: printing.moment(row["closed_us"])),
    Column("ID", lambda row: row["id"], whole=True),
)
CHARGES = (
    Column("JOB", lambda row: row["job_id"], whole=True),
    Column("METER", lambda row: row["meter"], whole=True),
    Column("KIND", lambda row: row["kind"], whole=True),
    Column("QUANTITY", lambda row: row["quantity"], whole=True, right=True, spare=True),
    Column("PER HOUR", lambda row: _money(row, row["unit_nano"]), right=True, spare=True),
    Column("AMOUNT", lambda row: _money(row, row["amount_nano"]), whole=True, right=True),
)
_ORGANIZATION = click.option("--org", "organization", metavar="NAME", help="The organization, when it is not your own.")


def _money(row: Mapping[str, Any], nano: object) -> str:
    return printing.money(nano, row.get("currency", "USD"))


@group("headframe prices", "headframe prices set gpu:H100 '2.50 USD'")
def prices() -> None:
    """The price book."""


@part(prices, "list", "headframe prices list --json")
@common
def list_prices(session: Session) -> None:
    """List prices past, present and to come."""
    session.rows(session.client.prices(), PRICES, "No prices: use is free.")


@part(prices, "set", "headframe prices set gpu:H100 '2.50 USD' --from 2026-12-01")
@click.argument("meter")
@click.argument("amount")
@click.option("--region", default="*", show_default=True, help="For one region only.")
@click.option("--purchase", default="*", show_default=True, help="For on-demand, reserved or spot only.")
@click.option("--from", "starts", metavar="MOMENT", help="When it begins to hold; now when absent.")
@click.option("--to", "ends", metavar="MOMENT", help="When it ends.")
@click.option("--minimum", default="60s", show_default=True, help="The least running time charged.")
@common
def set_price(session: Session, **fields: Any) -> None:
    """Set what an hour of gpu:KIND, gpu:*, cpu (a core), memory or disk (a GiB) costs."""
    row = session.client.set_price(**fields)
    session.done(row, f"{row['meter']} costs {_money(row, row['per_hour_nano'])} an hour ({row['id']}).")


@command("headframe usage", "headframe usage --from 2026-11-01 --by project,member,meter")
@click.option("--from", "start", metavar="MOMENT", help="From this date or moment; the month's first day when absent.")
@click.option("--to", "end", metavar="MOMENT", help="To this date or moment.")
@click.option("--by", default="project,meter", show_default=True, help="What to sum by.")
@_ORGANIZATION
@common
def usage(session: Session, start: str | None, end: str | None, by: str, organization: str | None) -> None:
    """Print use and what it cost."""
    found = session.client.usage(start=start, end=end, by=by, organization=organization)
    if session.json:
        printing.as_json(found)
        return
    names = [name.strip() for name in by.split(",") if name.strip()]
    known = Names(session, None if organization == "all" else organization)
    columns = [Column(name.upper(), _named(known, name)) for name in names]
    columns += [
        Column("QUANTITY", _quantity, right=True),
        Column("COST", lambda row: _money(found, row["amount_nano"]), whole=True, right=True),
    ]
    rows = [{**row["by"], **row} for row in found["items"]]
    session.rows(rows, columns, "Nothing was charged in that time.", key=names[0])
    if not session.quiet:
        total = sum(row["amount_nano"] for row in found["items"])
        printing.note(
            f"In all {_money(found, total)}; running and not yet charged {_money(found, found['accrued_nano'])}."
        )


def _named(known: Names, column: str) -> Callable[[Mapping[str, Any]], object]:
    return lambda row: known.of(row[column])


@command("headframe charges train-7b", "headframe charges --json")
@click.argument("job", required=False)
@_ORGANIZATION
@common
def charges(session: Session, job: str | None, organization: str | None) -> None:
    """Print each charge, of one job or of all: what the invoice sums.

    QUANTITY is thousandths (gpu, cpu) or MiB (memory, disk) times microseconds.
    """
    found = session.client.job(job) if job else None
    rows = session.client.charges(found["id"] if found else None, organization=organization)
    # An array and a schedule are charged for by their jobs.
    one = found is not None and not found.get("parent")
    session.rows(rows, CHARGES[1:] if one else CHARGES, "Nothing was charged.")


def _quantity(row: Mapping[str, Any]) -> str:
    """`1.5 GPU hours`: quantities are thousandths, or MiB, times seconds."""
    value, meter = row["quantity"], row.get("meter")
    if value is None or not meter:
        return ""
    base, _, _ = meter.partition(":")
    unit, name = (1024, "GiB hours") if base in ("memory", "disk") else (1000, f"{base.upper()} hours")
    return f"{value / unit / 3600:.6g} {name}"


@group("headframe budget", "headframe budget set '500 USD' --project research")
def budget() -> None:
    """Budgets: the most that may be spent in a month."""


@part(budget, "list", "headframe budget list")
@_ORGANIZATION
@common
def list_budgets(session: Session, organization: str | None) -> None:
    """List budgets and what is spent of them."""
    rows = session.client.budgets(organization=organization)
    if session.quiet:
        rows = [row["budget"] for row in rows]
    known = Names(session, organization)
    columns = (BUDGETS[0], Column("OF", lambda row: known.of(row["budget"]["scope_id"]), whole=True), *BUDGETS[1:])
    session.rows(rows, columns, "No budgets. Set one: headframe budget set '500 USD'")


@part(budget, "set", "headframe budget set '500 USD' --project research --warn 90")
@click.argument("amount")
@click.option(
    "--org", "organization", metavar="NAME", help="Limit this organization, or its project or member that is named."
)
@click.option("--project", metavar="NAME", help="Limit this project.")
@click.option("--member", metavar="NAME", help="Limit this member.")
@click.option("--warn", "warn_percent", type=click.IntRange(1, 100), default=80, show_default=True,
              help="Warn at so many per cent.")  # fmt: skip
@click.option("--stop/--go-on", "stops", default=True, show_default=True, help="Whether jobs are stopped at the limit.")
@common
def set_budget(
    session: Session, amount: str, organization: str | None, project: str | None, member: str | None, **fields: Any
) -> None:
    """Set what an organization, project or member may spend in a month."""
    row = session.client.set_budget(amount=amount, **scope_of(session, organization, project, member), **fields)
    whose = f"{row['scope']} {printing.safe(project or member or organization or Names(session).of(row['scope_id']))}"
    session.done(row, f"The budget of {whose} is {_money(row, row['amount_nano'])} a month.")


@part(budget, "remove", "headframe budget remove --project research")
@click.option("--org", "organization", metavar="NAME", help="That of this organization, or of its project or member.")
@click.option("--project", metavar="NAME", help="That of this project.")
@click.option("--member", metavar="NAME", help="That of this member.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common
def remove_budget(
    session: Session, organization: str | None, project: str | None, member: str | None, yes: bool
) -> None:
    """Take a budget away: nothing limits any more what is spent in a month."""
    whose = scope_of(session, organization, project, member)
    confirm(f"Remove the budget of {project or member or organization or 'this organization'}?", yes)
    row = session.client.remove_budget(**whose)
    session.done(row, f"Removed the budget of {row['scope']} {printing.safe(Names(session).of(row['scope_id']))}.")


@group("headframe credits", "headframe credits add acme '1000 USD' --note 'order 17'")
def credits() -> None:
    """Prepaid credit, and how an organization stands."""


@part(credits, "show", "headframe credits show")
@_ORGANIZATION
@common
def show_balance(session: Session, organization: str | None) -> None:
    """Print credit left, what is owed, and what this month has cost."""
    found = session.client.balance(organization=organization)
    if session.json or session.quiet:
        session.done(found, "", key="organization_id")
        return
    printing.facts(
        [
            ("organization", Names(session).of(found["organization_id"])),
            ("pays", "in advance" if found["prepaid"] else "by invoice"),
            ("credit left", _money(found, found["credit_nano"])),
            ("owed", _money(found, found["owed_nano"])),
            (f"charged in {found['month']}", _money(found, found["month_nano"])),
            ("running, not yet charged", _money(found, found["accrued_nano"])),
        ]
    )


@part(credits, "add", "headframe credits add acme '1000 USD' --note 'order 17'")
@click.argument("organization")
@click.argument("amount")
@click.option("--given", is_flag=True, help="A gift of the house, not paid in.")
@click.option("--note", default="", help="What stands behind it, such as an order.")
@common
def add_credit(session: Session, organization: str, amount: str, given: bool, note: str) -> None:
    """Add credit to an organization."""
    row = session.client.add_credit(organization, amount, note, given=given)
    session.done(row, f"Added {_money(row, row['amount_nano'])} ({row['id']}).")


@command("headframe invoices", "headframe invoices --draft", "headframe invoices inv_1")
@click.argument("invoice", required=False)
@click.option("--draft", is_flag=True, help="The running month's invoice as it would be now.")
@click.option("--month", metavar="YYYY-MM", help="With --draft: another month.")
@_ORGANIZATION
@common
def invoices(session: Session, invoice: str | None, draft: bool, month: str | None, organization: str | None) -> None:
    """List invoices, or print one with its lines."""
    if draft and invoice:
        raise click.UsageError("Name an invoice, or ask for the --draft.")
    if not draft and not invoice:
        session.rows(session.client.invoices(organization=organization), INVOICES, "No month has been closed yet.")
        return
    client = session.client
    row = client.draft_invoice(organization, month) if draft else client.invoice(str(invoice))
    if session.json:
        printing.as_json(row)
    else:
        known = Names(session, row["organization_id"])
        _print_invoice(row, "Draft of" if draft else f"Invoice {row['number']},", known)


def _print_invoice(row: Mapping[str, Any], title: str, known: Names) -> None:
    columns = (
        Column("PROJECT", lambda line: known.of(line["project_id"])),
        Column("METER", lambda line: line["meter"], whole=True),
        Column("KIND", lambda line: line["kind"]),
        Column("QUANTITY", _quantity, whole=True, right=True),
        Column("PER HOUR", lambda line: _money(row, line["unit_nano"]), right=True),
        Column("AMOUNT", lambda line: _money(row, line["amount_nano"]), whole=True, right=True),
    )
    printing.say(f"{title} {row['month']}, {printing.safe(known.of(row['organization_id']))}")
    if row["lines"]:
        printing.table(columns, row["lines"])
    if row.get("accrued"):
        printing.heading("Running, not yet charged")
        printing.table(columns, row["accrued"])
    printing.say()
    printing.facts(
        [
            ("total", _money(row, row["total_nano"])),
            ("running", _money(row, row["accrued_nano"]) if row.get("accrued_nano") else ""),
            ("from credit", _money(row, row["from_wallet_nano"]) if row["from_wallet_nano"] else ""),
            ("to pay", _money(row, row["payable_nano"])),
        ]
    )
