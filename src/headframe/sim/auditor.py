"""The auditor: every bill computed a second time, from events alone, by rules written down a second time.

It shares nothing with metering, pricing and ledger but their records. What it knows of the world are five kinds of
event: `allocation_held`, `allocation_running`, `allocation_released`, `price_set`, `credit_granted`. Sums are
fractions, rounded once. What it finds it compares with charges, with transfers and with invoices.

The rules: time is charged from running to release, whatever is held, at the price in force at each moment; the
customer's own price before the list's. Cuts are made at each UTC hour and where the price changes. Each stretch is rounded half to even to a nano-unit. What ran for
less than the price's least time is topped up to it, unless it ended through our fault. Prepaid credit is used before
anything is owed. A month's invoice holds what fell due after its first moment and up to its last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

from headframe.base.changes import Event
from headframe.control.ports import Reads
from headframe.fleet.records import Allocation
from headframe.ledger.records import Invoice, InvoiceLine, Transfer
from headframe.pricing.records import Charge
from headframe.tenants.records import Organization

HOUR_US = 3_600_000_000
# How much of what is held a unit of a price is, and for how many hours.
UNITS = {"gpu-hour": (1000, 1), "core-hour": (1000, 1), "GiB-hour": (1024, 1), "GiB-month": (1024, 730)}
PAGE = 2000
_DIGITS = {"JPY": 0, "KRW": 0, "KWD": 3}  # behind the point; two for every other currency


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the books are not what the events say: what it is about, what should be there, and what is."""

    about: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.about}\n  by the events: {self.expected}\n  in the books:  {self.found}"


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One charge as the auditor computes it."""

    meter: str
    kind: str
    from_us: int
    to_us: int
    quantity: int
    unit_nano: int
    amount_nano: int
    price_id: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at, and every difference, the first one first."""

    allocations: int
    charges: int
    invoices: int
    differences: tuple[Difference, ...]
    transfers: int = 0

    @property
    def clean(self) -> bool:
        return not self.differences

    def told(self) -> dict[str, Any]:
        """For people and programs: counts, and every difference as a text."""
        return {
            "clean": self.clean, "allocations": self.allocations, "charges": self.charges,
            "transfers": self.transfers, "invoices": self.invoices,
            "differences": [str(each) for each in self.differences],
        }  # fmt: skip


@dataclass(slots=True)
class _Life:
    """An allocation as events tell it."""

    id: str
    job_id: str
    organization_id: str
    project_id: str
    purchase: str
    region_id: str
    slices: list[dict[str, Any]]
    held_us: int
    running_us: int | None = None
    released_us: int | None = None
    faulted: bool = False


@dataclass(slots=True)
class _Story:
    """All that the auditor takes from the events."""

    lives: dict[str, _Life] = field(default_factory=dict)
    prices: list[dict[str, Any]] = field(default_factory=list)
    credits: list[Event] = field(default_factory=list)


def audit(reads: Reads, month: str | None = None) -> Audit:
    """Compare the whole books of a store with its events; with `month`, tell what is about that month only."""
    story = _read(_events(reads))
    organizations = {each.id: each for each in _all(reads, Organization)}
    booked: dict[str, list[Charge]] = defaultdict(list)
    charges: dict[str, Charge] = {}
    for charge in _all(reads, Charge):
        booked[charge.allocation_id].append(charge)
        charges[charge.id] = charge
    transfers = list(_all(reads, Transfer))
    invoices = list(_all(reads, Invoice))
    metered = {each.id: each.metered_us for each in _all(reads, Allocation)}
    differences = [
        *_charges_differ(story, organizations, booked, metered),
        *_transfers_differ(charges, transfers),
        *_credits_differ(story, transfers),
        *_wallets_differ(story, transfers),
        *_invoices_differ(invoices, charges.values(), transfers),
    ]
    return Audit(len(story.lives), len(charges), len(invoices), tuple(differences), len(transfers))


# Reading.


def _all(reads: Reads, kind: type[Any]) -> Iterator[Any]:
    after: str | None = None
    while page := reads.find(kind, after=after, limit=PAGE):
        yield from page
        after = page[-1].id


def _events(reads: Reads) -> Iterator[Event]:
    after = 0
    while page := reads.events(after=after, limit=PAGE):
        yield from page
        after = page[-1].seq


