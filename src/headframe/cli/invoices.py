"""Commands about invoices, exports, the ledger and the audit."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from headframe.base.quantities import counted
from headframe.cli import printing
from headframe.cli.money import _ORGANIZATION, _money, _quantity
from headframe.cli.naming import Names
from headframe.cli.options import Session, command, common, confirm, group, part
from headframe.cli.printing import Column

INVOICES = (
    Column("NUMBER", lambda row: row["number"], right=True),
    Column("KIND", lambda row: row["kind"].replace("_", " "), whole=True),
    Column("MONTH", lambda row: row["month"], whole=True),
    Column("TOTAL", lambda row: _money(row, row["total_nano"]), whole=True, right=True),
    Column("PREPAID", lambda row: _money(row, row["from_wallet_nano"]), right=True),
    Column("TO PAY", lambda row: _money(row, row["payable_nano"]), whole=True, right=True),
    Column("CLOSED", lambda row: printing.moment(row["closed_us"])),
    Column("ID", lambda row: row["id"], whole=True),
)
OPEN = (
    Column("NUMBER", lambda row: row["number"], right=True),
    Column("CUSTOMER", lambda row: row["customer"], whole=True),
    Column("MONTH", lambda row: row["month"]),
    Column("TO PAY", lambda row: _money(row, row["payable_nano"]), right=True),
    Column("CREDITED", lambda row: _money(row, row["credited_nano"]), right=True, spare=True),
    Column("PAID", lambda row: _money(row, row["paid_nano"]), right=True),
    Column("OPEN", lambda row: _money(row, row["open_nano"]), whole=True, right=True),
    Column("DUE", lambda row: printing.moment(row["due_us"]), whole=True),
    Column("OVERDUE", lambda row: f"{row['overdue_days']} days" if row["overdue_days"] else ""),
)
ACCOUNTS = (
    Column("ACCOUNT", lambda row: row.get("told", row["account"]), whole=True),
    Column("BALANCE", lambda row: _money(row, row["balance_nano"]), whole=True, right=True),
)
TAX_RATES = (
    Column("FOR", lambda row: row["applies_to"], whole=True),
    Column("BUSINESS", lambda row: row["business"]),
    Column("CATEGORY", lambda row: row["category"], whole=True),
    Column("RATE", lambda row: f"{row['percent_milli'] / 1000:g} %", whole=True, right=True),
    Column("FROM", lambda row: printing.moment(row["from_us"])),
    Column("TO", lambda row: printing.moment(row["to_us"])),
    Column("REASON", lambda row: row["reason"], spare=True),
)
FIELDS = (
    "name", "street", "city", "postcode", "country", "tax_id", "registration", "email", "language", "reference",
    "iban", "bic", "bank", "phone",
)  # fmt: skip
_MONTH = click.option("--month", metavar="YYYY-MM", required=True, help="The month.")
_OUT = click.option("-o", "--out", metavar="FILE", type=click.Path(path_type=Path), help="Where to save it.")


@group(
    "headframe invoices", "headframe invoices show 17", "headframe invoices show --draft", "headframe invoices save 17"
)
def invoices() -> None:
    """Invoices, their notes, and the details on them."""


@part(invoices, "list", "headframe invoices list --org acme", "headframe invoices --draft")
@click.option("--draft", is_flag=True, help="The running month's invoice as it would be now.")
@click.option("--month", metavar="YYYY-MM", help="With --draft: another month.")
@_ORGANIZATION
@common
def list_invoices(session: Session, draft: bool, month: str | None, organization: str | None) -> None:
    """List invoices and notes, or print the draft of a month."""
    if draft:
        _show(session, session.client.draft_invoice(organization, month), "Draft of")
        return
    session.rows(session.client.invoices(organization=organization), INVOICES, "No month has been closed yet.")


@part(invoices, "show", "headframe invoices show 17")
@click.argument("invoice")
@common
def show_invoice(session: Session, invoice: str) -> None:
    """Print an invoice with its lines, by id or number."""
    row = session.client.invoice(invoice)
    _show(session, row, f"{row['kind'].replace('_', ' ').capitalize()} {row['number']},")


def _show(session: Session, row: Mapping[str, Any], title: str) -> None:
    if session.json:
        printing.as_json(row)
    else:
        _print_invoice(row, title, Names(session, row["organization_id"]))


def _print_invoice(row: Mapping[str, Any], title: str, known: Names) -> None:
    columns = (
        Column("PROJECT", lambda line: line.get("project") or known.of(line["project_id"])),
        Column("METER", lambda line: line["meter"], whole=True),
        Column("KIND", lambda line: line["kind"]),
        Column("BOUGHT", lambda line: line.get("purchase", ""), spare=True),
        Column("QUANTITY", _quantity, whole=True, right=True),
        Column("PER UNIT", lambda line: _money(row, line["unit_nano"]), right=True),
        Column("AMOUNT", lambda line: _money(row, line.get("net_nano") or line["amount_nano"]), whole=True, right=True),
    )
    printing.say(f"{title} {row['month']}, {printing.safe(known.of(row['organization_id']))}")
    if row["lines"]:
        printing.table(columns, row["lines"])
    if row.get("accrued"):
        printing.heading("Running, not yet charged")
        printing.table(columns, row["accrued"])
    printing.say()
    taxes = [
        (f"tax {each['category']} {each['percent_milli'] / 1000:g} %", _money(row, each["tax_nano"]))
        for each in row.get("taxes", ())
        if each["tax_nano"]
    ]
    printing.facts(
        [
            ("corrects", row.get("corrects", "")),
            ("reason", row.get("reason", "")),
            ("before tax", _money(row, row["net_nano"]) if taxes else ""),
            *taxes,
            ("total", _money(row, row["total_nano"])),
            ("running", _money(row, row["accrued_nano"]) if row.get("accrued_nano") else ""),
            ("from credit", _money(row, row["from_wallet_nano"]) if row["from_wallet_nano"] else ""),
            ("to pay", _money(row, row["payable_nano"])),
        ]
    )
    if row.get("invoice"):
        _print_as_billed(row["invoice"])


def _print_as_billed(row: Mapping[str, Any]) -> None:
    """What of a draft the invoice would say: lines rounded to what can be paid, and tax."""
    printing.heading("As the invoice would be now")
    taxes = [
        (f"tax {each['category']} {each['percent_milli'] / 1000:g} %", _money(row, each["tax_nano"]))
        for each in row["taxes"]
    ]
    printing.facts(
        [
            ("before tax", _money(row, row["net_nano"])), *taxes, ("total", _money(row, row["total_nano"])),
            ("from credit", _money(row, row["from_wallet_nano"]) if row["from_wallet_nano"] else ""),
            ("to pay", _money(row, row["payable_nano"])),
        ]
    )  # fmt: skip


@part(invoices, "save", "headframe invoices save 17", "headframe invoices save 17 --form xml -o 17.xml")
@click.argument("invoice")
@click.option("--form", type=click.Choice(("pdf", "xml", "csv", "json")), default="pdf", show_default=True,
              help="The PDF holds the e-invoice (XML) too.")  # fmt: skip
@_OUT
@common
def save_invoice(session: Session, invoice: str, form: str, out: Path | None) -> None:
    """Save an invoice as a file."""
    row = session.client.invoice(invoice)
    place = out or Path(f"{row['kind']}-{row['number']:06d}.{form}")
    session.client.invoice_file(row["id"], place, form)
    session.done({"id": str(place), "path": str(place)}, f"Saved {place}.")


@part(invoices, "void", "headframe invoices void 17 --reason 'wrong buyer'")
@click.argument("invoice")
@click.option("--reason", required=True, help="What the credit note says.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def void_invoice(session: Session, invoice: str, reason: str, yes: bool) -> None:
    """Take a whole invoice back by a credit note."""
    confirm(f"Void invoice {invoice}?", yes)
    row = session.client.void_invoice(session.client.invoice(invoice)["id"], reason)
    session.done(row, f"Credit note {row['number']} over {_money(row, row['total_nano'])} ({row['id']}).")


@part(invoices, "correct", "headframe invoices correct 17")
@click.argument("invoice")
@common
def correct_invoice(session: Session, invoice: str) -> None:
    """Make the notes on what came late of an invoice's month now, rather than at the next close."""
    rows = session.client.correct_invoice(session.client.invoice(invoice)["id"])
    session.rows(rows, INVOICES, "Nothing has come late.")


