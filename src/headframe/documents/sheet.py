"""What an invoice says, as texts ready to print: the one source of the PDF, and the order of the CSV."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from headframe.base.money import NANO
from headframe.documents import words
from headframe.ledger.close import month_span_us
from headframe.ledger.records import Invoice, InvoiceLine, Party

DAY_US = 86_400_000_000
FAMILIES = ("gpu", "cpu", "memory", "disk", "storage", "tokens")  # in which order they are printed


def title_number(document: Invoice) -> str:
    """The number as it is printed and quoted: six digits or more."""
    return f"{document.number:06d}"


def sheet(document: Invoice, *, draft: bool = False) -> dict[str, Any]:
    """Everything on the page, in the language of the buyer; plain texts only."""
    language = words.language_of(document.buyer.language)
    labels = words.labels(language)
    begin_us, end_us = month_span_us(document.month)
    kind = labels["draft"] if draft else labels[document.kind]
    left = document.payable_nano
    return {
        "language": words.LANGUAGES[language],
        "labels": labels,
        "title": kind,
        "number": "" if draft else title_number(document),
        "date": words.day(document.closed_us, language),
        "due": words.day(document.due_us, language) if left > 0 and document.kind != "credit_note" else "",
        "period": f"{words.day(begin_us, language)} \u2013 {words.day(end_us - DAY_US, language)}",
        "corrects": f"{document.corrects_number:06d}" if document.corrects else "",
        "reason": document.reason,
        "seller": _party(document.seller),
        "buyer": _party(document.buyer),
        "currency": document.currency,
        "groups": _groups(document, language),
        "taxes": [
            {
                "name": _tax_name(each.category, each.reason, language),
                "rate": _percent(each.percent_milli) if each.percent_milli else "",
                "basis": words.amount(each.basis_nano, document.currency),
                "tax": words.amount(each.tax_nano, document.currency),
            }
            for each in document.taxes
        ],
        "net": words.amount(document.net_nano, document.currency),
        "total": words.amount(document.total_nano, document.currency),
        "prepaid": words.amount(document.from_wallet_nano, document.currency) if document.from_wallet_nano else "",
        "payable": words.amount(left, document.currency),
        "credit": document.kind == "credit_note",
        "nothing_due": left == 0,
        "rates": _rates(document, language),
        "at": _moment(document.closed_us),
    }


def _groups(document: Invoice, language: int) -> list[dict[str, Any]]:
    """Lines by project, accelerators first, what is given back last."""
    groups: dict[str, list[dict[str, str]]] = {}
    sums: dict[str, int] = {}
    for line in sorted(document.lines, key=lambda line: (line.project or line.project_id, _rank(line))):
        name = line.project or line.project_id or (words.LABELS["contracts"][language] if line.contract_id else "")
        groups.setdefault(name, []).append(_line(line, document.currency, language))
        sums[name] = sums.get(name, 0) + line.net_nano
    return [
        {"project": name, "lines": lines, "sum": words.amount(sums[name], document.currency)}
        for name, lines in groups.items()
    ]


def _rank(line: InvoiceLine) -> tuple[int, ...]:
    family = line.meter.partition(":")[0]
    last = line.kind in ("credit", "goodwill")
    return (last, FAMILIES.index(family) if family in FAMILIES else len(FAMILIES))


def _line(line: InvoiceLine, currency: str, language: int) -> dict[str, str]:
    flat = line.kind in ("fee", "credit", "goodwill", "tier", "correction")
    price = words.number(Decimal(line.unit_nano) / NANO, 2, 12)
    if line.fx_base and line.fx_base != currency:
        price = f"{price} {line.fx_base}"
    return {
        "text": words.describe(line, language),
        "quantity": "" if flat else words.number(words.units_of(line), 0, 3),
        "unit": "" if flat else words.unit_words(line, language),
        "price": "" if flat or line.kind in ("covered", "unused") else price,
        "amount": words.amount(line.net_nano, currency),
    }


def _rates(document: Invoice, language: int) -> list[str]:
    """`1 EUR = 8.25 CNY (1 November 2026, source)` for each exchange rate that stands behind a line."""
    found = {
        (line.fx_us, line.fx_base, line.fx_rate_pico, line.fx_source)
        for line in document.lines
        if line.fx_base and line.fx_base != document.currency and line.fx_rate_pico
    }
    return [
        f"1 {base} = {words.number(Decimal(pico).scaleb(-12), 0, 12)} {document.currency}"
        f" ({words.day(us, language)}, {source})"
        for us, base, pico, source in sorted(found)
    ]


def _tax_name(category: str, reason: str, language: int) -> str:
    known = words.CATEGORIES.get(category, (category, category))[language]
    return known if not reason or reason == words.CATEGORIES.get(category, ("", ""))[0] else reason


def _percent(milli: int) -> str:
    return f"{words.number(Decimal(milli) / 1000, 0, 3)} %"


def _party(party: Party) -> dict[str, str]:
    place = " ".join(part for part in (party.postcode, party.city) if part)
    return {
        "name": party.name or party.id,
        "address": "\n".join(part for part in (party.street, place, party.country) if part),
        "tax_id": party.tax_id,
        "registration": party.registration,
        "email": party.email,
        "phone": party.phone,
        "reference": party.reference,
        "iban": party.iban,
        "bic": party.bic,
        "bank": party.bank,
    }


def _moment(us: int) -> list[int]:
    at = words.moment(us)
    return [at.year, at.month, at.day, at.hour, at.minute, at.second]
