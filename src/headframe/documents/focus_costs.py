"""The costs of a month as FOCUS CostAndUsage, in columns: charges, and what invoices add to them.

Every charge stays what it is; what an invoice adds (the rounding of each line, tax, notes) becomes rows of their own
that name the same document. So the BilledCost of all rows with one InvoiceId is its total, to the nano-unit; that of
one InvoiceDetailId is its line but for the line's rounding, which is a row of its own. `focus.reconcile` holds them
against each other.

Rows are by day and resource (allocation): pieces of one day, price and contract are summed. Most columns are the same
for all rows of one price and customer: they are worked out once and repeated (`Spread`), so a large month is quick.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headframe.base.quantities import DAY_US
from headframe.documents import words
from headframe.documents.focus import UNITS, Month, Row, billing_month, frame, moment, money, number_of
from headframe.ledger.close import month_of, month_span_us
from headframe.ledger.notes import INVOICE, sign_of
from headframe.ledger.records import Invoice, InvoiceLine
from headframe.pricing.records import KINDS, Charge, Contract
from headframe.pricing.units import default_unit, size_of

AT_ONCE = 20_000  # rows that are held at one moment
CACHED = 100_000  # quantities whose prices are kept in mind
_PRICING = {"standard": "Standard", "dynamic": "Dynamic", "committed": "Committed"}
_SERVICES = {
    "gpu": ("Compute", "Other (Compute)", "GPU compute"),
    "cpu": ("Compute", "Virtual Machines", "GPU compute"),
    "memory": ("Compute", "Virtual Machines", "GPU compute"),
    "disk": ("Storage", "Block Storage", "Storage"),
    "storage": ("Storage", "Other (Storage)", "Storage"),
    "tokens": ("AI and Machine Learning", "Generative AI", "Model serving"),
}
_NO_SERVICE = ("Other", "Other (Other)", "Billing")
_TOLERANCE = Decimal("5e-10")  # of the cost, that price times quantity may miss: FOCUS tools allow twice that
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


class Key(NamedTuple):
    """What the charges of one row have in common. `labels` is their JSON text, `note` the note that bills them."""

    organization_id: str
    project_id: str
    resource_id: str
    day_us: int
    meter: str
    kind: str
    purchase: str
    pricing: str
    contract_id: str
    price_id: str
    unit: str
    unit_nano: int
    fx_base: str
    fx_rate_pico: int
    fx_source: str
    fx_us: int
    region_id: str
    tax: str
    currency: str
    month: str
    late_month: str
    labels: str = ""
    note: str = ""


@dataclass(slots=True)
class Sums:
    """What the charges of one row add up to."""

    quantity: int = 0
    amount_nano: int = 0
    list_nano: int = 0
    contracted_nano: int = 0
    effective_nano: int = 0
    from_us: int = 1 << 62
    to_us: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """A column whose values repeat: row i is `values[places[i]]`."""

    values: Sequence[Any]
    places: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Nano:
    """A column of amounts in nano-units."""

    values: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in columns; a column that is not there is empty. `billed` is the BilledCost by InvoiceId, in nano-units."""

    length: int
    columns: Mapping[str, Spread | Nano | list[Any]]
    billed: Mapping[str, int]


