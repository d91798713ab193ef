"""Months, and how one is closed into an invoice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from headframe.base.money import payable
from headframe.base.quantities import DAY_US, month_bounds_us
from headframe.base.quantities import month_of as calendar_month
from headframe.ledger.post import receivable, wallet
from headframe.ledger.records import Closing, Invoice, InvoiceLine, Party, TaxRate, Transfer
from headframe.ledger.tax import rule_for, tax_lines

SELLER = "seller"  # the id of the one party that is no organization


def month_of(at_us: int) -> str:
    """The month to which a charge that falls due at the moment belongs, such as "2026-11" (UTC).

    Use falls due at its end, so the last piece of a month is due at the very moment at which the next begins: that
    moment itself still belongs to the month that it ends.
    """
    return calendar_month(at_us - 1)


def month_span_us(month: str) -> tuple[int, int]:
    """When a month begins and ends, in microseconds (UTC); charges with begin < at_us <= end belong to it."""
    return month_bounds_us(month)


def next_month(month: str) -> str:
    """The month after."""
    return month_of(month_span_us(month)[1] + 1)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bill needs to know besides its lines: who sells, who buys, which rules of tax there are."""

    seller: Party
    buyer: Party
    rates: tuple[TaxRate, ...] = ()

    @classmethod
    def bare(cls, organization_id: str) -> Terms:
        """Of a cloud that has not said who it is: nothing is taxed."""
        return cls(Party(SELLER, ""), Party(organization_id, ""))


def rounded(lines: Iterable[InvoiceLine], currency: str) -> tuple[InvoiceLine, ...]:
    """The lines in the order in which they are printed, each rounded once to what the currency can be paid in."""
    ordered = sorted(lines, key=_place)
    return tuple(replace(line, net_nano=payable(line.amount_nano, currency)) for line in ordered)


def _place(line: InvoiceLine) -> tuple[object, ...]:
    about = (line.project_id, line.meter, line.kind, line.purchase, line.contract_id)
    price = (line.unit_nano, line.unit, line.fx_base, line.fx_us, line.fx_rate_pico, line.fx_source)
    return (*about, *price, line.tax, line.note)


def closing(organization_id: str, month: str, closed_us: int, invoice_id: str = "") -> Closing:
    """The fact that a month is over: what comes later is a correction in a later month."""
    begin_us, end_us = month_span_us(month)
    return Closing(f"{organization_id}.{month}", organization_id, month, begin_us, end_us, closed_us, invoice_id)


def close_month(
    organization_id: str,
    month: str,
    currency: str,
    lines: Iterable[InvoiceLine],
    from_wallet_nano: int,
    number: int,
    closed_us: int,
    *,
    terms: Terms | None = None,
    credit_nano: int = 0,
) -> tuple[Invoice, tuple[Transfer, ...]]:
    """The invoice of a month, and the transfers that make the books say the same.

    Each line is the exact sum of its charges, rounded once to what can be paid; the total is the sum of the rounded
    lines and of the tax on them (EN 16931, BR-CO-15). `from_wallet_nano` of the charges was taken from prepaid credit;
    `credit_nano` of credit is still there, and pays tax and rounding as far as it reaches (what rounding saved goes
    back to it). The rest of the difference between charges and lines goes to the account "rounding", so that
    "receivable" is what people pay. The transfers are dated at the end of the month.
    """
    terms = terms or Terms.bare(organization_id)
    ordered = rounded(lines, currency)
    end_us = month_span_us(month)[1]
    taxes = tax_lines(ordered, rule_for(terms.seller, terms.buyer, terms.rates, end_us - 1), currency)
    net, tax = sum(line.net_nano for line in ordered), sum(each.tax_nano for each in taxes)
    exact = sum(line.amount_nano for line in ordered)
    due = net + tax - from_wallet_nano  # what is yet to be paid, from credit or otherwise
    drawn = min(due, credit_nano) if due > 0 else due if from_wallet_nano else 0
    paid = from_wallet_nano + drawn
    left = net + tax - payable(paid, currency)
    invoice = Invoice(
        id=f"{organization_id}.{month}",
        number=number,
        organization_id=organization_id,
        month=month,
        currency=currency,
        lines=ordered,
        total_nano=net + tax,
        from_wallet_nano=payable(paid, currency),
        payable_nano=left,
        closed_us=closed_us,
        net_nano=net,
        tax_nano=tax,
        taxes=taxes,
        due_us=closed_us + terms.buyer.terms_days * DAY_US,
        seller=terms.seller,
        buyer=terms.buyer,
    )
    on_receivable = exact - from_wallet_nano + tax - drawn
    book = Book(invoice, end_us)
    for each in taxes:
        book.move(f"tax.{each.category}", f"tax:{each.category}", each.tax_nano, "tax")
    book.draw(drawn)
    book.move("rounding", "rounding", left - on_receivable, "rounding")
    return invoice, book.transfers


class Book:
    """The transfers of one document, as they are put together: each against what the organization owes."""

    def __init__(self, document: Invoice, at_us: int, sign: int = 1) -> None:
        self._document, self._at_us, self._sign = document, at_us, sign
        self.transfers: tuple[Transfer, ...] = ()

    def move(self, name: str, account: str, amount_nano: int, kind: str) -> None:
        """More is owed to `account` (less when the amount is negative); nothing makes no transfer."""
        self._add(name, receivable(self._document.organization_id), account, amount_nano * self._sign, kind)

    def draw(self, amount_nano: int) -> None:
        """Pay from prepaid credit; a negative amount goes back to it."""
        owner = self._document.organization_id
        self._add("settlement", wallet(owner), receivable(owner), amount_nano * self._sign, "settlement")

    def _add(self, name: str, debit: str, credit: str, amount_nano: int, kind: str) -> None:
        if amount_nano < 0:
            debit, credit = credit, debit
        if amount_nano:
            document = self._document
            self.transfers += (
                Transfer(
                    id=f"{document.id}.{name}", debit=debit, credit=credit, amount_nano=abs(amount_nano),
                    currency=document.currency, at_us=self._at_us, kind=kind, source=document.id,
                    organization_id=document.organization_id,
                ),
            )  # fmt: skip
