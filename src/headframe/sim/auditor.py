"""The auditor: every bill computed a second time, from events alone, by rules written down a second time.

It shares nothing with metering, pricing and ledger but their records; `auditor_rates` holds its arithmetic. What it
finds it compares with charges, with transfers, with the chain of transfers and with invoices.

The rules: time is charged from running to release, whatever is held, at the price in force at each moment; the
customer's own price before the list's, at the exchange rate of that moment. Cuts are made at each UTC hour and where
the price changes. Each stretch is rounded half to even to a nano-unit. What ran for less than the price's least time is
topped up to it, unless it ended through our fault. What a contract covers costs nothing but its fee. Events of use are
counted once each, however often they are told. Prepaid credit is used before anything is owed. A month's invoice holds
what fell due after its first moment and up to its last; what came later is on notes.

Prices with tiers are worked out by the whole quantity of each month, levels by the time that they were held, credits by
an SLA from when what was used ran and was under our repair. Taken as it is, and counted in `Audit.taken`, is only what
tiers cost in a month in which their exchange rate changed, and use by meters that were defined after events of theirs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from hashlib import sha256
from itertools import zip_longest
from typing import Any

from headframe.base.changes import Event
from headframe.control.ports import Reads
from headframe.fleet.records import Allocation
from headframe.jobs.life import AFTER_OUR_FAULT
from headframe.jobs.records import Job
from headframe.ledger.records import Invoice, InvoiceLine, Transfer
from headframe.metering.records import Intake, Meter, UsageEvent
from headframe.pricing.records import Charge, Contract
from headframe.sim.auditor_counted import counted_differ, quantities, tiers_differ
from headframe.sim.auditor_rates import (
    HOUR_US,
    Difference,
    Item,
    Life,
    Story,
    Tariff,
    bill,
    cover_bill,
    fee_items,
    read_story,
)
from headframe.sim.auditor_sla import sla_differ
from headframe.tenants.records import Organization
from headframe.workloads.records import Dataset

PAGE = 2000
COUNTED, KEPT = "events", "kept"  # the records that tell how far events are counted, and levels weighed
HELD = ("cpu", "memory", "disk")
_DIGITS = {"JPY": 0, "KRW": 0, "KWD": 3}  # behind the point; two for every other currency


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at, and every difference, the first one first."""

    allocations: int
    charges: int
    invoices: int
    differences: tuple[Difference, ...]
    transfers: int = 0
    taken: int = 0

    @property
    def clean(self) -> bool:
        return not self.differences

    def told(self) -> dict[str, Any]:
        """For people and programs: counts, and every difference as a text."""
        return {
            "clean": self.clean, "allocations": self.allocations, "charges": self.charges,
            "transfers": self.transfers, "invoices": self.invoices, "taken": self.taken,
            "differences": [str(each) for each in self.differences],
        }  # fmt: skip


def audit(reads: Reads, month: str | None = None) -> Audit:
    """Compare the whole books of a store with its events; with `month`, tell what is about that month only."""
    story = read_story(_events(reads))
    charges = {each.id: each for each in _all(reads, Charge)}
    transfers = list(_all(reads, Transfer))
    invoices = list(_all(reads, Invoice))
    books = _Books(
        story,
        {each.id: each.currency for each in _all(reads, Organization)},
        charges,
        {each.id: each.metered_us for each in _all(reads, Allocation)},
        {each.id: each.rated_us for each in _all(reads, Contract)},
    )
    differences = [
        *_charges_differ(books),
        *_events_differ(reads, books),
        *sla_differ(story, books.rated, charges.values(), transfers, _waits(reads)),
        *_transfers_differ(charges, transfers),
        *_chain_differs(transfers),
        *_credits_differ(story, transfers),
        *_wallets_differ(story, transfers),
        *_invoices_differ(invoices, charges.values(), transfers),
    ]
    if month is not None:
        about = {each.id for each in charges.values() if _month(each.at_us) == month}
        about |= {each.id for each in transfers if _month(each.at_us) == month}
        about |= {each.id for each in invoices if each.month == month}
        differences = [each for each in differences if each.month == month or any(name in each.about for name in about)]
        counts = [sum(_month(each.at_us) == month for each in rows) for rows in (charges.values(), transfers)]
        own = sum(each.month == month for each in invoices)
        return Audit(len(story.lives), counts[0], own, tuple(differences), counts[1], books.taken)
    return Audit(len(story.lives), len(charges), len(invoices), tuple(differences), len(transfers), books.taken)