def gather_charges(charges: Iterable[Charge], invoices: Iterable[Invoice] = ()) -> dict[Key, Sums]:
    """Charges summed to rows; what came late is told apart by the notes that bill it."""
    sums: dict[Key, Sums] = defaultdict(Sums)
    notes = _late_notes(invoices)
    texts: dict[tuple[tuple[str, str], ...], str] = {}
    for one in charges:
        note = ""
        if one.late_month:
            own = notes.get((one.organization_id, one.late_month, month_of(one.at_us)), ())
            note = next((name for until_us, name in own if one.at_us < until_us), "")
        labels = tuple(sorted(one.labels.items())) if one.labels and one.kind != "credit" else ()
        if labels and labels not in texts:
            texts[labels] = json.dumps(dict(labels), ensure_ascii=False)
        key = Key(
            one.organization_id, one.project_id, one.allocation_id, one.from_us - one.from_us % DAY_US, one.meter,
            one.kind, one.purchase, one.pricing, one.contract_id, one.price_id, one.unit, one.unit_nano, one.fx_base,
            one.fx_rate_pico, one.fx_source, one.fx_us, one.region_id, one.tax, one.currency, month_of(one.at_us),
            one.late_month, texts.get(labels, ""), note,
        )  # fmt: skip
        row = sums[key]
        row.quantity += one.quantity
        row.amount_nano += one.amount_nano
        row.list_nano += one.list_nano or one.amount_nano * (one.kind in ("usage", "minimum"))
        row.contracted_nano += one.contracted_nano or one.amount_nano * (one.kind in ("usage", "minimum"))
        row.effective_nano += one.effective_nano or one.amount_nano * (one.kind in ("usage", "minimum"))
        row.from_us, row.to_us = min(row.from_us, one.from_us), max(row.to_us, one.to_us)
    return sums


def _late_notes(invoices: Iterable[Invoice]) -> dict[tuple[str, str, str], list[tuple[int, str]]]:
    """(organization, closed month, month of booking) -> (until when what came is on it, the note), in order of time.

    A note that was asked for holds what was due before it was made, the note of the close all the rest.
    """
    notes: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
    for each in invoices:
        rest = each.id.removeprefix(f"{each.organization_id}.{each.month}.")
        if each.kind != INVOICE and rest[:1].isdigit():
            until_us = _MOST if len(rest) == len("2026-12") else each.closed_us
            notes[each.organization_id, each.month, rest[:7]].append((until_us, each.id))
    return {key: sorted(own) for key, own in notes.items()}


def cost_and_usage(month: Month, pieces: Mapping[Key, Sums]) -> Iterator[Table]:
    """CostAndUsage in tables, in the order of keys; then the rows that invoices add."""
    costs = _Costs(month)
    ordered = iter(sorted(pieces))
    while keys := list(islice(ordered, AT_ONCE)):
        yield costs.table(keys, [pieces[key] for key in keys])
    rows = [row for document in month.invoices for row in _document_rows(month, document, costs.billed)]
    if rows:
        yield tabled(rows)


def tabled(rows: Sequence[Row]) -> Table:
    """Rows as a table."""
    names = {name: None for row in rows for name in row}
    billed: dict[str, int] = defaultdict(int)
    for row in rows:
        billed[row.get("InvoiceId") or ""] += int((row.get("BilledCost") or Decimal(0)).scaleb(9))
    return Table(len(rows), {name: [row.get(name) for row in rows] for name in names}, billed)


@dataclass(slots=True)
class _Kind:
    """What all rows of one price, contract and customer have in common."""

    key: Key
    row: Row
    detail_id: str
    adjusts: bool  # its effect is what is billed
    priced: bool
    usage: bool
    contract: Contract | None