def _read(events: Iterable[Event]) -> _Story:
    story = _Story()
    for event in events:
        detail = event.detail
        if event.kind == "allocation_held":
            story.lives[detail["allocation"]] = _Life(
                detail["allocation"], event.subject, event.organization_id, event.project_id, detail["purchase"],
                detail["region"], detail["slices"], event.at_us,
            )  # fmt: skip
        elif event.kind == "allocation_running":
            story.lives[detail["allocation"]].running_us = event.at_us
        elif event.kind == "allocation_released":
            life = story.lives[detail["allocation"]]
            life.released_us, life.faulted = event.at_us, detail["faulted"]
        elif event.kind == "price_set":
            story.prices.append(detail)
        elif event.kind == "credit_granted":
            story.credits.append(event)
    # A price may be set again, such as to end it: the last word counts.
    story.prices = list({price["id"]: price for price in story.prices}.values())
    return story


# Charges.


def _charges_differ(
    story: _Story, organizations: dict[str, Organization], booked: dict[str, list[Charge]], metered: dict[str, int]
) -> Iterator[Difference]:
    for name in sorted(booked.keys() - story.lives.keys()):
        yield Difference(f"charges of {name}", "no such allocation", booked[name][0])
    for name, life in sorted(story.lives.items()):
        end_us = life.released_us if life.released_us is not None else metered.get(name, life.held_us)
        if life.released_us is not None and metered.get(name, 0) < life.released_us:
            end_us = metered.get(name, life.held_us)  # its end is known, but not yet charged
        currency = organizations[life.organization_id].currency
        expected = sorted(_bill(life, story.prices, currency, end_us))
        found = sorted(
            Item(c.meter, c.kind, c.from_us, c.to_us, c.quantity, c.unit_nano, c.amount_nano, c.price_id)
            for c in booked.get(name, [])
        )
        for want, have in _pairs(expected, found):
            if want != have:
                yield Difference(f"a charge of {name} ({life.job_id})", want, have)
                break
        for charge in booked.get(name, []):
            owner = (charge.organization_id, charge.project_id, charge.job_id, charge.currency, charge.at_us)
            if owner != (life.organization_id, life.project_id, life.job_id, currency, charge.to_us):
                yield Difference(f"the owner of charge {charge.id}", life, charge)


def _pairs(expected: list[Item], found: list[Item]) -> Iterator[tuple[Item | None, Item | None]]:
    for place in range(max(len(expected), len(found))):
        yield (
            expected[place] if place < len(expected) else None,
            found[place] if place < len(found) else None,
        )


def _bill(life: _Life, prices: list[dict[str, Any]], currency: str, end_us: int) -> Iterator[Item]:
    """Everything that an allocation is charged up to a moment."""
    if life.running_us is None or end_us <= life.running_us:
        return
    ended = life.released_us is not None and end_us >= life.released_us
    for meter, held in sorted(_held(life.slices).items()):
        rivals = [price for price in prices if _answers(price, meter, life, currency)]
        price = None
        for from_us, to_us in _cuts(life.running_us, end_us, rivals, meter):
            price = _best(rivals, meter, from_us)
            if price is not None:
                yield _item(meter, "usage", from_us, to_us, held * (to_us - from_us), price)
        if ended and not life.faulted and price is not None:
            missing_us = price["minimum_us"] - (end_us - life.running_us)
            if missing_us > 0:
                yield _item(meter, "minimum", end_us, end_us, held * missing_us, price)


def _item(meter: str, kind: str, from_us: int, to_us: int, quantity: int, price: dict[str, Any]) -> Item:
    each, hours = UNITS[price["unit"] or ("GiB-hour" if meter in ("memory", "disk") else "gpu-hour")]
    amount = round(Fraction(quantity, each) * Fraction(price["unit_nano"], hours * HOUR_US))  # half to even
    return Item(meter, kind, from_us, to_us, quantity, price["unit_nano"], amount, price["id"])


def _held(slices: list[dict[str, Any]]) -> dict[str, int]:
    held: dict[str, int] = defaultdict(int)
    for part in slices:
        for share in part["shares"]:
            held["gpu:" + share["kind"]] += share["milli"]
        for meter, name in (("cpu", "cpu_milli"), ("memory", "memory_mib"), ("disk", "disk_mib")):
            held[meter] += part[name]
    return {meter: quantity for meter, quantity in held.items() if quantity}


def _answers(price: dict[str, Any], meter: str, life: _Life, currency: str) -> bool:
    same_meter = price["meter"] == meter or (price["meter"] == "gpu:*" and meter.startswith("gpu:"))
    same_place = price["region_id"] in ("*", life.region_id) and price["purchase"] in ("*", life.purchase)
    for_them = price["organization_id"] in ("*", life.organization_id) and not price["term"]
    return same_meter and same_place and for_them and price["currency"] == currency