@part(invoices, "reissue", "headframe invoices reissue 17 --reason 'right buyer'")
@click.argument("invoice")
@click.option("--reason", required=True, help="Why it is issued again.")
@common
def reissue_invoice(session: Session, invoice: str, reason: str) -> None:
    """Issue a voided invoice again, for the buyer and by the taxes of now."""
    row = session.client.reissue_invoice(session.client.invoice(invoice)["id"], reason)
    session.done(row, f"Invoice {row['number']} over {_money(row, row['total_nano'])} ({row['id']}).")


@part(invoices, "paid", "headframe invoices paid 17", "headframe invoices paid 17 '100 EUR' --note 'bank 5 December'")
@click.argument("invoice")
@click.argument("amount", default="")
@click.option("--note", default="", help="What stands behind it, such as the bank's reference.")
@common
def pay_invoice(session: Session, invoice: str, amount: str, note: str) -> None:
    """Record that money came in for an invoice: all that is open unless told."""
    row = session.client.pay_invoice(session.client.invoice(invoice)["id"], amount, note)
    session.done(row, f"{_money(row, row['amount_nano'])} came in ({row['id']}).")


@part(invoices, "open", "headframe invoices open", "headframe invoices open --org all")
@click.option("--org", "organization", metavar="NAME", help="Another organization; all for everybody's (operator).")
@common
def open_invoices(session: Session, organization: str | None) -> None:
    """List what is yet to be paid, the longest due first."""
    rows, known = session.client.receivables(organization), Names(session)
    for row in [] if session.json else rows:
        row["customer"] = known.of(row["organization_id"])
    session.rows(rows, OPEN, "Nothing is open.")