class _Costs:
    """Makes tables of keys and sums; `billed` adds up what each line of each document bills."""

    def __init__(self, month: Month) -> None:
        self._month = month
        self._places = _places(month.invoices)
        self._contracts = {each.id: each for each in month.contracts}
        self._kinds: list[_Kind] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._moments: dict[int, str] = {}
        self._priced: dict[tuple[int, int, int, int], tuple[Decimal, Decimal, Decimal]] = {}
        self.billed: dict[str, int] = defaultdict(int)

    def table(self, keys: Sequence[Key], sums: Sequence[Sums]) -> Table:
        places = [self._place(key) for key in keys]
        kinds = [self._kinds[place] for place in places]
        billed: dict[str, int] = defaultdict(int)
        for kind, one in zip(kinds, sums, strict=True):
            self.billed[kind.detail_id] += one.amount_nano
            billed[kind.row["InvoiceId"] or ""] += one.amount_nano
        resources = [key.resource_id or None for key in keys]
        effects = [
            one.amount_nano if kind.adjusts else one.effective_nano for kind, one in zip(kinds, sums, strict=True)
        ]
        columns: dict[str, Spread | Nano | list[Any]] = self._repeated(places)
        columns |= {
            "BilledCost": _amounts([one.amount_nano for one in sums]),
            "ListCost": _amounts([one.list_nano for one in sums]),
            "ContractedCost": _amounts([one.contracted_nano for one in sums]),
            "EffectiveCost": _amounts(effects),
            "ChargePeriodStart": [self._moment(one.from_us) for one in sums],
            "ChargePeriodEnd": [self._moment(max(one.to_us, one.from_us)) for one in sums],
            "ResourceId": resources, "ResourceName": resources,
            "ResourceType": ["Allocation" if name else None for name in resources],
        }  # fmt: skip
        return Table(len(keys), columns | self._quantities(places, kinds, sums, effects), billed)

    def _repeated(self, places: list[int]) -> dict[str, Spread | Nano | list[Any]]:
        used = sorted(set(places))
        at = {place: number for number, place in enumerate(used)}
        where = np.array([at[place] for place in places], dtype=np.int64)
        names = {name: None for place in used for name in self._kinds[place].row}
        return {name: Spread([self._kinds[place].row.get(name) for place in used], where) for name in names}

    def _quantities(
        self, places: list[int], kinds: list[_Kind], sums: Sequence[Sums], effects: list[int]
    ) -> dict[str, list[Any]]:
        """Quantities, unit prices and what of a contract was applied: for what has them."""
        found: list[tuple[Decimal | None, Decimal | None, Decimal | None]] = []
        for place, kind, one in zip(places, kinds, sums, strict=True):
            if not kind.priced:
                found.append((None, None, None))
                continue
            asked = (place, one.quantity, one.list_nano, one.contracted_nano)
            known = self._priced.get(asked)
            if known is None:
                if len(self._priced) >= CACHED:
                    self._priced.clear()
                known = self._priced[asked] = _priced(kind, one)
            found.append(known)
        quantity, listed, contracted = (list(column) for column in zip(*found, strict=True))
        committed = [kind.contract is not None for kind in kinds]
        rows = list(zip(quantity, kinds, strict=True))
        return {
            "PricingQuantity": quantity, "ListUnitPrice": listed, "ContractedUnitPrice": contracted,
            "ConsumedQuantity": [each if kind.usage and kind.key.kind != "unused" else None for each, kind in rows],
            "CommitmentDiscountQuantity": [
                each if bound else None for each, bound in zip(quantity, committed, strict=True)
            ],
            "ContractApplied": [
                _applied(kind.contract, nano) if kind.contract is not None and kind.usage else None
                for kind, nano in zip(kinds, effects, strict=True)
            ],
        }  # fmt: skip

    def _moment(self, us: int) -> str:
        known = self._moments.get(us)
        if known is None:
            if len(self._moments) >= CACHED:
                self._moments.clear()
            known = self._moments[us] = moment(us)
        return known

    def _place(self, key: Key) -> int:
        about = (*key[:2], *key[4:])
        place = self._known.get(about)
        if place is None:
            place = self._known[about] = len(self._kinds)
            self._kinds.append(self._kind(key))
        return place

    def _kind(self, key: Key) -> _Kind:
        invoice_id, detail_id = _place_of(key, self._places)
        contract = self._contracts.get(key.contract_id)
        category = KINDS.get(key.kind, "Usage")
        row = _common(self._month, key, category, contract)
        row |= {"InvoiceId": invoice_id or None, "InvoiceDetailId": detail_id or None}
        bound = contract if key.kind in ("covered", "unused", "fee") else None
        priced = category in ("Usage", "Purchase")
        if priced:
            row |= _price_words(key, category)
        if bound is not None:
            row |= _commitment_words(key, row, bound)
        adjusts = category in ("Credit", "Adjustment")
        return _Kind(key, row, detail_id, adjusts, priced, category == "Usage", bound)


