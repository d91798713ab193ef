"""A closed month as FOCUS rows: charges, what invoices add to them, contracts, invoice lines, the period.

Every charge stays what it is; what an invoice adds (the rounding of each line, tax, notes) becomes rows of their own
that name the same document. So the BilledCost of all rows with one InvoiceId is its total, to the nano-unit; that of
one InvoiceDetailId is its line but for the line's rounding, which is a row of its own. `reconcile` holds them against
each other.

Rows are by day and resource (allocation): pieces of one day, price and contract are summed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from headframe.base.errors import OurError
from headframe.base.money import NANO
from headframe.base.quantities import DAY_US, format_moment
from headframe.documents import words
from headframe.ledger.close import month_of, month_span_us
from headframe.ledger.notes import CREDIT, INVOICE, sign_of
from headframe.ledger.records import Closing, Invoice, InvoiceLine, Party
from headframe.pricing.records import KINDS, Charge, Contract
from headframe.pricing.units import default_unit, is_held, size_of

Row = dict[str, Any]
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


class Key(NamedTuple):
    """What the charges of one row have in common."""

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
class Month:
    """All that a month's tables are made of. `names` are those of organizations, projects and regions, by id."""

    month: str
    seller: Party
    invoices: Sequence[Invoice]
    closings: Sequence[Closing]
    contracts: Sequence[Contract]
    names: Mapping[str, str] = field(default_factory=dict)
    organizations: int = 0
    now_us: int = 0
    open_until_us: int = 0

    @property
    def issuer(self) -> str:
        return self.seller.name or "Headframe"


def gather_charges(charges: Iterable[Charge]) -> dict[Key, Sums]:
    """Charges summed to rows."""
    sums: dict[Key, Sums] = defaultdict(Sums)
    for one in charges:
        key = Key(
            one.organization_id, one.project_id, one.allocation_id, one.from_us - one.from_us % DAY_US, one.meter,
            one.kind, one.purchase, one.pricing, one.contract_id, one.price_id, one.unit, one.unit_nano, one.fx_base,
            one.fx_rate_pico, one.fx_source, one.fx_us, one.region_id, one.tax, one.currency, month_of(one.at_us),
            one.late_month,
        )  # fmt: skip
        row = sums[key]
        row.quantity += one.quantity
        row.amount_nano += one.amount_nano
        row.list_nano += one.list_nano or one.amount_nano * (one.kind in ("usage", "minimum"))
        row.contracted_nano += one.contracted_nano or one.amount_nano * (one.kind in ("usage", "minimum"))
        row.effective_nano += one.effective_nano or one.amount_nano * (one.kind in ("usage", "minimum"))
        row.from_us, row.to_us = min(row.from_us, one.from_us), max(row.to_us, one.to_us)
    return sums


def cost_and_usage(month: Month, pieces: Mapping[Key, Sums]) -> Iterator[Row]:
    """The rows of CostAndUsage, in the order of their keys; then those that invoices add."""
    places = _places(month.invoices)
    contracts = {each.id: each for each in month.contracts}
    billed: dict[str, int] = defaultdict(int)
    for key, sums in sorted(pieces.items(), key=lambda item: item[0]):
        invoice_id, detail_id = _place_of(key, places)
        billed[detail_id] += sums.amount_nano
        yield _usage_row(month, key, sums, invoice_id, detail_id, contracts.get(key.contract_id))
    for document in month.invoices:
        yield from _document_rows(month, document, billed)


def _line_key(project_id: str, line: Any, late: bool) -> tuple[Any, ...]:
    return (
        project_id, line.meter, line.kind, line.purchase, line.contract_id, line.unit, line.unit_nano, line.fx_base,
        line.fx_rate_pico, line.fx_source, line.fx_us, line.tax, late,
    )  # fmt: skip


def _places(invoices: Sequence[Invoice]) -> dict[tuple[Any, ...], tuple[str, str]]:
    """(organization, closed month that is corrected, line) -> (number of the document, id of its line)."""
    places: dict[tuple[Any, ...], tuple[str, str]] = {}
    for document in invoices:
        note = document.kind != INVOICE
        for place, line in enumerate(document.lines, 1):
            about = (document.organization_id, document.month if note else "")
            key = (*about, *_line_key(line.project_id, line, note))
            places[key] = (number_of(document), f"{document.id}.{place}")
    return places


def _place_of(key: Key, places: Mapping[tuple[Any, ...], tuple[str, str]]) -> tuple[str, str]:
    """A late charge is on the note of its month if there is one, and else on the invoice like any other."""
    if key.late_month:
        found = places.get((key.organization_id, key.late_month, *_line_key(key.project_id, key, True)))
        if found is not None:
            return found
    return places.get((key.organization_id, "", *_line_key(key.project_id, key, False)), ("", ""))


