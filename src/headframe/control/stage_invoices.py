"""The loop's last stage of money: months are closed into invoices, and late charges into notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from headframe.base.changes import NOTHING, Changes, Event, gather
from headframe.base.errors import OurError
from headframe.base.money import NANO, Money, divide_half_even
from headframe.base.quantities import SECOND_US
from headframe.control.ports import Reads
from headframe.control.spending import Spending
from headframe.control.stage_money import metered_until, step_us
from headframe.control.world import World
from headframe.ledger.close import SELLER, Terms, close_month, closing, month_of, month_span_us, next_month
from headframe.ledger.notes import correction
from headframe.ledger.post import wallet
from headframe.ledger.records import Closing, Invoice, InvoiceLine, Party, TaxRate, Transfer
from headframe.ledger.settle import free, settle
from headframe.ledger.wallets import Grant
from headframe.pricing.records import Charge, Contract
from headframe.pricing.units import default_unit, is_held
from headframe.tenants.records import Organization, Project

# What the charges of one invoice line have in common.
LINE = (
    "project_id", "meter", "kind", "purchase", "contract_id", "unit", "unit_nano", "fx_base", "fx_rate_pico",
    "fx_source", "fx_us", "tax",
)  # fmt: skip


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
    reached = metered_until(world)
    parts: list[Changes] = []
    number = world.last_invoice
    for organization_id, oldest in sorted(spending.to_close.items()):
        organization = world.all(Organization)[organization_id]
        contracts = spending.contracts.get(organization_id, {}).values()
        certain_us = min(
            reached.get(organization_id, now_us),
            (spending.fresh_us or now_us + 1) - 1,
            *(step_us(one) - 1 for one in contracts),  # what a contract covers or asks for is charged up to there
            now_us - grace_us,
            now_us if spending.kept_us is None else spending.kept_us,
        )
        month, grants = oldest, list(spending.grants.get(organization_id, {}).values())
        while month < this_month and month_span_us(month)[1] <= certain_us:
            parts.append(_close(world, reads, organization, month, number, now_us, grants))
            grants = _later(grants, parts[-1])
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
    timed = is_held(row["meter"]) and (row["unit"] or default_unit(row["meter"])).endswith(("-hour", "-month"))
    quantity = divide_half_even(quantity, SECOND_US) if timed else quantity
    return InvoiceLine(**{name: row[name] for name in LINE}, quantity=quantity, amount_nano=amount_nano)


def month_prepaid_nano(reads: Reads, organization_id: str, month: str) -> int:
    """How much of the charges of a month was taken from the wallet (what came back is taken off)."""
    return _prepaid_nano(reads, organization_id, month, None)


def _prepaid_nano(reads: Reads, organization_id: str, month: str, late_month: str | None) -> int:
    """The same of the charges that ("") correct no month with an invoice."""
    begin, end = month_span_us(month)
    account = wallet(organization_id)
    span: dict[str, Any] = {"organization_id": organization_id, "at_us__ge": begin + 1, "at_us__lt": end + 1}
    total = 0
    for side, other, sign in (("debit", "credit", 1), ("credit", "debit", -1)):
        for row in reads.total(Transfer, "amount_nano", (other,), **span, **{side: account}):
            total += sign * row["amount_nano"] if row[other].startswith("revenue:") else 0
    if late_month is None:
        return total
    known: dict[str, bool] = {}
    for each in _pages(reads, Charge, **span, late_month__ge="0"):
        if each.late_month not in known:
            known[each.late_month] = billed(reads, organization_id, each.late_month) is not None
        total -= _drawn_for(reads, each, account) if known[each.late_month] else 0
    return total


def _drawn_for(reads: Reads, charge: Charge, account: str) -> int:
    """What credit paid for a charge; negative for what came back."""
    drawn = 0
    for name in (f"{charge.id}.wallet", f"{charge.id}.wallet.reversal"):
        moved: Transfer | None = reads.get(Transfer, name)
        if moved is not None:
            drawn += moved.amount_nano if moved.debit == account else -moved.amount_nano
    return drawn


def _pages(reads: Reads, kind: type[Any], **where: Any) -> Iterator[Any]:
    after: str | None = None
    while page := reads.find(kind, after=after, limit=1000, **where):
        yield from page
        after = page[-1].id


def _close(
    world: World,
    reads: Reads,
    organization: Organization,
    month: str,
    number: int,
    now_us: int,
    grants: Sequence[Grant],
) -> Changes:
    """The closing of a month, its invoice, and a note for each earlier month that was corrected in it."""
    regular: list[InvoiceLine] = []
    for late_month, line in _month_lines(reads, organization.id, month):
        if not late_month or billed(reads, organization.id, late_month) is None:
            regular.append(_named(world, reads, line))
    parts: list[Changes] = []
    if regular:
        usable = [each for each in grants if free(each, now_us)]
        invoice, transfers = close_month(
            organization.id, month, organization.currency, regular, _prepaid_nano(reads, organization.id, month, ""),
            number + 1, now_us, terms=terms_of(world, organization),
            credit_nano=sum(each.left_nano for each in usable),
        )  # fmt: skip
        check(invoice, regular)
        number += 1
        credit = settle(transfers, usable, wallet(organization.id), now_us)
        parts.append(Changes((invoice, *transfers, *credit), (_closed(invoice, now_us),)))
    parts += late_notes(world, reads, organization.id, month, number, now_us)
    invoice_id = f"{organization.id}.{month}" if regular else ""
    parts.append(Changes((closing(organization.id, month, now_us, invoice_id),)))
    return gather(parts)


def billed(reads: Reads, organization_id: str, month: str) -> Invoice | None:
    """The invoice of a closed month that stands: the newest one."""
    found = reads.find(Invoice, organization_id=organization_id, month=month, limit=500)
    return max((one for one in found if one.kind == "invoice"), key=lambda one: one.number, default=None)


def late_notes(
    world: World, reads: Reads, organization_id: str, month: str, number: int, now_us: int, only: str = ""
) -> Iterator[Changes]:
    """A note for each closed month (or one of them) of which charges came late in a month and are on no note yet.

    At the close the note has the id of the invoice and of the month that is closed. Before that one may be asked for at
    any time (`only`): it holds what fell due before now, and its id ends in a number.
    """
    begin_us, end_us = month_span_us(month)
    until_us = min(end_us + 1, now_us) if only else end_us + 1
    where: dict[str, Any] = {"organization_id": organization_id, "at_us__lt": until_us}
    rows = reads.total(Charge, "amount_nano", ("late_month",), at_us__ge=begin_us + 1, late_month__ge="0", **where)
    for late_month in (row["late_month"] for row in rows):
        original = billed(reads, organization_id, late_month)
        if original is None or only not in ("", late_month):
            continue
        earlier = reads.find(
            Invoice, organization_id=organization_id, id__prefix=f"{organization_id}.{late_month}.{month}.", limit=500
        )
        from_us = max([begin_us + 1, *(each.closed_us for each in earlier)])
        span = {**where, "at_us__ge": from_us, "late_month": late_month}
        lines = [_named(world, reads, line) for _, line in _month_lines(reads, month=month, **span)]
        if not lines:
            continue
        account = wallet(organization_id)
        drawn = sum(_drawn_for(reads, each, account) for each in _pages(reads, Charge, **span))
        name = f"{organization_id}.{late_month}.{month}" + (f".{len(earlier) + 1}" if only else "")
        number += 1
        note, transfers = correction(original, lines, drawn, name, number, now_us)
        yield Changes((note, *transfers), (_closed(note, now_us),))


def _later(grants: Sequence[Grant], changes: Changes) -> list[Grant]:
    """The grants as they are after changes."""
    after = {row.id: row for row in changes.rows if isinstance(row, Grant)}
    return [after.pop(each.id, each) for each in grants] + list(after.values())


def _named(world: World, reads: Reads, line: InvoiceLine) -> InvoiceLine:
    """The line with the names that it is printed with, as they are now."""
    project: Project | None = world.get(Project, line.project_id)
    contract: Contract | None = reads.get(Contract, line.contract_id) if line.contract_id else None
    return replace(
        line,
        project=project.name if project is not None else line.project_id,
        note=contract.title if contract is not None else "",
    )


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
