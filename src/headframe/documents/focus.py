"""A closed month in the words of FOCUS: what it is made of, its contracts, invoice lines and period as rows, and the
reconciliation of its costs (`focus_costs`) with its invoices.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from headframe.base.errors import OurError
from headframe.base.money import NANO
from headframe.base.quantities import format_moment
from headframe.documents import words
from headframe.ledger.close import month_of, month_span_us
from headframe.ledger.notes import CREDIT, INVOICE, sign_of
from headframe.ledger.records import Closing, Invoice, Party
from headframe.pricing.records import KINDS, Contract
from headframe.pricing.units import default_unit, is_held

Row = dict[str, Any]


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


def number_of(document: Invoice) -> str:
    return f"{document.number:06d}"


UNITS = {
    "gpu-hour": "GPU-Hours", "core-hour": "Core-Hours", "GiB-hour": "GiB-Hours", "GiB-month": "GiB-Months",
    "kWh": "kWh", "one": "Units", "thousand": "Thousand Units", "million": "Million Tokens",
}  # fmt: skip


def billing_month(document: Invoice) -> str:
    """The period in which a document is billed: an invoice in its own month, a note in the one it was made for.

    A note on what came late has the month of its charges behind that of the invoice in its id.
    """
    if document.kind == INVOICE and not document.corrects:
        return document.month
    made_for = document.id.removeprefix(f"{document.organization_id}.{document.month}.")
    return made_for[:7] if made_for[:1].isdigit() else month_of(document.closed_us)


def frame(month: Month, organization_id: str, billed_month: str, currency: str) -> Row:
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
        common = frame(month, document.organization_id, billing_month(document), document.currency)
        for detail, category, text, nano in parts:
            yield common | {
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
        yield frame(month, each.organization_id, month.month, each.currency) | {
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
            "ContractCommitmentUnit": UNITS.get(each.unit or default_unit(each.meter), "Units") if quantity else None,
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