def number_of(document: Invoice) -> str:
    return f"{document.number:06d}"


def _usage_row(
    month: Month, key: Key, sums: Sums, invoice_id: str, detail_id: str, contract: Contract | None
) -> Row:  # fmt: skip
    category = KINDS.get(key.kind, "Usage")
    row = _frame(month, key.organization_id, key.month, key.currency)
    service = _SERVICES.get(key.meter.partition(":")[0], _NO_SERVICE)
    name = contract.title if contract is not None else ""
    row |= {
        "BilledCost": money(sums.amount_nano),
        "EffectiveCost": money(sums.amount_nano if category in ("Credit", "Adjustment") else sums.effective_nano),
        "ListCost": money(sums.list_nano), "ContractedCost": money(sums.contracted_nano),
        "ChargeCategory": category, "ChargeFrequency": _frequency(category, contract),
        "ChargeClass": "Correction" if key.late_month else None,
        "ChargeDescription": _described(key, name),
        "ChargePeriodStart": moment(sums.from_us), "ChargePeriodEnd": moment(max(sums.to_us, sums.from_us)),
        "InvoiceId": invoice_id or None, "InvoiceDetailId": detail_id or None,
        "ServiceCategory": service[0], "ServiceSubcategory": service[1], "ServiceName": service[2],
        "RegionId": key.region_id or None, "RegionName": month.names.get(key.region_id) or None,
        "SubAccountId": key.project_id or None, "SubAccountName": month.names.get(key.project_id) or None,
        "SubAccountType": "Project" if key.project_id else None,
        "x_Kind": key.kind, "x_Project": month.names.get(key.project_id) or None, "x_LateMonth": key.late_month or None,
        "PricingCurrency": key.fx_base or key.currency,
    }  # fmt: skip
    if key.resource_id:
        row |= {"ResourceId": key.resource_id, "ResourceName": key.resource_id, "ResourceType": "Allocation"}
    if key.fx_base and key.fx_rate_pico:
        rate = Decimal(key.fx_rate_pico).scaleb(-12)
        row |= {"x_FxRate": rate, "x_FxSource": key.fx_source, "x_FxDate": moment(key.fx_us)}
    if category in ("Usage", "Purchase"):
        row |= _priced(key, sums, category)
    if contract is not None and key.kind in ("covered", "unused", "fee"):
        row |= _committed(key, row, contract)
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


def _priced(key: Key, sums: Sums, category: str) -> Row:
    """Quantity, unit and prices. A unit price is the price book's where that times the quantity is the cost."""
    unit = key.unit or default_unit(key.meter)
    quantity = Decimal(sums.quantity) / size_of(key.meter, unit) if category == "Usage" else Decimal(1)
    quantity = round(quantity, 12)
    row: Row = {
        "PricingCategory": _PRICING.get(key.pricing, "Standard"),
        "PricingQuantity": quantity, "PricingUnit": _UNITS.get(unit, "Units") if category == "Usage" else "Units",
        "SkuId": key.meter or key.kind, "SkuPriceId": key.price_id or key.contract_id or key.meter or key.kind,
        "SkuMeter": key.meter or None,
        "SkuPriceDetails": json.dumps({"x_Purchase": key.purchase}) if key.purchase else None,
    }  # fmt: skip
    book = Decimal(key.unit_nano).scaleb(-9)
    for cost, price in (("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice")):
        value = Decimal(sums.list_nano if cost == "ListCost" else sums.contracted_nano).scaleb(-9)
        fits = not key.fx_base and abs(book * quantity - value) <= _TOLERANCE * max(abs(value), Decimal(1))
        row[price] = book if fits else abs(round(value / quantity, 16)) if quantity else Decimal(0)
    if category == "Usage" and key.kind != "unused":
        row |= {"ConsumedQuantity": quantity, "ConsumedUnit": row["PricingUnit"]}
    return row


_UNITS = {
    "gpu-hour": "GPU-Hours", "core-hour": "Core-Hours", "GiB-hour": "GiB-Hours", "GiB-month": "GiB-Months",
    "kWh": "kWh", "one": "Units", "thousand": "Thousand Units", "million": "Million Tokens",
}  # fmt: skip


def _committed(key: Key, row: Row, contract: Contract) -> Row:
    """The contract behind the row. Capacity is promised, so it is a reservation and a commitment at once."""
    used = key.kind != "unused"
    usage = key.kind in ("covered", "unused")
    made: Row = {
        "CommitmentDiscountId": contract.id, "CommitmentDiscountName": contract.title,
        "CommitmentDiscountCategory": "Usage", "CommitmentDiscountType": contract.shape.capitalize(),
        "CommitmentDiscountQuantity": row.get("PricingQuantity"), "CommitmentDiscountUnit": row.get("PricingUnit"),
        "ContractApplied": json.dumps(
            {
                "Elements": [
                    {
                        "ContractId": contract.id, "ContractCommitmentId": contract.id,
                        "ContractCommitmentAppliedCost": float(row["EffectiveCost"] or 0),
                    }
                ]
            }
        ) if usage else None,
    }  # fmt: skip
    if usage:
        status = "Used" if used else "Unused"
        made |= {"CommitmentDiscountStatus": status, "CapacityReservationId": contract.id}
        made["CapacityReservationStatus"] = status
    return made


