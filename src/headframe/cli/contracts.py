"""Commands about what is agreed: contracts with customers, exchange rates."""

from __future__ import annotations

from typing import Any

import click

from headframe.cli import printing
from headframe.cli.money import _ORGANIZATION, _money
from headframe.cli.options import Session, common, confirm, group, part
from headframe.cli.printing import Column

CONTRACTS = (
    Column("TITLE", lambda row: row["title"], whole=True),
    Column("SHAPE", lambda row: row["shape"], whole=True),
    Column("STATE", lambda row: row["state"], whole=True),
    Column("COVERS", lambda row: f"{row['quantity'] / 1000:g} {row['meter']}" if row["quantity"] else ""),
    Column("AMOUNT", lambda row: _money(row, row["unit_nano"]), right=True),
    Column("PER", lambda row: row["unit"] or {"monthly": "month"}.get(row["shape"], "")),
    Column("FROM", lambda row: printing.moment(row["from_us"])),
    Column("TO", lambda row: printing.moment(row["to_us"])),
    Column("ID", lambda row: row["id"], whole=True),
)
RATES = (
    Column("FROM", lambda row: row["base"], whole=True),
    Column("TO", lambda row: row["quote"], whole=True),
    Column("RATE", lambda row: f"{row['rate_pico'] / 10**12:g}", whole=True, right=True),
    Column("SINCE", lambda row: printing.moment(row["from_us"])),
    Column("SOURCE", lambda row: row["source"]),
    Column("ID", lambda row: row["id"], spare=True),
)


@group("headframe contracts", "headframe contracts agree acme once 'Setting up' --amount '900 USD' --ends 2027-12-01")
def contracts() -> None:
    """What customers are bound to pay, used or not, and what that covers."""


@part(contracts, "list", "headframe contracts list --org acme")
@_ORGANIZATION
@common
def list_contracts(session: Session, organization: str | None) -> None:
    """List contracts."""
    session.rows(session.client.contracts(organization=organization), CONTRACTS, "There is no contract.")


@part(
    contracts, "agree",
    "headframe contracts agree acme reserved 'Eight H100' --covers gpu:H100:8 --amount '2 USD' --ends 2027-12-01",
    "headframe contracts agree acme monthly Support --amount '500 USD' --ends 2027-12-01",
    "headframe contracts agree acme sla 'Uptime' --step 99.9:10 --step 99:25 --ends 2027-12-01",
)  # fmt: skip
@click.argument("organization")
@click.argument("shape", type=click.Choice(("reserved", "monthly", "once", "sla")))
@click.argument("title")
@click.option("--amount", default="", help="Per unit and hour when reserved, per month, or once.")
@click.option("--covers", metavar="METER:NUMBER", help="What may be used for it at every moment, such as gpu:H100:8.")
@click.option("--term", default="", help="Take the price of the book for this term instead of an amount.")
@click.option("--starts", metavar="MOMENT", help="Now, or at the next full hour, when absent.")
@click.option("--ends", metavar="MOMENT", required=True, help="When it is over.")
@click.option("--region", default="*", show_default=True, help="Where it covers use.")
@click.option("--project", metavar="NAME", help="The project that its fee is charged to.")
@click.option("--upfront", is_flag=True, help="All of it is paid at the beginning.")
@click.option("--step", "steps", multiple=True, metavar="PERCENT:CREDIT",
              help="Of an SLA: below so much availability so many per cent come back.")  # fmt: skip
@common
def agree(session: Session, covers: str | None, steps: tuple[str, ...], **fields: Any) -> None:
    """Agree on a contract with an organization."""
    meter, _, quantity = (covers or "").rpartition(":")
    row = session.client.agree(meter=meter, quantity=quantity, steps=[_step(text) for text in steps], **fields)
    session.done(row, f"{row['title']} is agreed ({row['id']}).")


def _step(text: str) -> tuple[int, int]:
    """`99.9:10` is ten per cent below an availability of 999,000 millionths."""
    below, _, percent = text.partition(":")
    whole, _, part_of = below.strip().partition(".")
    if not (whole + part_of + percent).isdecimal() or not percent or len(part_of) > 4:
        raise click.UsageError(f"--step {text!r}: write PERCENT:CREDIT, such as 99.9:10.")
    return int(whole) * 10_000 + int(part_of.ljust(4, "0")), int(percent)


@part(contracts, "end", "headframe contracts end con_1 --ends 2027-01-01")
@click.argument("contract")
@click.option("--ends", metavar="MOMENT", help="The next full hour when absent.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def end_contract(session: Session, contract: str, ends: str | None, yes: bool) -> None:
    """End a contract early."""
    confirm(f"End {contract}?", yes)
    row = session.client.end_contract(contract, ends)
    session.done(row, f"{row['title']} ends at {printing.moment(row['to_us'])}.")


@group("headframe rates", "headframe rates set USD EUR 0.92 --source ECB")
def rates() -> None:
    """Exchange rates, for customers who are billed in another currency than the prices are in."""


@part(rates, "list", "headframe rates list")
@common
def list_rates(session: Session) -> None:
    """List exchange rates."""
    session.rows(session.client.exchange_rates(), RATES, "There are no rates.")


@part(rates, "set", "headframe rates set USD EUR 0.92 --source ECB --from 2026-12-01")
@click.argument("base")
@click.argument("quote")
@click.argument("rate")
@click.option("--source", required=True, help="Where the rate is from.")
@click.option("--from", "starts", metavar="MOMENT", help="When it begins to hold; now when absent.")
@common
def set_rate(session: Session, **fields: Any) -> None:
    """Set what one unit of BASE is in QUOTE."""
    row = session.client.set_exchange_rate(**fields)
    session.done(row, f"1 {row['base']} is {fields['rate']} {row['quote']} ({row['source']}).")
