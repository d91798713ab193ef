"""An invoice as CSV and as JSON, exact: amounts with all their digits, for programs and spreadsheets."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from decimal import Decimal

from headframe.base.cells import text_cell
from headframe.base.money import NANO
from headframe.documents import words
from headframe.documents.sheet import title_number
from headframe.ledger.notes import sign_of
from headframe.ledger.records import Invoice

HEAD = (
    "invoice", "kind", "corrects", "month", "organization", "project", "description", "meter", "charge", "purchase",
    "contract", "quantity", "unit", "unit_price", "price_currency", "exact_amount", "amount", "currency", "tax",
)  # fmt: skip


def invoice_csv(document: Invoice) -> bytes:
    """One row for each line and each tax. Credit notes have negative amounts, so that columns add up.

    What a spreadsheet would take for a formula is quoted by an apostrophe (CSV injection).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    sign = sign_of(document)
    head = (title_number(document), document.kind, document.corrects, document.month, document.organization_id)
    for line in document.lines:
        writer.writerow(
            [
                *head, text_cell(line.project or line.project_id), text_cell(words.describe(line, 0)), line.meter,
                line.kind, line.purchase, line.contract_id, _digits(words.units_of(line)), words.unit_of(line),
                _money(line.unit_nano), line.fx_base or document.currency, _money(sign * line.amount_nano),
                _money(sign * line.net_nano), document.currency, line.tax,
            ]
        )  # fmt: skip
    for each in document.taxes:
        writer.writerow(
            [
                *head, "", f"Tax {_digits(Decimal(each.percent_milli) / 1000)} %", "", "tax", "", "", "", "", "", "",
                _money(sign * each.tax_nano), _money(sign * each.tax_nano), document.currency, each.category,
            ]
        )  # fmt: skip
    return text.getvalue().encode()


def invoice_json(document: Invoice) -> bytes:
    """The record as it is kept."""
    return (json.dumps(dataclasses.asdict(document), ensure_ascii=False, indent=1) + "\n").encode()


def _money(nano: int) -> str:
    return _digits(Decimal(nano) / NANO)


def _digits(value: Decimal) -> str:
    return f"{value.normalize():f}"