def _document_rows(month: Month, document: Invoice, billed: Mapping[str, int]) -> Iterator[Row]:
    """What a document adds to the charges: the rounding of its lines, its tax, or all of it when none is behind it."""
    sign, number = sign_of(document), number_of(document)
    rounding = 0
    for place, line in enumerate(document.lines, 1):
        detail = f"{document.id}.{place}"
        rest = sign * line.net_nano - billed.get(detail, 0)
        if detail in billed or not rest:
            rounding += rest
        else:
            yield _added(month, document, "Credit", words.describe(line, 0), rest, number, detail)
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
    return _frame(month, document.organization_id, billing_month(document), document.currency) | {
        "BilledCost": money(nano), "EffectiveCost": money(nano), "ListCost": money(nano), "ContractedCost": money(nano),
        "ChargeCategory": category, "ChargeFrequency": "One-Time", "ChargeDescription": text,
        "ChargeClass": "Correction" if document.kind != INVOICE else None,
        "ChargePeriodStart": moment(begin_us), "ChargePeriodEnd": moment(end_us), "InvoiceId": number,
        "InvoiceDetailId": detail, "ServiceCategory": _NO_SERVICE[0], "ServiceSubcategory": _NO_SERVICE[1],
        "ServiceName": _NO_SERVICE[2], "PricingCurrency": document.currency, "x_Kind": category.lower(),
    }  # fmt: skip


def billing_month(document: Invoice) -> str:
    """The period in which a document is billed: an invoice in its own month, a note in the one it was made for.

    A note on what came late has the month of its charges behind that of the invoice in its id.
    """
    if document.kind == INVOICE and not document.corrects:
        return document.month
    made_for = document.id.removeprefix(f"{document.organization_id}.{document.month}.")
    return made_for[:7] if made_for[:1].isdigit() else month_of(document.closed_us)


def _frame(month: Month, organization_id: str, billed_month: str, currency: str) -> Row:
    begin_us, end_us = month_span_us(billed_month)
    return {
        "BillingAccountId": organization_id, "BillingAccountName": month.names.get(organization_id) or None,
        "BillingAccountType": "Organization", "BillingCurrency": currency,
        "BillingPeriodStart": moment(begin_us), "BillingPeriodEnd": moment(end_us),
        "InvoiceIssuerName": month.issuer, "ServiceProviderName": month.issuer, "HostProviderName": month.issuer,
        "ProviderName": month.issuer, "PublisherName": month.issuer,
    }  # fmt: skip


def invoice_detail(month: Month) -> Iterator[Row]:
    """The rows of InvoiceDetail: one for each line of a document, one for each of its taxes."""
    voided = {each.corrects for each in month.invoices if each.kind == CREDIT and each.id.endswith(".void")}
    for document in month.invoices:
        sign = sign_of(document)
        parts = [
            (f"{document.id}.{place}", KINDS.get(line.kind, "Credit"), words.describe(line, 0), line.net_nano)
            for place, line in enumerate(document.lines, 1)
        ]
        parts += [
            (f"{document.id}.tax.{each.category}", "Tax", f"Tax {each.category}", each.tax_nano)
            for each in document.taxes
            if each.tax_nano
        ]
        frame = _frame(month, document.organization_id, billing_month(document), document.currency)
        for detail, category, text, nano in parts:
            yield frame | {
                "BilledCost": money(sign * nano), "ChargeCategory": category, "InvoiceDetailCreated":
                moment(document.closed_us), "InvoiceDetailDescription": text,
                "InvoiceDetailGrain": None,
                "InvoiceDetailId": detail, "InvoiceDetailLastUpdated": moment(document.closed_us),
                "InvoiceId": number_of(document), "InvoiceIssueDate": moment(document.closed_us),
                "InvoiceIssueStatus": "Voided" if document.id in voided else "Issued",
                "PaymentDueDate": moment(document.due_us), "PaymentTerms": f"Net {document.buyer.terms_days}",
                "PurchaseOrderNumber": document.buyer.reference or None,
                "ReferenceInvoiceId": _reference(document),
            }  # fmt: skip


def _reference(document: Invoice) -> str:
    """The invoice that a note corrects; an invoice refers to itself."""
    return f"{document.corrects_number:06d}" if document.corrects else number_of(document)


