"""The loop's last stage of money: months are closed into invoices, and late charges into notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from headframe.base.changes import NOTHING, Changes, Event, gather
from headframe.base.errors import OurError
from headframe.base.money import NANO, Money, divide_half_even
from headframe.base.quantities import SECOND_US
from headframe.control.ports import Reads
from headframe.control.spending import Spending
from headframe.control.world import World
from headframe.fleet.records import Allocation
from headframe.ledger.close import SELLER, Terms, close_month, closing, month_of, month_span_us, next_month
from headframe.ledger.notes import correction
from headframe.ledger.post import credit_left, wallet
from headframe.ledger.records import Closing, Invoice, InvoiceLine, Party, TaxRate, Transfer
from headframe.pricing.records import Charge
from headframe.tenants.records import Organization

# What the charges of one invoice line have in common.
LINE = ("project_id", "meter", "kind", "purchase", "contract_id", "unit", "unit_nano", "fx_base", "tax")
_HELD = ("cpu", "memory", "disk")


def invoice_due(world: World, spending: Spending, reads: Reads, now_us: int, grace_us: int = 0) -> Changes:
    """Close each finished month of each organization whose use of it is metered to its end and in the store, once the
    days of grace are over in which late use may still be reported.

    A month without charges makes no invoice, but is closed all the same. Costs little in ticks in which no month waits.
    """
    this_month = month_of(now_us)
    for organization in world.all(Organization).values():
        if organization.id not in spending.to_close:
            spending.to_close[organization.id] = _first_month(reads, organization)
    oldest_of_all = min(spending.to_close.values(), default=this_month)
    if oldest_of_all >= this_month or month_span_us(oldest_of_all)[1] + grace_us > now_us:
        return NOTHING
    reached = _metered_until(world)
    parts: list[Changes] = []
    number = world.last_invoice
    for organization_id, oldest in sorted(spending.to_close.items()):
        organization = world.all(Organization)[organization_id]
        certain_us = min(reached.get(organization_id, now_us), (spending.fresh_us or now_us + 1) - 1)
        month = oldest
        while month < this_month and month_span_us(month)[1] <= min(certain_us, now_us - grace_us):
            parts.append(_close(world, reads, organization, month, number, now_us))
            number += sum(isinstance(row, Invoice) for row in parts[-1].rows)
            month = next_month(month)
    made = gather(parts)
    # A month is closed after all that is dated in it is written, of all organizations.
    return Changes(tuple(sorted(made.rows, key=lambda row: isinstance(row, Closing))), made.events)


def terms_of(world: World, organization: Organization) -> Terms:
    """Who sells, who buys and what is taxed, as it is known now."""
    seller: Party = world.get(Party, SELLER) or Party(SELLER, "")
    buyer: Party = world.get(Party, organization.id) or Party(organization.id, organization.name)
    return Terms(seller, buyer, tuple(rate for _, rate in sorted(world.all(TaxRate).items())))


def month_lines(reads: Reads, organization_id: str, month: str, **narrower: object) -> tuple[InvoiceLine, ...]:
    """The charges of a month of an organization, summed by all that lines have in common; late ones are left out."""
    return tuple(line for _, line in _month_lines(reads, organization_id, month, late_month="", **narrower))


def _month_lines(
    reads: Reads, organization_id: str, month: str, **narrower: object
) -> Iterator[tuple[str, InvoiceLine]]:
    """(the closed month that is corrected, its line)."""
    begin, end = month_span_us(month)
    where = {"organization_id": organization_id, "at_us__ge": begin + 1, "at_us__lt": end + 1, **narrower}
    by = (*LINE, "late_month")
    quantities = reads.total(Charge, "quantity", by, **where)
    amounts = reads.total(Charge, "amount_nano", by, **where)
    for row, amount in zip(quantities, amounts, strict=True):
        yield row["late_month"], line_of(row, row["quantity"], amount["amount_nano"])


def line_of(row: dict[str, Any], quantity: int, amount_nano: int) -> InvoiceLine:
    """A line out of what its charges have in common, and their sums."""
    held = row["meter"].startswith("gpu:") or row["meter"] in _HELD
    quantity = divide_half_even(quantity, SECOND_US) if held else quantity
    return InvoiceLine(**{name: row[name] for name in LINE}, quantity=quantity, amount_nano=amount_nano)


def month_prepaid_nano(reads: Reads, organization_id: str, month: str) -> int:
    """How much of the charges of a month was taken from the wallet (what came back is taken off)."""
    return sum(_prepaid_by_source(reads, organization_id, month).values())


def _prepaid_by_source(reads: Reads, organization_id: str, month: str) -> dict[str, int]:
    begin, end = month_span_us(month)
    account = wallet(organization_id)
    span = {"organization_id": organization_id, "at_us__ge": begin + 1, "at_us__lt": end + 1}
    found: dict[str, int] = {}
    for side, other, sign in (("debit", "credit", 1), ("credit", "debit", -1)):
        for row in reads.total(Transfer, "amount_nano", (other, "kind"), **span, **{side: account}):
            if row[other].startswith("revenue:"):
                found[row["kind"]] = found.get(row["kind"], 0) + sign * row["amount_nano"]
    return found


def _close(
    world: World, reads: Reads, organization: Organization, month: str, number: int, now_us: int
) -> Changes:  # fmt: skip
    """The closing of a month, its invoice, and a note for each earlier month that was corrected in it."""
    found = tuple(_month_lines(reads, organization.id, month))
    late: dict[str, list[InvoiceLine]] = {}
    regular: list[InvoiceLine] = []
    for late_month, line in found:
        if late_month and reads.get(Invoice, f"{organization.id}.{late_month}") is not None:
            late.setdefault(late_month, []).append(line)
        else:
            regular.append(line)
    parts: list[Changes] = []
    prepaid = month_prepaid_nano(reads, organization.id, month)
    credit_nano = credit_left(world.balances, organization.id, organization.currency)
    if regular:
        invoice, transfers = close_month(
            organization.id, month, organization.currency, regular, prepaid, number + 1, now_us,
            terms=terms_of(world, organization), credit_nano=credit_nano,
        )  # fmt: skip
        check(invoice, regular)
        number += 1
        parts.append(Changes((invoice, *transfers), (_closed(invoice, now_us),)))
    for late_month, lines in sorted(late.items()):
        original: Invoice | None = reads.get(Invoice, f"{organization.id}.{late_month}")
        assert original is not None
        note, transfers = correction(original, lines, 0, f"{original.id}.{month}", number + 1, now_us)
        number += 1
        parts.append(Changes((note, *transfers), (_closed(note, now_us),)))
    invoice_id = f"{organization.id}.{month}" if regular else ""
    parts.append(Changes((closing(organization.id, month, now_us, invoice_id),)))
    return gather(parts)


def check(invoice: Invoice, lines: Iterable[InvoiceLine]) -> None:
    """Reconcile at every close: lines, taxes and totals say the same as the charges, or nothing is closed."""
    exact = sum(line.amount_nano for line in lines)
    half = len(invoice.lines) * NANO // 2
    sound = (
        sum(line.amount_nano for line in invoice.lines) == exact
        and abs(invoice.net_nano - exact) <= half
        and invoice.net_nano == sum(line.net_nano for line in invoice.lines) == sum(t.basis_nano for t in invoice.taxes)
        and invoice.total_nano == invoice.net_nano + sum(each.tax_nano for each in invoice.taxes)
        and invoice.payable_nano == invoice.total_nano - invoice.from_wallet_nano
    )
    if not sound:
        raise OurError(f"Invoice {invoice.id} does not add up.", next_step="Report this: it is a defect.")


def _closed(invoice: Invoice, now_us: int) -> Event:
    title = {"invoice": "Invoice", "credit_note": "Credit note", "debit_note": "Debit note"}[invoice.kind]
    return Event(
        at_us=now_us,
        kind="invoice_closed",
        subject=invoice.id,
        reason=f"{title} {invoice.number} for {invoice.month}: {Money(invoice.total_nano, invoice.currency)}.",
        organization_id=invoice.organization_id,
        detail={
            "number": invoice.number, "month": invoice.month, "currency": invoice.currency, "kind": invoice.kind,
            "total_nano": invoice.total_nano, "from_wallet_nano": invoice.from_wallet_nano,
            "payable_nano": invoice.payable_nano,
        },
    )  # fmt: skip


def _first_month(reads: Reads, organization: Organization) -> str:
    """The first month of an organization that is not closed."""
    newest = reads.find(Closing, organization_id=organization.id, newest=True, limit=1)
    return next_month(newest[0].month) if newest else month_of(organization.created_us + 1)


def _metered_until(world: World) -> dict[str, int]:
    """How far the use of each organization is surely metered, for those who have open allocations."""
    reached: dict[str, int] = {}
    for allocation in world.all(Allocation).values():
        until_us = allocation.metered_us if allocation.records else allocation.held_us
        reached[allocation.organization_id] = min(reached.get(allocation.organization_id, until_us), until_us)
    return reached