def _amounts(nano: list[int]) -> Nano | list[Any]:
    if all(_LEAST <= one <= _MOST for one in nano):
        return Nano(np.array(nano, dtype=np.int64))
    return [money(one) for one in nano]


def _common(month: Month, key: Key, category: str, contract: Contract | None) -> Row:
    service = _SERVICES.get(key.meter.partition(":")[0], _NO_SERVICE)
    row = frame(month, key.organization_id, key.month, key.currency) | {
        "ChargeCategory": category, "ChargeFrequency": _frequency(category, contract),
        "ChargeClass": "Correction" if key.late_month else None,
        "ChargeDescription": _described(key, contract.title if contract is not None else ""),
        "ServiceCategory": service[0], "ServiceSubcategory": service[1], "ServiceName": service[2],
        "RegionId": key.region_id or None, "RegionName": month.names.get(key.region_id) or None,
        "SubAccountId": key.project_id or None, "SubAccountName": month.names.get(key.project_id) or None,
        "SubAccountType": "Project" if key.project_id else None, "Tags": key.labels or None,
        "x_Kind": key.kind, "x_Project": month.names.get(key.project_id) or None, "x_LateMonth": key.late_month or None,
        "PricingCurrency": key.fx_base or key.currency,
    }  # fmt: skip
    if key.fx_base and key.fx_rate_pico:
        rate = Decimal(key.fx_rate_pico).scaleb(-12)
        row |= {"x_FxRate": rate, "x_FxSource": key.fx_source, "x_FxDate": moment(key.fx_us)}
    return row


def _frequency(category: str, contract: Contract | None) -> str:
    if category == "Usage":
        return "Usage-Based"
    return "Recurring" if category == "Purchase" and contract is not None and not contract.upfront else "One-Time"


def _described(key: Key, title: str) -> str:
    line = InvoiceLine(
        key.project_id, key.meter, key.kind, key.unit_nano, 0, 0, purchase=key.purchase, contract_id=key.contract_id,
        note=title,
    )  # fmt: skip
    return words.describe(line, 0)


def _price_words(key: Key, category: str) -> Row:
    unit = key.unit or default_unit(key.meter)
    name = UNITS.get(unit, "Units") if category == "Usage" else "Units"
    return {
        "PricingCategory": _PRICING.get(key.pricing, "Standard"), "PricingUnit": name,
        "SkuId": key.meter or key.kind, "SkuPriceId": key.price_id or key.contract_id or key.meter or key.kind,
        "SkuMeter": key.meter or None,
        "SkuPriceDetails": json.dumps({"x_Purchase": key.purchase}) if key.purchase else None,
        "ConsumedUnit": name if category == "Usage" and key.kind != "unused" else None,
    }  # fmt: skip


def _priced(kind: _Kind, sums: Sums) -> tuple[Decimal, Decimal, Decimal]:
    """Quantity, list and contracted unit price: the price book's where that times the quantity is the cost."""
    key = kind.key
    size = size_of(key.meter, key.unit or default_unit(key.meter)) if kind.usage else 1
    quantity = round(Decimal(sums.quantity) / size, 12) if kind.usage else Decimal(1)
    book, prices = Decimal(key.unit_nano).scaleb(-9), []
    for nano in (sums.list_nano, sums.contracted_nano):
        value = Decimal(nano).scaleb(-9)
        fits = not key.fx_base and abs(book * quantity - value) <= _TOLERANCE * max(abs(value), Decimal(1))
        prices.append(book if fits else abs(round(value / quantity, 16)) if quantity else Decimal(0))
    return quantity, prices[0], prices[1]


def _commitment_words(key: Key, row: Row, contract: Contract) -> Row:
    """The contract behind the row. Capacity is promised, so it is a reservation and a commitment at once."""
    made: Row = {
        "CommitmentDiscountId": contract.id, "CommitmentDiscountName": contract.title,
        "CommitmentDiscountCategory": "Usage", "CommitmentDiscountType": contract.shape.capitalize(),
        "CommitmentDiscountUnit": row.get("PricingUnit"),
    }  # fmt: skip
    if key.kind in ("covered", "unused"):
        status = "Used" if key.kind == "covered" else "Unused"
        made |= {"CommitmentDiscountStatus": status, "CapacityReservationId": contract.id}
        made["CapacityReservationStatus"] = status
    return made