@dataclass(slots=True)
class _Books:
    """What is on record, beside the story."""

    story: Story
    currencies: dict[str, str]
    charges: dict[str, Charge]
    metered: dict[str, int]
    rated: dict[str, int]
    taken: int = 0


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


# Charges.


def _charges_differ(books: _Books) -> Iterator[Difference]:
    """Allocation by allocation and contract by contract, each charge of what was held."""
    expected, found = _expected(books), _found(books)
    tiers = {price["id"] for price in books.story.prices if price["tiers"]}
    tiered: list[tuple[str, Item]] = []
    for name, items in expected.items():
        owner = books.story.lives[name].organization_id if name in books.story.lives else ""
        tiered += [(owner, one) for one in items if one.price_id in tiers and one.kind == "usage"]
        expected[name] = [one for one in items if one.price_id not in tiers or one.kind != "usage"]
    yield from _tiers_differ(books, tiered)
    for name in sorted(expected.keys() | found.keys()):
        wanted, had = sorted(expected.get(name, ())), sorted(item for item, _ in found.get(name, ()))
        life = books.story.lives.get(name)
        about = f"a charge of {name}" + (f" ({life.job_id})" if life is not None else "")
        for want, have in zip_longest(wanted, had):
            if want != have:
                at_us = (want or have).to_us
                yield Difference(about, want, have, _month(at_us))
                break
        if life is not None:
            yield from _owners_differ(life, books, (charge for _, charge in found.get(name, ())))


def _owners_differ(life: Life, books: _Books, charges: Iterable[Charge]) -> Iterator[Difference]:
    currency = books.currencies[life.organization_id]
    for charge in charges:
        owner = (charge.organization_id, charge.project_id, charge.job_id, charge.currency, charge.at_us)
        if owner != (life.organization_id, life.project_id, life.job_id, currency, charge.to_us):
            yield Difference(f"the owner of charge {charge.id}", life, charge, _month(charge.at_us))


def _expected(books: _Books) -> dict[str, list[Item]]:
    """What should be charged of every allocation and every contract."""
    story = books.story
    expected: dict[str, list[Item]] = defaultdict(list)
    tariffs: dict[str, Tariff] = {}
    ends: dict[str, list[tuple[Life, int]]] = defaultdict(list)
    by_owner: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for contract in story.contracts.values():
        by_owner[contract["organization_id"]].append(contract)
    for name, life in sorted(story.lives.items()):
        metered_us = books.metered.get(name, life.held_us)
        end_us = metered_us if life.released_us is None else min(metered_us, life.released_us)
        owner = life.organization_id
        tariffs[name] = Tariff(story, owner, life.region_id, life.purchase, books.currencies[owner])
        ends[owner].append((life, end_us))
        expected[name] += bill(life, tariffs[name], end_us, by_owner[owner])
    for owner, contracts in sorted(by_owner.items()):
        promised = [one for one in contracts if one["quantity"]]
        until_us = max((books.rated[one["id"]] for one in promised), default=0)
        begin_us = min((one["from_us"] for one in promised), default=0)
        for hour_us in range(begin_us - begin_us % HOUR_US, until_us, HOUR_US):
            now = [one for one in promised if books.rated[one["id"]] > hour_us]
            for name, one in cover_bill(ends[owner], now, tariffs, hour_us):
                expected[name].append(one)
        for contract in contracts:
            expected[contract["id"]] += fee_items(contract, books.rated[contract["id"]])
    return expected