def _best(rivals: list[dict[str, Any]], meter: str, at_us: int) -> dict[str, Any] | None:
    """The price in force: the most exact one, then the latest, then the greater id."""
    live = [p for p in rivals if p["from_us"] <= at_us and (p["to_us"] is None or p["to_us"] > at_us)]
    return max(
        live,
        key=lambda p: (
            p["organization_id"] != "*", p["meter"] == meter, p["region_id"] != "*", p["purchase"] != "*",
            p["from_us"], p["id"],
        ),
        default=None,
    )  # fmt: skip


def _cuts(from_us: int, to_us: int, rivals: list[dict[str, Any]], meter: str) -> Iterator[tuple[int, int]]:
    """[from, to) cut at UTC hours, and where another price takes over."""
    marks = {from_us, to_us, *range(from_us - from_us % HOUR_US + HOUR_US, to_us, HOUR_US)}
    for mark in (mark for price in rivals for mark in (price["from_us"], price["to_us"])):
        # A mark counts only where the answer changes: a lesser price may begin unheard.
        if (
            mark is not None
            and from_us < mark < to_us
            and _best(rivals, meter, mark - 1) is not _best(rivals, meter, mark)
        ):
            marks.add(mark)
    yield from pairwise(sorted(marks))


# Transfers and credit.


def _transfers_differ(charges: dict[str, Charge], transfers: list[Transfer]) -> Iterator[Difference]:
    paid: dict[str, int] = defaultdict(int)
    for transfer in transfers:
        if transfer.kind not in ("usage", "minimum"):
            continue
        charge = charges.get(transfer.source)
        if charge is None:
            yield Difference(f"transfer {transfer.id}", "a charge behind it", transfer)
            continue
        owner = charge.organization_id
        accounts = (f"wallet:{owner}", f"receivable:{owner}")
        if (
            transfer.debit not in accounts
            or transfer.credit != f"revenue:{charge.meter}"
            or (transfer.currency, transfer.kind, transfer.at_us) != (charge.currency, charge.kind, charge.at_us)
        ):
            yield Difference(f"transfer {transfer.id}", charge, transfer)
        paid[charge.id] += transfer.amount_nano
    for name, charge in sorted(charges.items()):
        if paid[name] != charge.amount_nano:
            yield Difference(f"what was booked for charge {name}", charge.amount_nano, paid[name])


def _credits_differ(story: _Story, transfers: list[Transfer]) -> Iterator[Difference]:
    expected = sorted(
        (event.organization_id, event.at_us, event.detail["amount_nano"], event.detail["currency"])
        for event in story.credits
    )
    found = sorted(
        (each.organization_id, each.at_us, each.amount_nano, each.currency)
        for each in transfers
        if each.credit.startswith("wallet:") and each.kind.startswith("credit")
    )
    if expected != found:
        missing = [each for each in expected if each not in found]
        surplus = [each for each in found if each not in expected]
        yield Difference("credits", missing or expected, surplus or found)


def _wallets_differ(story: _Story, transfers: list[Transfer]) -> Iterator[Difference]:
    """No wallet gives more than was put in; and nothing is owed that credit could have paid.

    When a charge was booked is not on record, only when it fell due; so of what is owed this much is certain: credit
    granted by then that was never used up at all would have been there to pay it.
    """
    used: dict[tuple[str, str], int] = defaultdict(int)
    granted: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for event in story.credits:
        granted[event.organization_id, event.detail["currency"]].append((event.at_us, event.detail["amount_nano"]))
    for transfer in transfers:
        if transfer.debit == f"wallet:{transfer.organization_id}":
            used[transfer.organization_id, transfer.currency] += transfer.amount_nano
        elif transfer.credit == f"wallet:{transfer.organization_id}" and not transfer.kind.startswith("credit"):
            used[transfer.organization_id, transfer.currency] -= transfer.amount_nano
    for wallet in sorted(used.keys() | granted.keys()):
        total = sum(amount for _, amount in granted[wallet])
        if used[wallet] > total:
            yield Difference(f"the wallet of {wallet[0]}", f"at most {total} used", used[wallet])
    for transfer in transfers:
        if transfer.debit.startswith("receivable:") and transfer.kind in ("usage", "minimum"):
            wallet = (transfer.organization_id, transfer.currency)
            by_then = sum(amount for at_us, amount in granted[wallet] if at_us <= transfer.at_us)
            if by_then > used[wallet]:
                yield Difference(f"transfer {transfer.id}", f"paid from credit of {by_then - used[wallet]}", transfer)