@part(invoices, "credit", "headframe invoices credit 17 '100 EUR' --reason 'slow support'")
@click.argument("invoice")
@click.argument("amount")
@click.option("--reason", required=True, help="What the credit note says.")
@common
def credit_invoice(session: Session, invoice: str, amount: str, reason: str) -> None:
    """Give back a part of an invoice, before tax, by a credit note."""
    row = session.client.credit_invoice(session.client.invoice(invoice)["id"], amount, reason)
    session.done(row, f"Credit note {row['number']} over {_money(row, row['total_nano'])} ({row['id']}).")


def _details(function: Any) -> Any:
    for name in reversed(FIELDS):
        function = click.option(f"--{name.replace('_', '-')}", name, metavar="TEXT")(function)
    return click.option("--terms-days", type=click.IntRange(0, 365), help="How many days the buyer has to pay.")(
        function
    )


@part(invoices, "details", "headframe invoices details", "headframe invoices details --name 'Lab AG' --country DE")
@_ORGANIZATION
@_details
@common
def details(session: Session, organization: str | None, **fields: Any) -> None:
    """Print or set how an organization stands on its invoices."""
    given = {name: value for name, value in fields.items() if value is not None}
    client = session.client
    _print_party(session, client.set_billing(organization, **given) if given else client.billing(organization))


@part(invoices, "seller", "headframe invoices seller --name 'My Cloud GmbH' --country DE --tax-id DE123456788")
@_details
@common
def seller(session: Session, **fields: Any) -> None:
    """Print or set who sells, as it stands on every invoice."""
    given = {name: value for name, value in fields.items() if value is not None}
    _print_party(session, session.client.set_seller(**given) if given else session.client.seller())


def _print_party(session: Session, row: Mapping[str, Any]) -> None:
    if session.json:
        printing.as_json(row)
    else:
        printing.facts([(name.replace("_", " "), row[name]) for name in (*FIELDS, "terms_days") if row[name] != ""])


@part(invoices, "taxes", "headframe invoices taxes")
@common
def taxes(session: Session) -> None:
    """List the rules of tax."""
    session.rows(session.client.tax_rates(), TAX_RATES, "No rules: nothing is taxed.")


@part(invoices, "tax", "headframe invoices tax DE S 19", "headframe invoices tax EU AE --business yes")
@click.argument("applies_to", metavar="COUNTRY|EU|*|ORGANIZATION")
@click.argument("category", type=click.Choice(("S", "Z", "E", "AE", "K", "G", "O")))
@click.argument("percent", default="0")
@click.option("--business", type=click.Choice(("yes", "no", "*")), default="*", show_default=True,
              help="Only for buyers with (yes) or without (no) a tax number.")  # fmt: skip
@click.option("--from", "starts", metavar="MOMENT", help="When it begins to hold; now when absent.")
@click.option("--to", "ends", metavar="MOMENT", help="When it ends.")
@click.option("--reason", default="", help="What is printed where nothing is charged.")
@common
def tax(session: Session, **fields: Any) -> None:
    """Add a rule of tax; the closest one counts, and of those the latest."""
    row = session.client.set_tax_rate(**fields)
    rate = f"category {row['category']}, {row['percent_milli'] / 1000:g} %"
    session.done(row, f"{row['applies_to']}: {rate} ({row['id']}).")