def contract_commitment(month: Month) -> Iterator[Row]:
    """The rows of ContractCommitment: contracts that cover anything or ask for a fee."""
    for each in sorted(month.contracts, key=lambda one: one.id):
        if each.shape == "sla":
            continue
        hours = Decimal(each.to_us - each.from_us) / 3_600_000_000
        units = Decimal(each.quantity) / (
            1000 if is_held(each.meter) and each.meter not in ("memory", "disk") else 1024
        )
        price = Decimal(each.unit_nano).scaleb(-9)
        quantity = round(units * hours, 9) if each.quantity else None
        cost = round(price * quantity, 9) if each.shape == "reserved" and quantity is not None else price
        yield _frame(month, each.organization_id, month.month, each.currency) | {
            "BillingCurrency": each.currency,
            "ContractCommitmentApplicability": json.dumps(_applies_to(each)),
            "ContractCommitmentBenefitCategory": "Availability" if each.quantity else "Other",
            "ContractCommitmentCategory": "Usage" if each.quantity else "Spend",
            "ContractCommitmentCost": cost,
            "ContractCommitmentCreated": moment(min(each.created_us or each.from_us, month.now_us)),
            "ContractCommitmentDescription": each.title, "ContractCommitmentDiscountPercentage": None,
            "ContractCommitmentDurationType": f"{round(hours)} hours",
            "ContractCommitmentFulfillmentInterval": "Hourly" if each.quantity else "Full Period",
            "ContractCommitmentId": each.id, "ContractCommitmentLastUpdated": moment(month.now_us),
            "ContractCommitmentLifecycleStatus": each.state.value, "ContractCommitmentModel": "Continuous",
            "ContractCommitmentOfferCategory": "Negotiated",
            "ContractCommitmentPaymentInterval": "One-Time" if each.upfront else "Monthly",
            "ContractCommitmentPaymentModel": "All Upfront" if each.upfront else "No Upfront",
            "ContractCommitmentPaymentUpfrontPercentage": Decimal(1 if each.upfront else 0),
            "ContractCommitmentPeriodEnd": moment(each.to_us), "ContractCommitmentPeriodStart": moment(each.from_us),
            "ContractCommitmentQuantity": quantity, "ContractCommitmentType": each.shape.capitalize(),
            "ContractCommitmentUnit": _UNITS.get(each.unit or default_unit(each.meter), "Units") if quantity else None,
            "ContractId": each.id, "ContractPeriodEnd": moment(each.to_us), "ContractPeriodStart": moment(each.from_us),
        }  # fmt: skip


def _applies_to(contract: Contract) -> dict[str, Any]:
    """Which charges a contract is for: those of its meter (and region), or anything of the customer."""
    if not contract.quantity:
        return {"IsComplexScope": True}
    rules = [{"Dimension": "SkuMeter", "Operator": "In", "Values": [contract.meter]}]
    if contract.region_id != "*":
        rules.append({"Dimension": "RegionId", "Operator": "In", "Values": [contract.region_id]})
    return {"InclusionOperator": "And", "Inclusions": rules}


def billing_period(month: Month) -> Iterator[Row]:
    """The one row of BillingPeriod: closed once it is for every organization."""
    begin_us, end_us = month_span_us(month.month)
    closed = bool(month.closings) and len(month.closings) >= month.organizations
    changed = max([begin_us, *(each.closed_us for each in month.closings)])
    yield {
        "BillingPeriodCreated": moment(begin_us), "BillingPeriodStart": moment(begin_us),
        "BillingPeriodEnd": moment(end_us), "BillingPeriodLastUpdated": moment(changed),
        "BillingPeriodStatus": "Closed" if closed else "Open", "InvoiceIssuerName": month.issuer,
    }  # fmt: skip


def reconcile(invoices: Iterable[Invoice], rows: Iterable[tuple[str, Decimal]]) -> None:
    """Hold rows (number of the document, BilledCost) against the documents; raises `OurError` at the first difference.

    Exact: no tolerance. Rows without a document are use that is not billed yet.
    """
    found: dict[str, Decimal] = defaultdict(Decimal)
    for number, cost in rows:
        found[number] += cost
    for document in invoices:
        expected = Decimal(sign_of(document) * document.total_nano) / NANO
        if found.pop(number_of(document), Decimal(0)) != expected:
            raise OurError(
                f"The FOCUS rows of {document.kind} {number_of(document)} are not its total of {expected}.",
                next_step="Run `headframe audit`, and report this: it is a defect.",
            )
    found.pop("", None)
    if found:
        raise OurError(f"FOCUS rows name documents that are not there: {', '.join(sorted(found))}.")


def money(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-9)


def moment(us: int) -> str:
    return f"{format_moment(us)[:19]}Z"
