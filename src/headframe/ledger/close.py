"""Months, and how one is closed into an invoice."""

from __future__ import annotations

from collections.abc import Iterable

from headframe.base.money import payable
from headframe.base.quantities import month_bounds_us
from headframe.base.quantities import month_of as calendar_month
from headframe.ledger.post import receivable
from headframe.ledger.records import Invoice, InvoiceLine, Transfer


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


def close_month(
    organization_id: str,
    month: str,
    currency: str,
    lines: Iterable[InvoiceLine],
    from_wallet_nano: int,
    number: int,
    closed_us: int,
) -> tuple[Invoice, tuple[Transfer, ...]]:
    """The invoice of a month, and the transfer that rounds what is owed to an amount that can be paid.

    The lines are sums of charges, each exact to the nano-unit, so the total is exact too; only what is left to pay is
    rounded, once, half to even. The difference goes to the account "rounding", so that "receivable" is what people pay.
    """
    ordered = tuple(sorted(lines, key=lambda line: (line.project_id, line.meter, line.kind, line.unit_nano)))
    total = sum(line.amount_nano for line in ordered)
    owed = total - from_wallet_nano
    invoice = Invoice(
        id=f"{organization_id}.{month}",
        number=number,
        organization_id=organization_id,
        month=month,
        currency=currency,
        lines=ordered,
        total_nano=total,
        from_wallet_nano=from_wallet_nano,
        payable_nano=payable(owed, currency),
        closed_us=closed_us,
    )
    return invoice, _rounding(invoice, invoice.payable_nano - owed)


def _rounding(invoice: Invoice, difference_nano: int) -> tuple[Transfer, ...]:
    if difference_nano == 0:
        return ()
    debit, credit = receivable(invoice.organization_id), "rounding"
    if difference_nano < 0:
        debit, credit = credit, debit
    return (
        Transfer(
            id=f"{invoice.id}.rounding",
            debit=debit,
            credit=credit,
            amount_nano=abs(difference_nano),
            currency=invoice.currency,
            at_us=month_span_us(invoice.month)[1],
            kind="rounding",
            source=invoice.id,
            organization_id=invoice.organization_id,
        ),
    )