def _found(books: _Books) -> dict[str, list[tuple[Item, Charge]]]:
    """What was charged of them, with what later corrections came to; nothing of nothing is left out."""
    corrected: dict[str, list[Charge]] = defaultdict(list)
    for charge in books.charges.values():
        if charge.kind == "correction":
            corrected[charge.corrects].append(charge)
    found: dict[str, list[tuple[Item, Charge]]] = defaultdict(list)
    tiers = {price["id"] for price in books.story.prices if price["tiers"]}
    for charge in books.charges.values():
        held = charge.meter.startswith("gpu:") or charge.meter in HELD or charge.kind == "fee"
        if charge.kind in ("credit", "tier") or (charge.price_id in tiers and charge.kind == "usage"):
            continue  # worked out by the month
        if held and charge.kind != "correction" and (charge.quantity or charge.amount_nano):
            later = sorted(corrected.get(charge.id, ()), key=lambda one: (one.at_us, one.id))
            last = later[-1] if later else charge
            amount = charge.amount_nano + sum(one.amount_nano for one in later)
            found[charge.allocation_id or charge.contract_id].append(
                (
                    Item(
                        charge.meter, charge.kind, charge.from_us, charge.to_us, charge.quantity, last.unit_nano,
                        amount, last.price_id,
                    ),
                    charge,
                )
            )  # fmt: skip
    return found


def _events_differ(reads: Reads, books: _Books) -> Iterator[Difference]:
    """Use that was told by events, levels and datasets: the quantity of each window, and each charge by its price."""
    events = list(_all(reads, UsageEvent))
    counted, kept = (reads.get(Intake, name) for name in (COUNTED, KEPT))
    if (counted.arrival if counted is not None else 0) < max((each.arrival for each in events), default=0):
        return  # some events wait to be counted
    meters, late = [], set()
    for meter in _all(reads, Meter):
        early = any(each.type == meter.event_type and each.received_us <= meter.created_us for each in events)
        (late.add(meter.id) if early else meters.append(meter))
    refused = any(each.kind == "charge_refused" for each in _events(reads))
    own = [each for each in books.charges.values() if each.meter not in late or each.kind == "correction"]
    books.taken += len(books.charges) - len(own)
    if not refused:
        told = quantities(meters, events, _all(reads, Dataset), 0 if kept is None else kept.arrival)
        yield from counted_differ(told, own, books.story, books.currencies)


def _tiers_differ(books: _Books, held: Iterable[tuple[str, Item]]) -> list[Difference]:
    differences, taken = tiers_differ(held, books.charges.values(), books.story, books.currencies)
    books.taken += taken
    return differences


def _waits(reads: Reads) -> Callable[[str, int], bool]:
    """Whether a job that had ended through a fault of ours waited at a moment to run again."""

    def waits(job_id: str, at_us: int) -> bool:
        job: Job | None = reads.get(Job, job_id)
        return job is not None and (
            job.reason == AFTER_OUR_FAULT if job.ended_us is None else job.ended_us > at_us
        )  # fmt: skip

    return waits


# Transfers and credit.

_GRANTED = ("credit_paid", "credit_given")
_NOT_OF_CHARGES = ("tax", "rounding", "settlement", "void", "goodwill", "reversal", "reissue", "payment")


def _chain_differs(transfers: list[Transfer]) -> Iterator[Difference]:
    """Work the digests of the chain out again, by their own rule."""
    before = ""
    ordered = sorted((each for each in transfers if each.number), key=lambda each: each.number)
    for number, each in enumerate(ordered, 1):
        fields = (
            before, each.id, each.debit, each.credit, each.amount_nano, each.currency, each.at_us, each.kind,
            each.source, each.organization_id, each.note, each.reverses, each.recorded_us, number,
        )  # fmt: skip
        before = sha256(ascii(fields).encode()).hexdigest()
        if (each.number, each.chain) != (number, before):
            yield Difference(f"link {number} of the chain, transfer {each.id}", before, each.chain, _month(each.at_us))
            return


