"""Commands about money: prices, usage, budget, credits, invoices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from headframe.base.money import format_discount, payable
from headframe.base.quantities import format_span
from headframe.cli import printing
from headframe.cli.limits import scope_of
from headframe.cli.naming import Names
from headframe.cli.options import Session, command, common, confirm, group, part
from headframe.cli.printing import Column
from headframe.workloads import yaml_text

PRICES = (
    Column("METER", lambda row: row["meter"], whole=True),
    Column("PRICE", lambda row: printing.money(row["unit_nano"], row["currency"]), whole=True, right=True),
    Column("PER", lambda row: row["unit"], whole=True),
    Column("FOR", lambda row: row.get("customer", row["organization_id"]).replace("*", "")),
    Column("OFF LIST", lambda row: _discount(row["paid_of_list"])),
    Column("PURCHASE", lambda row: row["purchase"]),
    Column("REGION", lambda row: row["region_id"]),
    Column("FROM", lambda row: printing.moment(row["from_us"]), whole=True),
    Column("TO", lambda row: printing.moment(row["to_us"])),
    Column("SHAPE", lambda row: row["shape"], spare=True),
    Column("MINIMUM", lambda row: format_span(row["minimum_us"]), spare=True),
    Column("ID", lambda row: row["id"], spare=True),
)
LIMITS = {"warn": "is told", "block": "starts nothing", "stop": "stops jobs"}
BUDGETS = (
    Column("SCOPE", lambda row: row["budget"]["scope"]),
    Column("MONTH", lambda row: row["month"], spare=True),
    Column("BUDGET", lambda row: _money(row["budget"], row["budget"]["amount_nano"]), whole=True, right=True),
    Column("SPENT", lambda row: _money(row["budget"], row["spent_nano"]), whole=True, right=True),
    Column("RUNNING", lambda row: _money(row["budget"], row["accrued_nano"]), right=True, spare=True),
    Column("WARNS AT", lambda row: f"{row['budget']['warn_percent']} %", right=True, spare=True),
    Column("AT THE LIMIT", lambda row: LIMITS[row["budget"]["at_limit"]]),
)
GRANTS = (
    Column("AMOUNT", lambda row: _money(row, row["amount_nano"]), whole=True, right=True),
    Column("LEFT", lambda row: _money(row, row["left_nano"]), whole=True, right=True),
    Column("PAID", lambda row: "paid in" if row["paid"] else "given"),
    Column("PROJECT", lambda row: row["project_id"]),
    Column("METER", lambda row: row["meter"]),
    Column("PRIORITY", lambda row: row["priority"], right=True, spare=True),
    Column("EXPIRES", lambda row: printing.moment(row["expires_us"])),
    Column("NOTE", lambda row: row["note"], spare=True),
    Column("ID", lambda row: row["id"], whole=True),
)
HOLDS = (
    Column("HELD", lambda row: _money(row, row["amount_nano"]), whole=True, right=True),
    Column("STAGE", lambda row: row["stage"], whole=True),
    Column("CHARGED", lambda row: _money(row, row["posted_nano"]), right=True),
    Column("FOR", lambda row: row["source"]),
    Column("UNTIL", lambda row: printing.moment(row["expires_us"])),
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


def _discount(paid: int) -> str:
    """`80 % off`, or `2折` where the terminal speaks Chinese."""
    language = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "en")
    return format_discount(paid, language=language) if paid else ""


@group("headframe prices", "headframe prices set gpu:H100 '2.50 USD'")
def prices() -> None:
    """The price book."""


@part(prices, "list", "headframe prices list --json")
@common
def list_prices(session: Session) -> None:
    """List prices past, present and to come."""
    rows, known = session.client.prices(), Names(session)
    for row in [] if session.json else rows:
        row["customer"] = known.of(row["organization_id"])
    session.rows(rows, PRICES, "No prices: use is free.")


@part(
    prices, "set", "headframe prices set gpu:H100 '2.50 USD' --from 2026-12-01",
    "headframe prices set gpu:H100 '20 % off' --org acme",
    "headframe prices set tokens:input '0.60 USD' --unit million",
    "headframe prices set gpu:H100 --tier '1000:3 USD' --tier '2.40 USD' --shape graduated",
)  # fmt: skip
@click.argument("meter")
@click.argument("amount", default="")
@click.option("--unit", default="", help="What the amount is for, such as GiB-month or million.")
@click.option("--region", default="*", show_default=True, help="For one region only.")
@click.option("--purchase", default="*", show_default=True, help="For on-demand, reserved or spot only.")
@click.option("--org", "organization", metavar="NAME", help="For one customer; the amount may then be a discount.")
@click.option("--term", default="", help="For contracts of this length only, such as 1y.")
@click.option("--shape", help="hourly, spot, power, storage, tokens, each, graduated or volume.")
@click.option("--tier", "tiers", multiple=True, metavar="UNITS:AMOUNT", help="Up to so many units; last an amount.")
@click.option("--watts", type=int, default=0, help="What a unit draws, for the shape power.")
@click.option("--from", "starts", metavar="MOMENT", help="When it begins to hold; now when absent.")
@click.option("--to", "ends", metavar="MOMENT", help="When it ends.")
@click.option("--minimum", default="60s", show_default=True, help="The least running time charged.")
@click.option("--back-dated", is_flag=True, help="It may begin in the past: what was charged is corrected.")
@common
def set_price(session: Session, tiers: tuple[str, ...], **fields: Any) -> None:
    """Set what one of gpu:KIND, gpu:*, cpu, memory, disk, electricity or of a meter of events costs."""
    row = session.client.set_price(tiers=[_tier(text) for text in tiers], **fields)
    off = f", {_discount(row['paid_of_list'])}" if row["paid_of_list"] else ""
    span = f" from {printing.moment(row['from_us'])}" + (f" to {printing.moment(row['to_us'])}" if row["to_us"] else "")
    price = f"{_money(row, row['unit_nano'])} per {row['unit']}{off}"
    session.done(row, f"{row['meter']} costs {price}{span} ({row['id']}).")


def _payable(row: Mapping[str, Any], nano: int) -> str:
    return _money(row, payable(nano, row["currency"]))


def _change(row: Mapping[str, Any]) -> str:
    change, before = row["rated_nano"] - row["charged_nano"], row["charged_nano"]
    percent = f" ({100 * change / before:+.1f} %)" if change and before else ""
    return f"{_payable(row, change)}{percent}"


BILLS = (
    Column("CUSTOMER", lambda row: row["customer"], whole=True),
    Column("CHARGED", lambda row: _money(row, row["charged_nano"]), right=True, spare=True),
    Column("WAS", lambda row: _payable(row, row["charged_nano"]), whole=True, right=True),
    Column("WOULD BE", lambda row: _payable(row, row["rated_nano"]), whole=True, right=True),
    Column("CHANGE", _change, whole=True, right=True),
    Column("WITH TAX", lambda row: _payable(row, row["total_nano"]), right=True),
)


@part(
    prices, "preview", "headframe prices preview --month 2026-11", "headframe prices preview new.yaml --month 2026-11"
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--month", metavar="YYYY-MM", required=True, help="The month whose use is rated.")
@_ORGANIZATION
@common
def preview(session: Session, file: Path | None, month: str, organization: str | None) -> None:
    """What all customers' bills of a month would have been under the prices of a file, beside what was charged.

    The file is YAML: a list `prices`, each with meter and amount and whatever `prices set` knows (unit, region,
    purchase, organization, shape, tiers, watts, starts, ends, minimum). Without a file: under the prices as they are.
    """
    told = [] if file is None else _read_prices(file)
    rows = session.client.preview_prices(month, told, organization=organization)
    known = Names(session, organization)
    for row in rows:
        row["customer"] = known.of(row["organization_id"])
    session.rows(rows, BILLS, f"Nothing was used in {month}.", key="organization_id")


def _read_prices(file: Path) -> list[dict[str, Any]]:
    try:
        told, _ = yaml_text.read(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, OSError) as error:
        raise click.UsageError(f"{file} cannot be read: {error}") from None
    rows = told.get("prices")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise click.UsageError(f"{file} has no list `prices`, such as: prices: [{{meter: gpu:H100, amount: 2.50 USD}}]")
    return [
        {name: str(value) if name == "amount" else value for name, value in row.items() if value is not None}
        for row in rows
    ]


def _tier(text: str) -> tuple[int | None, str]:
    """`1000:3 USD` is up to a thousand; an amount alone is without end."""
    bound, colon, amount = text.partition(":")
    if not colon:
        return None, text
    if not bound.strip().isdecimal():
        raise click.UsageError(f"--tier {text!r}: write UNITS:AMOUNT, such as '1000:3 USD'.")
    return int(bound), amount


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
    """`1.5 GPU hours`: what is held counts in thousandths, or MiB, times seconds; what is kept in MiB times seconds."""
    value, meter = row["quantity"], row.get("meter")
    if value is None or not meter or row.get("kind") in ("fee", "credit", "goodwill"):
        return ""
    match meter.partition(":")[0]:
        case "memory" | "disk":
            return f"{value / 1024 / 3600:.6g} GiB hours"
        case "gpu" | "cpu" as base:
            return f"{value / 1000 / 3600:.6g} {base.upper()} hours"
        case "storage":
            return f"{value / 1024 / 3600 / 730:.6g} GiB months"
    return f"{value:,}"


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
@click.option("--at-limit", type=click.Choice(tuple(LIMITS)), default="stop", show_default=True,
              help="Only tell it, start nothing new, or stop jobs, too.")  # fmt: skip
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


@part(credits, "list", "headframe credits list --org acme")
@_ORGANIZATION
@common
def list_grants(session: Session, organization: str | None) -> None:
    """List what was granted, and what is left of it."""
    session.rows(session.client.grants(organization=organization), GRANTS, "No credit was granted.")


@part(credits, "add", "headframe credits add acme '1000 USD' --note 'order 17'",
      "headframe credits add acme '50 USD' --given --expires 2027-01-01 --meter 'gpu:*'")  # fmt: skip
@click.argument("organization")
@click.argument("amount")
@click.option("--given", is_flag=True, help="A gift of the house, not paid in.")
@click.option("--note", default="", help="What stands behind it, such as an order.")
@click.option("--project", metavar="NAME", help="For one project only.")
@click.option("--meter", default="*", help="For one meter only, such as gpu:H100 or gpu:*.")
@click.option("--priority", type=click.IntRange(0, 100), default=50, show_default=True, help="The smaller goes first.")
@click.option("--from", "starts", metavar="MOMENT", help="When it begins to count; now when absent.")
@click.option("--expires", metavar="MOMENT", help="When what is left of it is taken back.")
@common
def add_credit(session: Session, organization: str, amount: str, note: str, **fields: Any) -> None:
    """Add credit to an organization."""
    row = session.client.add_credit(organization, amount, note, **fields)
    session.done(row, f"Added {_money(row, row['amount_nano'])} ({row['id']}).")


@part(credits, "holds", "headframe credits holds --org acme")
@_ORGANIZATION
@common
def list_holds(session: Session, organization: str | None) -> None:
    """List what is held back of the credit, and what became of it."""
    session.rows(session.client.holds(organization=organization), HOLDS, "Nothing is held back.")


@part(credits, "hold", "headframe credits hold default '20 USD' --source order-17 --for 2h")
@click.argument("project")
@click.argument("amount")
@click.option("--source", required=True, help="What it is for.")
@click.option("--for", "lasts", default="1h", show_default=True, help="When it is let go by itself.")
@_ORGANIZATION
@common
def place_hold(session: Session, **fields: Any) -> None:
    """Set credit aside, so that nobody else may use it."""
    row = session.client.place_hold(**fields)
    session.done(row, f"{_money(row, row['amount_nano'])} is set aside ({row['id']}).")


@part(credits, "post", "headframe credits post hold_1 '12.50 USD' --meter tokens:output")
@click.argument("hold")
@click.argument("amount")
@click.option("--meter", required=True, help="What it is charged for.")
@common
def post_hold(session: Session, hold: str, amount: str, meter: str) -> None:
    """Charge up to what is held; the rest is free again."""
    row = session.client.post_hold(hold, amount, meter)
    session.done(row, f"{_money(row, row['posted_nano'])} was charged.")


@part(credits, "void", "headframe credits void hold_1")
@click.argument("hold")
@common
def void_hold(session: Session, hold: str) -> None:
    """Let what is held go."""
    row = session.client.void_hold(hold)
    session.done(row, f"{_money(row, row['amount_nano'])} is free again.")
