"""What people may see of invoices and of the ledger: documents, details on them, rules of tax, the trial balance.

An organization's owners, admins and finance see its invoices; the operator's see all, and the ledger.
"""

from __future__ import annotations

from headframe.control.context import Context
from headframe.control.ports import Reads
from headframe.control.queries_tenancy import find_organization, nothing_here
from headframe.control.world import World
from headframe.ledger.chain import Head
from headframe.ledger.close import SELLER, month_span_us
from headframe.ledger.records import Invoice, Party, TaxRate
from headframe.ledger.trial import TrialBalance, trial_balance
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
    if organization == "all":
        caller.need(Permission.LEDGER_READ, caller.organization_id)
        return {}
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.INVOICES_READ, house.id)
    return {"organization_id": house.id}


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
    if organization == "all":
        caller.need(Permission.LEDGER_READ, caller.organization_id)
        return None
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.INVOICES_READ, house.id)
    return house.id


def ledger_scope(world: World, context: Context, caller: Caller) -> Reads:
    """The store to read the whole ledger from (operator only)."""
    caller.need(Permission.LEDGER_READ, caller.organization_id)
    return context.reads
