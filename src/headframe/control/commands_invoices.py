"""Commands about invoices: who sells and who buys, what is taxed, and the notes that correct what was billed."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

from headframe.base.changes import NOTHING, Changes, Event, gather
from headframe.base.errors import Conflict, Invalid
from headframe.base.money import Money, parse_money, payable
from headframe.base.quantities import format_moment, parse_moment_us
from headframe.control.context import Context
from headframe.control.queries_invoices import invoice, open_of, payments_of
from headframe.control.queries_tenancy import find_organization
from headframe.control.stage_invoices import billed, late_notes, terms_of
from headframe.control.world import World
from headframe.ledger import notes
from headframe.ledger.close import SELLER, month_of, next_month
from headframe.ledger.post import payment, wallet
from headframe.ledger.records import Invoice, Party, TaxRate, Transfer
from headframe.ledger.settle import free, settle
from headframe.ledger.tax import CATEGORIES, REASONS
from headframe.tenants.records import Organization
from headframe.tenants.roles import Caller, Permission

_LANGUAGES = ("en", "zh")
_SELLERS_ONLY = frozenset({"iban", "bic", "bank", "phone"})
_LONGEST = 200
_TITLES = {"invoice": "Invoice", "credit_note": "Credit note", "debit_note": "Debit note"}


def put_party(
    world: World,
    context: Context,
    caller: Caller,
    *,
    organization: str | None = None,
    seller: bool = False,
    **given: Any,
) -> tuple[Changes, Party]:
    """Set how an organization (its own owner, admin or finance), or the seller (operator), stands on invoices.

    What is not given stays as it is. It holds for invoices that are closed from now on.
    """
    if seller:
        caller.need(Permission.INVOICES_WRITE, caller.organization_id)
        party_id, name, owner = SELLER, "", caller.organization_id
    else:
        house = find_organization(world, context, caller, organization)
        caller.need(Permission.BILLING_WRITE, house.id)
        party_id, name, owner = house.id, house.name, house.id
    known: Party | None = world.get(Party, party_id)
    changed = {key: value for key, value in given.items() if value is not None}
    for key, value in changed.items():
        _check(key, value, seller)
    before = known or Party(party_id, name, version=0)
    party = replace(before, **changed, version=before.version + 1)
    if not party.name:
        raise Invalid("The seller needs a name.", field="name", allowed="the legal name, as invoices show it")
    event = Event(
        at_us=context.now_us, kind="billing_details_set", subject=party.id, organization_id=owner,
        reason="The details on invoices were changed.",
        detail={"fields": sorted(changed), "member_id": caller.member_id, "key_id": caller.key_id},
    )  # fmt: skip
    return Changes((party,), (event,)), party


def _check(key: str, value: Any, seller: bool) -> None:
    """What may stand in a field: printable text, a country of two letters, a language that is known."""
    if key not in {each.name for each in fields(Party)} - {"id", "version"} or (key in _SELLERS_ONLY and not seller):
        raise Invalid(f"{key} cannot be set here.", field=key)
    if key == "terms_days":
        if not 0 <= value <= 365:
            raise Invalid("terms_days is not that.", field=key, value=value, allowed="0 to 365 days")
        return
    if len(value) > _LONGEST or not value.isprintable():
        raise Invalid(f"{key} cannot be that.", field=key, value=value[:80], allowed="up to 200 printable characters")
    if key == "country" and value and not re.fullmatch("[A-Z]{2}", value):
        raise Invalid(
            f"{value!r} is not a country.", field=key, value=value, allowed="two capital letters (ISO 3166), such as DE"
        )
    if key == "language" and value not in _LANGUAGES:
        raise Invalid(f"Invoices are not written in {value!r}.", field=key, value=value, allowed=", ".join(_LANGUAGES))


def set_tax_rate(
    world: World,
    context: Context,
    caller: Caller,
    *,
    applies_to: str,
    category: str,
    percent: str = "0",
    business: str = "*",
    starts: str | None = None,
    ends: str | None = None,
    reason: str = "",
) -> tuple[Changes, TaxRate]:
    """A rule of tax (operator only). Rules are only added; a later one wins."""
    caller.need(Permission.INVOICES_WRITE, caller.organization_id)
    if not (applies_to in ("EU", "*") or re.fullmatch("[A-Z]{2}", applies_to)):
        applies_to = find_organization(world, context, caller, applies_to).id
    if category not in CATEGORIES:
        raise Invalid(
            f"{category!r} is not a category of tax.", field="category", value=category, allowed=", ".join(CATEGORIES)
        )
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", percent):
        raise Invalid("percent is not a rate.", field="percent", value=percent[:20], allowed="such as 19 or 8.875")
    whole, _, part = percent.partition(".")
    milli = int(whole) * 1000 + int(part.ljust(3, "0") or 0)
    if (milli > 0) != (category == "S"):
        raise Invalid(
            f"{percent} % is no rate of category {category}.", field="percent", value=percent,
            allowed="more than 0 for S, 0 for all others",
        )  # fmt: skip
    if business not in ("yes", "no", "*"):
        raise Invalid("business is not that.", field="business", value=business[:20], allowed="yes, no or *")
    if len(reason) > _LONGEST or not reason.isprintable():
        raise Invalid("reason cannot be that.", field="reason", allowed="up to 200 printable characters")
    rate = TaxRate(
        id=context.ids.new("tax"), applies_to=applies_to, category=category, percent_milli=milli, business=business,
        from_us=context.now_us if starts is None else parse_moment_us(starts, field="starts"),
        to_us=None if ends is None else parse_moment_us(ends, field="ends"), reason=reason or REASONS.get(category, ""),
    )  # fmt: skip
    event = Event(
        at_us=context.now_us, kind="tax_rate_set", subject=rate.id, organization_id=caller.organization_id,
        reason=f"{applies_to}: category {category}, {percent} % from {format_moment(rate.from_us)}.",
        detail={"member_id": caller.member_id, "key_id": caller.key_id},
    )  # fmt: skip
    return Changes((rate,), (event,)), rate


def void_invoice(
    world: World, context: Context, caller: Caller, invoice_id: str, *, reason: str
) -> tuple[Changes, Invoice]:
    """Take a whole invoice back by a credit note (operator only); what credit paid for it becomes credit again."""
    caller.need(Permission.INVOICES_WRITE, caller.organization_id)
    found = invoice(world, context, caller, invoice_id)
    earlier = _notes_on(context, found)
    if earlier:
        raise Conflict(
            f"Invoice {found.number} has notes already ({', '.join(str(each.number) for each in earlier)}).",
            next_step="Credit what is left of it: headframe invoices credit.",
        )
    note, transfers, grants = notes.void(
        found, _own_transfers(context, found), _reason(reason), f"{found.id}.void", world.last_invoice + 1,
        context.now_us,
    )  # fmt: skip
    return Changes((note, *transfers, *grants), (_told(note, caller, context.now_us),)), note


def reissue_invoice(
    world: World, context: Context, caller: Caller, invoice_id: str, *, reason: str
) -> tuple[Changes, Invoice]:
    """Issue a voided invoice again, for the buyer and by the rules of tax as they are now (operator only)."""
    caller.need(Permission.INVOICES_WRITE, caller.organization_id)
    found = invoice(world, context, caller, invoice_id)
    later = billed(context.reads, found.organization_id, found.month)
    if found.kind != notes.INVOICE or context.reads.get(Invoice, f"{found.id}.void") is None:
        raise Conflict("Only an invoice that was voided can be issued again.", next_step="headframe invoices void.")
    if later is not None and later.number > found.number:
        raise Conflict(f"It was issued again as {later.number}.", next_step=f"headframe invoices show {later.number}")
    house = world.all(Organization)[found.organization_id]
    grants = [one for one in context.spending.grants.get(house.id, {}).values() if free(one, context.now_us)]
    again, transfers = notes.reissue(
        found, terms_of(world, house), _reason(reason), world.last_invoice + 1, context.now_us,
        sum(one.left_nano for one in grants),
    )  # fmt: skip
    credit = settle(transfers, grants, wallet(house.id), context.now_us)
    return Changes((again, *transfers, *credit), (_told(again, caller, context.now_us),)), again


def pay_invoice(
    world: World, context: Context, caller: Caller, invoice_id: str, *, amount: str = "", note: str = ""
) -> tuple[Changes, Transfer]:
    """Record that money came in for an invoice or debit note: all that is open of it unless told (operator only)."""
    caller.need(Permission.INVOICES_WRITE, caller.organization_id)
    found = invoice(world, context, caller, invoice_id)
    state = open_of(context.reads, found)
    money = parse_money(amount, field="amount", currency=found.currency) if amount else None
    nano = state.open_nano if money is None else money.nano
    wrong = money is not None and money.currency != found.currency
    if wrong or not 0 < nano <= state.open_nano or nano != payable(nano, found.currency):
        raise Invalid(
            f"Of {found.kind.replace('_', ' ')} {found.number} {Money(state.open_nano, found.currency)} is open.",
            field="amount", value=amount, allowed="more than nothing, no more than is open, in its currency",
        )  # fmt: skip
    if len(note) > _LONGEST or (note and not note.isprintable()):
        raise Invalid("note cannot be that.", field="note", allowed="up to 200 printable characters")
    count = len(payments_of(context.reads, found))
    paid = payment(
        f"{found.id}.payment{count + 1}", found.organization_id, nano, found.currency, context.now_us, note
    )  # fmt: skip
    told = Event(
        context.now_us, "invoice_paid", found.id,
        f"{Money(nano, found.currency)} came in for {found.kind.replace('_', ' ')} {found.number}.",
        found.organization_id, detail={"amount_nano": nano, "note": note, "member_id": caller.member_id},
    )  # fmt: skip
    return Changes((paid,), (told,)), paid


def correct_invoice(
    world: World, context: Context, caller: Caller, invoice_id: str
) -> tuple[Changes, tuple[Invoice, ...]]:
    """Notes now, rather than at the next close, on what came late of an invoice's month (operator only).

    One for each open month in which anything came, none when nothing did; what comes later still is on a further note.
    """
    caller.need(Permission.INVOICES_WRITE, caller.organization_id)
    found = invoice(world, context, caller, invoice_id)
    if found.kind != notes.INVOICE:
        raise Conflict("Only an invoice can be corrected, not a note.", next_step="Correct the invoice it is on.")
    month, number, parts = context.spending.to_close.get(found.organization_id, ""), world.last_invoice, NOTHING
    while found.month < month <= month_of(context.now_us):
        made = gather(late_notes(
            world, context.reads, found.organization_id, month, number, context.now_us, only=found.month
        ))  # fmt: skip
        number += sum(isinstance(row, Invoice) for row in made.rows)
        parts, month = parts + made, next_month(month)
    return parts, tuple(row for row in parts.rows if isinstance(row, Invoice))


def credit_invoice(
    world: World, context: Context, caller: Caller, invoice_id: str, *, amount: str, reason: str
) -> tuple[Changes, Invoice]:
    """Give back a part of an invoice, before tax, by a credit note (operator only)."""
    caller.need(Permission.INVOICES_WRITE, caller.organization_id)
    found = invoice(world, context, caller, invoice_id)
    if found.kind != notes.INVOICE:
        raise Conflict("Only an invoice can be credited, not a note.", next_step="Credit the invoice it corrects.")
    money = parse_money(amount, field="amount", currency=found.currency)
    if money.currency != found.currency:
        raise Invalid(
            f"The invoice is in {found.currency}.",
            field="amount",
            value=amount,
            allowed=f"an amount in {found.currency}",
        )
    earlier = _notes_on(context, found)
    credited = sum(each.net_nano for each in earlier if each.kind == notes.CREDIT)
    note, transfers = notes.goodwill(
        found, money.nano, _reason(reason), credited, f"{found.id}.credit{len(earlier) + 1}", world.last_invoice + 1,
        context.now_us,
    )  # fmt: skip
    return Changes((note, *transfers), (_told(note, caller, context.now_us),)), note


def _notes_on(context: Context, document: Invoice) -> list[Invoice]:
    owner = document.organization_id
    return context.reads.find(Invoice, organization_id=owner, corrects=document.id, limit=500)


def _own_transfers(context: Context, document: Invoice) -> list[Transfer]:
    """The transfers that the closing itself made: tax, settlement, rounding."""
    found = context.reads.find(
        Transfer, id__prefix=f"{document.id}.", organization_id=document.organization_id, limit=500
    )
    return [each for each in found if each.source == document.id]


def _reason(text: str) -> str:
    if not text.strip() or len(text) > _LONGEST or not text.isprintable():
        raise Invalid("A note says why.", field="reason", value=text[:80], allowed="1 to 200 printable characters")
    return text.strip()


def _told(note: Invoice, caller: Caller, now_us: int) -> Event:
    return Event(
        at_us=now_us, kind="invoice_closed", subject=note.id, organization_id=note.organization_id,
        reason=f"{_TITLES[note.kind]} {note.number} on {note.corrects}: {Money(note.total_nano, note.currency)}. "
        f"{note.reason}",
        detail={
            "number": note.number, "month": note.month, "currency": note.currency, "kind": note.kind,
            "total_nano": note.total_nano, "from_wallet_nano": note.from_wallet_nano,
            "payable_nano": note.payable_nano, "member_id": caller.member_id, "key_id": caller.key_id,
        },
    )  # fmt: skip