@group("headframe export focus --month 2026-11", "headframe export beancount")
def export() -> None:
    """Tables and ledgers for other programs."""


@part(export, "focus", "headframe export focus --month 2026-11", "headframe export focus --month 2026-11 --form csv")
@_MONTH
@click.option("--version", type=click.Choice(("1.4", "1.2")), default="1.4", show_default=True, help="Of FOCUS.")
@click.option("--form", type=click.Choice(("parquet", "csv")), default="parquet", show_default=True, help="Of files.")
@click.option("--org", "organization", metavar="NAME", help="Another organization; all for everybody's (operator).")
@_OUT
@common
def focus(session: Session, month: str, out: Path | None, **fields: Any) -> None:
    """Save a month as FOCUS tables, in a ZIP."""
    place = out or Path(f"focus-{fields['version']}-{month}.zip")
    session.client.export_focus(month, place, **fields)
    session.done({"id": str(place), "path": str(place)}, f"Saved {place}.")


@part(export, "beancount", "headframe export beancount -o ledger.beancount && bean-check ledger.beancount")
@_OUT
@common
def beancount(session: Session, out: Path | None) -> None:
    """Save the whole ledger as beancount text."""
    place = session.client.export_beancount(out or Path("ledger.beancount"))
    session.done({"id": str(place), "path": str(place)}, f"Saved {place}.")


@part(export, "month", "headframe export month --month 2026-11")
@_MONTH
@click.option("--form", type=click.Choice(("parquet", "csv")), default="parquet", show_default=True, help="Of tables.")
@_OUT
@common
def month(session: Session, month: str, form: str, out: Path | None) -> None:
    """Save every document of a month, FOCUS tables and the ledger, in a ZIP."""
    place = session.client.export_month(month, out or Path(f"headframe-{month}.zip"), form)
    session.done({"id": str(place), "path": str(place)}, f"Saved {place}.")


@command("headframe ledger", "headframe ledger --json")
@common
def ledger(session: Session) -> None:
    """Print the trial balance: what every account holds, and that all together are nothing."""
    found = session.client.ledger()
    if session.json:
        printing.as_json(found)
        return
    known = Names(session)
    for row in found["accounts"]:
        kind, colon, rest = row["account"].partition(":")
        row["told"] = f"{kind}{colon}{known.of(rest)}"
    known = Names(session)
    for row in found["accounts"]:
        kind, _, owner = row["account"].partition(":")
        row["name"] = f"{kind}:{known.of(owner)}" if owner.startswith("org_") else row["account"]
    session.rows(found["accounts"], ACCOUNTS, "Nothing has been booked.", key="account")
    if not session.quiet:
        sums = ", ".join(_money({"currency": name}, nano) for name, nano in sorted(found["sums"].items()))
        many = counted(found["transfers"], "transfer")
        printing.note(f"In all {sums or 'nothing'}; {many}, chain {found['chain'][:16] or '-'}.")


@command("headframe audit", "headframe audit --month 2026-11", "headframe audit --data /var/lib/headframe --json")
@click.option("--data", metavar="FOLDER", envvar="HEADFRAME_DATA", help="The data folder [default: ~/.headframe].")
@click.option(
    "--store-url", metavar="URL", envvar="HEADFRAME_STORE_URL", help="PostgreSQL instead of the embedded one."
)
@click.option("--month", metavar="YYYY-MM", help="Compare the bills of this month only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(month: str | None, as_json: bool, **options: Any) -> int:
    """Recompute every bill from raw events by a second path, and print the first difference.

    It reads the store itself, also beside a running server, and changes nothing. The exit code is 1 when the books are
    not what the events say.
    """
    found: dict[str, Any] = import_module("headframe.compose").audit(options, month)
    if as_json:
        printing.as_json(found)
    else:
        printing.say(
            f"{counted(found['allocations'], 'allocation')}, {counted(found['charges'], 'charge')}, "
            f"{counted(found['transfers'], 'transfer')} and {counted(found['invoices'], 'invoice')} compared."
        )
        for text in found["differences"][:1]:
            printing.say(f"DIFFERENCE: {text}")
        more = len(found["differences"]) - 1
        printing.say(
            "The books are what the events say." if found["clean"] else f"{max(more, 0)} more differences: see --json."
        )
    sys.stdout.flush()
    return 0 if found["clean"] else 1