def _applied(contract: Contract, effective_nano: int) -> str:
    applied = {
        "ContractId": contract.id, "ContractCommitmentId": contract.id,
        "ContractCommitmentAppliedCost": float(money(effective_nano)),
    }  # fmt: skip
    return json.dumps({"Elements": [applied]})


# Where a charge is billed.

Place = tuple[str, str]  # (number of the document, id of its line)


def _line_key(project_id: str, line: Any) -> tuple[Any, ...]:
    return (
        project_id, line.meter, line.kind, line.purchase, line.contract_id, line.unit, line.unit_nano, line.fx_base,
        line.fx_rate_pico, line.fx_source, line.fx_us, line.tax,
    )  # fmt: skip


def _places(invoices: Sequence[Invoice]) -> dict[tuple[Any, ...], Place]:
    """(organization, note, line) -> where it is billed."""
    places: dict[tuple[Any, ...], Place] = {}
    for document in invoices:
        if document.kind == INVOICE and document.corrects:
            continue  # what is issued again is not charged again: its lines are rows of their own
        about = (document.organization_id, "" if document.kind == INVOICE else document.id)
        for place, line in enumerate(document.lines, 1):
            places[*about, *_line_key(line.project_id, line)] = (number_of(document), f"{document.id}.{place}")
    return places


def _place_of(key: Key, places: Mapping[tuple[Any, ...], Place]) -> Place:
    """A late charge is on the note of its month if there is one, and else on the invoice like any other."""
    return places.get((key.organization_id, key.note, *_line_key(key.project_id, key)), ("", ""))


def _document_rows(month: Month, document: Invoice, billed: Mapping[str, int]) -> Iterator[Row]:
    """What a document adds to the charges: the rounding of its lines, its tax, or all of it when none is behind it."""
    sign, number = sign_of(document), number_of(document)
    again = document.kind == INVOICE and bool(document.corrects)
    rounding = 0
    for place, line in enumerate(document.lines, 1):
        detail = f"{document.id}.{place}"
        rest = sign * line.net_nano - billed.get(detail, 0)
        if detail in billed or not rest:
            rounding += rest
        else:
            category = "Adjustment" if again else "Credit"
            yield _added(month, document, category, words.describe(line, 0), rest, number, detail)
    if rounding:
        yield _added(month, document, "Adjustment", "Rounding of lines to what can be paid", rounding, number, None)
    for each in document.taxes:
        if each.tax_nano:
            text = f"Tax {each.category} {Decimal(each.percent_milli) / 1000} %"
            yield _added(
                month, document, "Tax", text, sign * each.tax_nano, number, f"{document.id}.tax.{each.category}"
            )


def _added(
    month: Month, document: Invoice, category: str, text: str, nano: int, number: str, detail: str | None
) -> Row:  # fmt: skip
    begin_us, end_us = month_span_us(document.month)
    return frame(month, document.organization_id, billing_month(document), document.currency) | {
        "BilledCost": money(nano), "EffectiveCost": money(nano), "ListCost": money(nano), "ContractedCost": money(nano),
        "ChargeCategory": category, "ChargeFrequency": "One-Time", "ChargeDescription": text,
        "ChargeClass": "Correction" if document.corrects else None,
        "ChargePeriodStart": moment(begin_us), "ChargePeriodEnd": moment(end_us), "InvoiceId": number,
        "InvoiceDetailId": detail, "ServiceCategory": _NO_SERVICE[0], "ServiceSubcategory": _NO_SERVICE[1],
        "ServiceName": _NO_SERVICE[2], "PricingCurrency": document.currency, "x_Kind": category.lower(),
    }  # fmt: skip
