"""The commands that play examples: a worked month, and a lively cloud to look at. They need no server."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from headframe.base.quantities import counted
from headframe.cli import printing
from headframe.cli.options import group, part
from headframe.cli.printing import Column
from headframe.settings import DEFAULT_PORT

INVOICES = (
    Column("NUMBER", lambda row: f"{row['number']:06d}", whole=True),
    Column("KIND", lambda row: row["kind"].replace("_", " "), whole=True),
    Column("FOR", lambda row: row["buyer"], whole=True),
    Column("BEFORE TAX", lambda row: printing.money(row["net_nano"], row["currency"]), whole=True, right=True),
    Column("TAX", lambda row: printing.money(row["tax_nano"], row["currency"]), whole=True, right=True),
    Column("TOTAL", lambda row: printing.money(row["total_nano"], row["currency"]), whole=True, right=True),
    Column("PAID BEFORE", lambda row: printing.money(row["from_wallet_nano"], row["currency"]), right=True),
    Column("TO PAY", lambda row: printing.money(row["payable_nano"], row["currency"]), whole=True, right=True),
)


@group("headframe example month", "headframe example month --to ~/worked-month")
def example() -> None:
    """Worked examples that run here, without a server."""


@part(example, "cloud", "headframe example cloud", "headframe example cloud --port 8471 --scale 30")
@click.option("--port", metavar="N", type=int, default=DEFAULT_PORT, show_default=True, help="0 takes a free one.")
@click.option("--seed", metavar="N", type=int, default=1, show_default=True, help="Another seed, another cloud.")
@click.option(
    "--scale", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True,
    help="How many machines, in percent of 192 with 8 accelerators each.",
)  # fmt: skip
def cloud(port: int, seed: int, scale: int) -> int:
    """Serve a lively cloud to look at in the browser: 1,536 accelerators, five customers, two months of work.

    Nothing in it is real, and nothing of it is left when it ends.
    """
    served: int = import_module("headframe.serving").serve_example({"port": port}, seed=seed, scale=scale)
    return served


@part(example, "month", "headframe example month", "headframe example month --to ~/worked-month --json")
@click.option("--to", "folder", metavar="FOLDER", default="worked-month", show_default=True, help="Where files go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def month(folder: str, as_json: bool) -> int:
    """Live through a month of a cloud: three customers, a failed node, late use; invoices, FOCUS tables, a ledger."""
    told: Any = import_module("headframe.sim.example").play(Path(folder).expanduser())
    rows = [
        {
            "number": each.number, "kind": each.kind, "buyer": each.buyer.name, "month": each.month,
            "currency": each.currency, "net_nano": each.net_nano, "tax_nano": each.tax_nano,
            "total_nano": each.total_nano, "from_wallet_nano": each.from_wallet_nano,
            "payable_nano": each.payable_nano,
        }
        for each in told.invoices
    ]  # fmt: skip
    sound = told.balance.zero and told.audit.clean
    if as_json:
        printing.as_json(
            {
                "story": list(told.story), "invoices": rows, "files": list(told.files), "sums": told.balance.sums,
                "transfers": told.transfers, "audit": told.audit.told(), "folder": folder,
            }
        )  # fmt: skip
        return 0 if sound else 1
    for line in told.story:
        printing.paragraph(line)
    printing.say()
    printing.table(INVOICES, rows)
    printing.say()
    sums = ", ".join(printing.money(nano, currency) for currency, nano in sorted(told.balance.sums.items()))
    printing.facts(
        [
            ("files", f"{len(told.files)} in {folder}"),
            ("trial balance", f"{sums} over {counted(told.transfers, 'transfer')}"),
            ("FOCUS", "equals the invoices, to the nano-unit"),
            ("audit", "the books are what the events say" if told.audit.clean else str(told.audit.differences[0])),
        ]
    )
    return 0 if sound else 1