def _transfers_differ(charges: dict[str, Charge], transfers: list[Transfer]) -> Iterator[Difference]:
    """Each transfer has a charge behind it, and all of a charge together move what it comes to.

    A correction of what was closed may come as a pair: a reversal of what was booked before, and all of it anew.
    """
    paid: dict[str, int] = defaultdict(int)
    known = {each.id: each for each in transfers}
    turned = {each.source for each in transfers if each.kind == "reversal"}
    for transfer in transfers:
        charge = charges.get(transfer.source)
        if charge is None:
            if transfer.kind not in _NOT_OF_CHARGES and not transfer.kind.startswith("credit_"):
                yield Difference(f"transfer {transfer.id}", "a charge behind it", transfer, _month(transfer.at_us))
            continue
        owner = charge.organization_id
        accounts = (f"wallet:{owner}", f"receivable:{owner}")
        forth = transfer.debit in accounts
        sides = (transfer.debit, transfer.credit) if forth else (transfer.credit, transfer.debit)
        kind = "reversal" if transfer.reverses else charge.kind
        if (
            sides[0] not in accounts
            or sides[1] != f"revenue:{charge.meter}"
            or (transfer.currency, transfer.kind, transfer.at_us) != (charge.currency, kind, charge.at_us)
            or (charge.id not in turned and forth != (charge.amount_nano >= 0))
        ):
            yield Difference(f"transfer {transfer.id}", charge, transfer, _month(transfer.at_us))
        paid[charge.id] += transfer.amount_nano if forth else -transfer.amount_nano
        before = known.get(transfer.reverses)
        if transfer.reverses and (
            before is None
            or (before.debit, before.credit, before.amount_nano)
            != (transfer.credit, transfer.debit, transfer.amount_nano)
        ):
            yield Difference(f"what {transfer.id} takes back", transfer.reverses, before, _month(transfer.at_us))
    for name, charge in sorted(charges.items()):
        if paid[name] != charge.amount_nano:
            about = f"what was booked for charge {name}"
            yield Difference(about, charge.amount_nano, paid[name], _month(charge.at_us))


def _credits_differ(story: Story, transfers: list[Transfer]) -> Iterator[Difference]:
    expected = sorted(
        (event.organization_id, event.at_us, event.detail["amount_nano"], event.detail["currency"])
        for event in story.credits
    )
    found = sorted(
        (each.organization_id, each.at_us, each.amount_nano, each.currency)
        for each in transfers
        if each.credit.startswith("wallet:") and each.kind in _GRANTED
    )
    if expected != found:
        missing = [each for each in expected if each not in found]
        surplus = [each for each in found if each not in expected]
        yield Difference("credits", missing or expected, surplus or found)


def _wallets_differ(story: Story, transfers: list[Transfer]) -> Iterator[Difference]:
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
        elif transfer.credit == f"wallet:{transfer.organization_id}" and transfer.kind not in (
            "credit_paid",
            "credit_given",
        ):
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
        if invoice.kind == "invoice" and not invoice.corrects:
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
    for (project, meter, kind, purchase, contract, unit_nano, unit, fx, pico, source, fx_us, tax), sum_of in sorted(
        sums.items()
    ):
        quantity, amount = sum_of
        held = unit.endswith(("-hour", "-month")) and (meter.startswith("gpu:") or meter in HELD)
        made.append(
            InvoiceLine(
                project, meter, kind, unit_nano,
                round(Fraction(quantity, 1_000_000)) if held else quantity,  # thousandths or MiB, times seconds
                amount, round(Fraction(amount, step)) * step, unit, purchase, contract, fx, pico, source, fx_us, tax,
            )
        )  # fmt: skip
    return tuple(made)


def _month(at_us: int) -> str:
    """The UTC month that a moment ends or lies in: midnight of the first still belongs to the month before."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us - 1)).strftime("%Y-%m")
