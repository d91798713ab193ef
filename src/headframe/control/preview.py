"""What all bills of a month would have been under other prices, beside what was charged.

Rated in columns (`pricing.batch`), from the usage records themselves: without any other price it is a second
calculation of what was charged, to the nano-unit. Credits by an SLA depend on what was charged and are left out, on
both sides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headframe.base.errors import Invalid
from headframe.base.quantities import parse_moment_us
from headframe.control.commands_prices import Told, read_price
from headframe.control.context import Context
from headframe.control.ports import Columns, Reads
from headframe.control.queries_tenancy import find_organization
from headframe.control.stage_invoices import LINE, line_of, terms_of
from headframe.control.stage_money import every
from headframe.control.world import World
from headframe.ledger.close import Terms, close_month, month_span_us
from headframe.ledger.records import Invoice, InvoiceLine
from headframe.pricing.batch import Batch, Rated, rate_batch
from headframe.pricing.book import Book
from headframe.pricing.fees import fees, next_due_us
from headframe.pricing.records import Charge, Contract, Exchange, Price
from headframe.pricing.revise import instead
from headframe.pricing.units import default_unit
from headframe.tenants.records import Organization
from headframe.tenants.roles import Caller, Permission

MOST_PRICES = 1000


@dataclass(frozen=True, slots=True)
class Bill:
    """One customer's month: `charged_nano` as it was, `rated_nano` as it would have been; both exact, before tax.

    `net_nano`, `tax_nano` and `total_nano` are those of the invoice that `rated_nano` would have made.
    """

    organization_id: str
    month: str
    currency: str
    charged_nano: int
    rated_nano: int
    net_nano: int
    tax_nano: int
    total_nano: int
    lines: tuple[InvoiceLine, ...]


Work = Callable[[Reads, Columns], list[Bill]]


def preview(
    world: World,
    context: Context,
    caller: Caller,
    *,
    month: str,
    prices: Sequence[Mapping[str, Any]] = (),
    organization: str | None = None,
) -> Work:
    """The bills of a month of all customers, or of one, if these prices had held in it (operator only).

    A price is told as to `set_price`, and holds in place of all of its kind: from the month's beginning unless it says
    `starts`, until `ends`.
    """
    caller.need(Permission.PRICES_WRITE, caller.organization_id)
    begin_us, _ = month_span_us(month)
    if len(prices) > MOST_PRICES:
        raise Invalid(f"There are {len(prices)} prices.", field="prices", allowed=f"up to {MOST_PRICES}")
    held = list(world.all(Price).values())
    for number, told in enumerate(prices):
        fields = dict(told)
        starts, ends = fields.pop("starts", None), fields.pop("ends", None)
        from_us = begin_us if starts is None else parse_moment_us(starts, field=f"prices[{number}].starts")
        to_us = None if ends is None else parse_moment_us(ends, field=f"prices[{number}].ends")
        if to_us is not None and to_us <= from_us:
            raise Invalid("ends is not after the start.", field=f"prices[{number}].ends", value=ends, allowed="later")
        held = instead(held, read_price(world, context, caller, Told(**fields), from_us, to_us))
    book = Book(held, world.all(Exchange).values())
    houses = sorted(world.all(Organization).items())
    if organization is not None:
        house = find_organization(world, context, caller, organization)
        houses = [(house.id, house)]
    asked = [(house, terms_of(world, house)) for _, house in houses]

    def read(reads: Reads, columns: Columns) -> list[Bill]:
        bills = []
        for house, terms in asked:
            contracts = list(every(reads, Contract, organization_id=house.id))
            batch = columns.month(house.id, month)
            found = _bill(reads, house, month, draft_of(house.id, month, house.currency, batch, book, contracts, terms))
            if found.lines or found.charged_nano:
                bills.append(found)
        return bills

    return read


def _bill(reads: Reads, house: Organization, month: str, draft: Invoice) -> Bill:
    exact = sum(line.amount_nano for line in draft.lines)
    return Bill(
        house.id, month, house.currency, charged_nano(reads, house.id, month), exact, draft.net_nano, draft.tax_nano,
        draft.total_nano, draft.lines,
    )  # fmt: skip


def charged_nano(reads: Reads, organization_id: str, month: str) -> int:
    """What was charged of a month, corrections included that came after it was closed, without credits by an SLA."""
    begin_us, end_us = month_span_us(month)
    own = {"organization_id": organization_id}
    rows = reads.total(Charge, "amount_nano", ("kind",), at_us__ge=begin_us + 1, at_us__lt=end_us + 1, late_month="",
                       **own)  # fmt: skip
    rows += reads.total(Charge, "amount_nano", ("kind",), at_us__ge=begin_us + 1, late_month=month, **own)
    return sum(row["amount_nano"] for row in rows if row["kind"] != "credit")


def draft_of(
    organization_id: str, month: str, currency: str, batch: Batch, book: Book, contracts: Sequence[Contract],
    terms: Terms,
) -> Invoice:  # fmt: skip
    """The invoice that a month's use would make under a book; it has no number, and nothing is paid of it."""
    lines = _lines(rate_batch(batch, book, {organization_id: currency}, contracts))
    lines += [line for one in sorted(contracts, key=lambda each: each.id) for line in _fees(one, month)]
    end_us = month_span_us(month)[1]
    return close_month(organization_id, month, currency, lines, 0, 0, end_us, terms=terms)[0]


def _lines(rated: Iterable[Rated]) -> list[InvoiceLine]:
    """One line for what is alike, as on invoices."""
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for one in rated:
        use, price, fx = one.use, one.offer.price, one.offer.exchange
        about = (use.project_id, use.meter, one.kind, use.purchase, "", price.unit or default_unit(use.meter))
        exchange = ("", 0, "", 0) if fx is None else (fx.base, fx.rate_pico, fx.source, fx.from_us)
        line = sums[(*about, one.unit_nano, *exchange, "S")]
        line[0] += one.quantity
        line[1] += one.amount_nano
    return [line_of(dict(zip(LINE, key, strict=True)), *found) for key, found in sums.items()]


def _fees(contract: Contract, month: str) -> list[InvoiceLine]:
    """What a contract asks for in a month, as far as it was asked."""
    begin_us, end_us = month_span_us(month)
    due_us = next_due_us(replace(contract, rated_us=begin_us))
    if contract.shape == "sla" or not begin_us < due_us <= min(end_us, contract.rated_us):
        return []
    return [
        InvoiceLine(
            fee.project_id, fee.meter, "fee", fee.unit_nano, fee.quantity, fee.amount_nano, unit=fee.unit,
            contract_id=contract.id, note=contract.title,
        )
        for fee in fees(contract, due_us)
    ]  # fmt: skip