# Invoices.


def _invoices_differ(
    invoices: list[Invoice], charges: Iterable[Charge], transfers: list[Transfer]
) -> Iterator[Difference]:
    by_month: dict[tuple[str, str], list[Charge]] = defaultdict(list)
    for charge in charges:
        by_month[charge.organization_id, _month(charge.at_us)].append(charge)
    known = {invoice.id for invoice in invoices}
    moved = _moved(transfers)
    for number, invoice in enumerate(sorted(invoices, key=lambda each: each.number), 1):
        if invoice.number != number:
            yield Difference(f"the number of invoice {invoice.id}", number, invoice.number)
        owner, month = invoice.organization_id, invoice.month
        if invoice.kind == "invoice":
            own = [each for each in by_month[owner, month] if f"{owner}.{each.late_month}" not in known]
            lines = _lines(own, invoice.currency)
            found = tuple(replace(line, project="", note="") for line in invoice.lines)  # but for names
            if set(lines) != set(found) or len(lines) != len(found):
                yield Difference(f"the lines of invoice {invoice.id}", lines, invoice.lines)
                continue
            booked = [moved[each.id] for each in own] + [moved[invoice.id]]
            owed, prepaid = (sum(column) for column in zip(*booked, strict=True))
        else:
            owed = prepaid = None
        yield from _sums_differ(invoice, owed, prepaid)


def _moved(transfers: list[Transfer]) -> dict[str, tuple[int, int]]:
    """By what stands behind transfers: how much more was owed for it, and how much credit was taken for it."""
    moved: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for each in transfers:
        accounts = (f"receivable:{each.organization_id}", f"wallet:{each.organization_id}")
        owed, prepaid = moved[each.source]
        change = [((each.debit == name) - (each.credit == name)) * each.amount_nano for name in accounts]
        moved[each.source] = owed + change[0], prepaid + change[1]
    return moved


def _sums_differ(invoice: Invoice, owed: int | None, prepaid: int | None) -> Iterator[Difference]:
    """The sums of a document: lines, tax, total, and what the books say was owed and was taken from credit."""
    net = sum(line.net_nano for line in invoice.lines)
    step = 10 ** (9 - _DIGITS.get(invoice.currency, 2))
    tax = sum(
        round(Fraction(each.basis_nano * each.percent_milli, 100_000 * step)) * step for each in invoice.taxes
    )  # half to even
    paid = invoice.from_wallet_nano if prepaid is None else round(Fraction(prepaid, step)) * step
    sums = (net, net, tax, net + tax, paid, net + tax - paid)
    basis = sum(each.basis_nano for each in invoice.taxes) if invoice.taxes else net
    found = (
        invoice.net_nano, basis, invoice.tax_nano, invoice.total_nano, invoice.from_wallet_nano, invoice.payable_nano,
    )  # fmt: skip
    if sums != found:
        yield Difference(f"net, taxed, tax, total, prepaid and payable of invoice {invoice.id}", sums, found)
    if owed is not None and owed != invoice.payable_nano:
        yield Difference(f"what is owed for invoice {invoice.id}", invoice.payable_nano, owed)


def _lines(charges: list[Charge], currency: str) -> tuple[InvoiceLine, ...]:
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for charge in charges:
        line = sums[
            charge.project_id, charge.meter, charge.kind, charge.purchase, charge.contract_id, charge.unit_nano,
            charge.unit, charge.fx_base, charge.fx_rate_pico, charge.fx_source, charge.fx_us, charge.tax,
        ]  # fmt: skip
        line[0] += charge.quantity
        line[1] += charge.amount_nano
    step = 10 ** (9 - _DIGITS.get(currency, 2))
    made = []
    for (project, meter, kind, purchase, contract, unit_nano, unit, *fx, tax), (quantity, amount) in sorted(
        sums.items()
    ):
        held = unit.endswith(("-hour", "-month"))
        made.append(
            InvoiceLine(
                project, meter, kind, unit_nano,
                round(Fraction(quantity, 1_000_000)) if held else quantity,  # thousandths or MiB, times seconds
                amount, round(Fraction(amount, step)) * step, unit, purchase, contract, *fx, tax,
            )
        )  # fmt: skip
    return tuple(made)


def _month(at_us: int) -> str:
    """The UTC month that a moment ends or lies in: midnight of the first still belongs to the month before."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us - 1)).strftime("%Y-%m")
