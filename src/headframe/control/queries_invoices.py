"""What people may see of invoices and of the ledger: documents, details on them, rules of tax, the trial balance.

An organization's owners, admins and finance see its invoices; the operator's see all, and the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headframe.base.quantities import DAY_US
from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries_spend import ALL
from headframe.control.queries_tenancy import find_organization, nothing_here
from headframe.control.stage_money import every
from headframe.control.world import World
from headframe.ledger.chain import Head
from headframe.ledger.close import SELLER, month_span_us
from headframe.ledger.notes import CREDIT
from headframe.ledger.records import Invoice, Party, TaxRate, Transfer
from headframe.ledger.trial import TrialBalance, trial_balance
from headframe.tenants.records import Organization
from headframe.tenants.roles import Caller, Permission


def invoice(world: World, context: Context, caller: Caller, invoice_id: str) -> Invoice:
    """One invoice or note, by its id or its number."""
    found: Invoice | None = context.reads.get(Invoice, invoice_id)
    if found is None and invoice_id.isascii() and invoice_id.isdigit() and len(invoice_id) < 16:
        found = next(iter(context.reads.find(Invoice, number=int(invoice_id), limit=1)), None)
    if found is None or not (found.organization_id == caller.organization_id or caller.operator):
        raise nothing_here("invoice", invoice_id)
    caller.need(Permission.INVOICES_READ, found.organization_id)
    return found


def invoices_filter(world: World, context: Context, caller: Caller, organization: str | None) -> dict[str, object]:
    """The filter for an organization's invoices; of all of them for the operator who asks for "all"."""
    if organization == ALL:
        caller.need(Permission.LEDGER_READ, caller.organization_id)
        return {}
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.INVOICES_READ, house.id)
    return {"organization_id": house.id}


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """How an invoice or debit note stands: what was to pay, what credit notes took off it and what came in.

    `overdue_days` are whole days since it was due, as long as anything is open.
    """

    id: str
    number: int
    kind: str
    organization_id: str
    month: str
    currency: str
    payable_nano: int
    credited_nano: int
    paid_nano: int
    open_nano: int
    due_us: int
    overdue_days: int


def payments_of(reads: Reads, document: Invoice) -> list[Transfer]:
    """What came in for a document."""
    found = reads.find(
        Transfer, id__prefix=f"{document.id}.payment", organization_id=document.organization_id, limit=500
    )
    return [one for one in found if one.kind == "payment"]


def open_of(reads: Reads, document: Invoice, now_us: int = 0) -> OpenInvoice:
    """How one document stands; of a credit note nothing is to pay."""
    about = reads.find(Invoice, organization_id=document.organization_id, corrects=document.id, limit=500)
    credited = sum(one.payable_nano for one in about if one.kind == CREDIT)
    paid = sum(one.amount_nano for one in payments_of(reads, document))
    due = 0 if document.kind == CREDIT else document.payable_nano
    left = due - credited - paid
    late = max(0, now_us - document.due_us) // DAY_US if left > 0 else 0
    return OpenInvoice(
        document.id, document.number, document.kind, document.organization_id, document.month, document.currency, due,
        credited, paid, left, document.due_us, late,
    )  # fmt: skip


def open_invoices(
    world: World, context: Context, caller: Caller, *, organization: str | None = None
) -> Callable[[Reads], tuple[OpenInvoice, ...]]:
    """The documents of which anything is open, the longest due first; of "all" organizations for the operator."""
    if organization == ALL:
        caller.need(Permission.LEDGER_READ, caller.organization_id)
        owners = sorted(world.all(Organization))
    else:
        house = find_organization(world, context, caller, organization)
        caller.need(Permission.INVOICES_READ, house.id)
        owners = [house.id]

    def read(reads: Reads) -> tuple[OpenInvoice, ...]:
        found = [
            open_of(reads, document, context.now_us)
            for owner in owners
            for document in every(reads, Invoice, organization_id=owner)
            if document.kind != CREDIT
        ]
        return tuple(sorted((one for one in found if one.open_nano), key=lambda one: (one.due_us, one.number)))

    return read


def party(world: World, context: Context, caller: Caller, *, organization: str | None = None) -> Party:
    """How an organization stands on its invoices."""
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.INVOICES_READ, house.id)
    known: Party | None = world.get(Party, house.id)
    return known or Party(house.id, house.name)


def seller(world: World, context: Context, caller: Caller) -> Party:
    """Who sells, as it stands on everybody's invoices."""
    caller.need(Permission.INVOICES_READ, caller.organization_id)
    known: Party | None = world.get(Party, SELLER)
    return known or Party(SELLER, "")


def tax_rates(world: World, context: Context, caller: Caller) -> tuple[TaxRate, ...]:
    """All rules of tax (operator only)."""
    caller.need(Permission.INVOICES_WRITE, caller.organization_id)
    return tuple(rate for _, rate in sorted(world.all(TaxRate).items()))


def ledger(world: World, context: Context, caller: Caller) -> tuple[TrialBalance, Head]:
    """The trial balance of all accounts, and the newest link of the chain (operator only)."""
    caller.need(Permission.LEDGER_READ, caller.organization_id)
    return trial_balance(world.balances), world.last_transfer


def export_scope(
    world: World, context: Context, caller: Caller, *, month: str, organization: str | None = None
) -> str | None:
    """The id of the organization whose month is exported; None: all of them, for the operator. Raises like others."""
    month_span_us(month)
    if organization == ALL:
        caller.need(Permission.LEDGER_READ, caller.organization_id)
        return None
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.INVOICES_READ, house.id)
    return house.id


def ledger_scope(world: World, context: Context, caller: Caller) -> Reads:
    """The store to read the whole ledger from (operator only)."""
    caller.need(Permission.LEDGER_READ, caller.organization_id)
    return context.reads
