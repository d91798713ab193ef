"""An invoice as data: Cross Industry Invoice XML of the profile EN 16931 (Factur-X), written with drafthorse.

Codes: document types are of UNTDID 1001 (380 invoice, 381 credit note, 383 debit note), units of UN/ECE
recommendation 20, categories of tax of UNCL 5305. Amounts have two digits at most (BR-DEC), so a currency with three
has no e-invoice.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from headframe.base.errors import Invalid
from headframe.base.money import EXPONENTS, NANO
from headframe.documents import words
from headframe.documents.pdf import missing_extra
from headframe.documents.sheet import DAY_US, title_number
from headframe.ledger.close import month_span_us
from headframe.ledger.records import Invoice, InvoiceLine, Party, TaxLine

GUIDELINE = "urn:cen.eu:en16931:2017"
TYPES = {"invoice": "380", "credit_note": "381", "debit_note": "383"}
# UN/ECE recommendation 20: HUR an hour, MON a month, KWH a kilowatt hour, C62 one.
_UNIT_CODES = {"gpu-hour": "HUR", "core-hour": "HUR", "kWh": "KWH"}
_CENT = Decimal("0.01")
EXEMPT = {"E": "vatex-eu-o", "AE": "vatex-eu-ae", "G": "vatex-eu-g", "K": "vatex-eu-ic", "O": "vatex-eu-o"}


def can_be_written(document: Invoice) -> bool:
    """Whether the rules of EN 16931 can be met: both sides have a country and a name, amounts two digits at most."""
    named = all(party.name and party.country for party in (document.seller, document.buyer))
    taxed = document.taxes and all(_identified(document, each) for each in document.taxes)
    return bool(named and taxed and document.lines) and EXPONENTS.get(document.currency, 2) <= 2


def _identified(document: Invoice, tax: TaxLine) -> bool:
    """Who is taxed must be known by number: the seller always, the buyer where the tax is theirs to pay."""
    if tax.category == "O":
        return True
    return bool(document.seller.tax_id) and (tax.category not in ("AE", "K") or bool(document.buyer.tax_id))


def invoice_xml(document: Invoice) -> bytes:
    """The document as UTF-8 XML. Raises `Invalid` when EN 16931 cannot be met, `OurError` without the extra."""
    if not can_be_written(document):
        raise Invalid(
            f"Invoice {document.id} cannot be an e-invoice: names, countries or tax numbers are missing.",
            field="buyer", next_step="Fill in the details of seller and buyer; they hold for the next invoice.",
        )  # fmt: skip
    try:
        from drafthorse.models.document import Document
    except ImportError:
        raise missing_extra("invoices", "drafthorse") from None
    made: Any = Document()
    made.context.guideline_parameter.id = GUIDELINE
    made.header.id = title_number(document)
    made.header.type_code = TYPES[document.kind]
    made.header.issue_date_time = _date(document.closed_us)
    _parties(made.trade, document)
    untaxed = any(each.category == "O" for each in document.taxes)
    rates = {each.category: each.percent_milli for each in document.taxes}
    for place, line in enumerate(document.lines, 1):
        category = next(iter(rates)) if len(rates) == 1 else _category(line, rates)
        made.trade.items.add(_line(place, line, document, category, rates[category]))
    _settlement(made.trade.settlement, document, untaxed)
    serialized: bytes = made.serialize(schema=None)
    return serialized


def _category(line: InvoiceLine, rates: dict[str, int]) -> str:
    """Of several categories a line has its own; standard lines have the one that is no line's own."""
    return line.tax if line.tax in rates and line.tax != "S" else next(
        (name for name, percent in rates.items() if percent), "S" if "S" in rates else next(iter(rates))
    )  # fmt: skip


def _parties(trade: Any, document: Invoice) -> None:
    untaxed = any(each.category == "O" for each in document.taxes)
    for made, party in ((trade.agreement.seller, document.seller), (trade.agreement.buyer, document.buyer)):
        _party(made, party, untaxed)
    if document.seller.email or document.seller.phone:
        contact = trade.agreement.seller.contact
        contact.person_name = document.seller.name
        if document.seller.phone:
            contact.telephone.number = document.seller.phone
        if document.seller.email:
            contact.email.address = document.seller.email
    if document.buyer.reference:
        trade.agreement.buyer_reference = document.buyer.reference
        trade.agreement.buyer_order.issuer_assigned_id = document.buyer.reference
    trade.delivery.event.occurrence = _date(month_span_us(document.month)[1] - DAY_US)


def _party(made: Any, party: Party, untaxed: bool) -> None:
    made.name = party.name
    if party.registration:
        made.legal_organization.id = ("", party.registration)
    made.address.postcode = party.postcode
    made.address.line_one = party.street
    made.address.city_name = party.city
    made.address.country_id = party.country
    if party.email:
        made.electronic_address.uri_ID = ("EM", party.email)
    if party.tax_id and not untaxed:  # BR-O-02: who is outside of tax names no VAT number
        from drafthorse.models.party import TaxRegistration

        made.tax_registrations.add(TaxRegistration(id=("VA", party.tax_id)))


def _line(place: int, line: InvoiceLine, document: Invoice, category: str, percent_milli: int) -> Any:
    from drafthorse.models.tradelines import LineItem

    language = words.language_of(document.buyer.language)
    made: Any = LineItem()
    made.document.line_id = str(place)
    made.product.name = words.describe(line, language)
    if line.project or line.project_id:
        made.product.description = f"{words.LABELS['project'][language]}: {line.project or line.project_id}"
    quantity, price, basis = _measure(line, document.currency)
    code = "C62" if quantity == 1 and line.kind != "usage" else _UNIT_CODES.get(words.unit_of(line), "C62")
    # BR-27: no price is below nothing; what is given back has a quantity below it.
    sign = -1 if line.net_nano < 0 else 1
    made.agreement.net.amount = price
    made.agreement.net.basis_quantity = (basis, code)
    made.delivery.billed_quantity = (sign * quantity, code)
    made.settlement.trade_tax.type_code = "VAT"
    made.settlement.trade_tax.category_code = category
    if category != "O":
        made.settlement.trade_tax.rate_applicable_percent = Decimal(percent_milli) / 1000
    made.settlement.monetary_summation.total_amount = _two(line.net_nano)
    return made


def _measure(line: InvoiceLine, currency: str) -> tuple[Decimal, Decimal, Decimal]:
    """(quantity, price, for how many), of which the first two make the line's amount but for its rounding."""
    units = words.units_of(line)
    plain = line.kind in ("usage", "minimum", "correction") and not (line.fx_base and line.fx_base != currency)
    price = Decimal(line.unit_nano) / NANO
    if plain and units > 0 and abs(units * price - Decimal(line.net_nano) / NANO) <= _CENT:
        return units.quantize(Decimal("0.000001")), price, Decimal(1)
    return Decimal(1), abs(Decimal(line.net_nano)) / NANO, Decimal(1)


def _settlement(made: Any, document: Invoice, untaxed: bool) -> None:
    from drafthorse.models.accounting import ApplicableTradeTax
    from drafthorse.models.payment import PaymentMeans, PaymentTerms

    made.currency_code = document.currency
    made.payment_reference = title_number(document)
    if document.seller.iban and document.kind != "credit_note":
        means: Any = PaymentMeans()
        means.type_code = "58" if document.currency == "EUR" else "30"  # UNTDID 4461: SEPA, or any credit transfer
        means.payee_account.iban = document.seller.iban.replace(" ", "")
        means.payee_account.account_name = document.seller.name
        if document.seller.bic:
            means.payee_institution.bic = document.seller.bic
        made.payment_means.add(means)
    begin_us, end_us = month_span_us(document.month)
    made.period.start, made.period.end = _date(begin_us), _date(end_us - DAY_US)
    for each in document.taxes:
        tax: Any = ApplicableTradeTax()
        tax.calculated_amount, tax.basis_amount = _two(each.tax_nano), _two(each.basis_nano)
        tax.type_code, tax.category_code = "VAT", each.category
        if each.category not in ("S", "Z"):
            tax.exemption_reason = each.reason or words.CATEGORIES[each.category][0]
        if not untaxed:
            tax.rate_applicable_percent = Decimal(each.percent_milli) / 1000
        made.trade_tax.add(tax)
    if document.corrects:
        made.invoice_referenced_document.issuer_assigned_id = f"{document.corrects_number:06d}"
    terms: Any = PaymentTerms()
    terms.description = f"{document.buyer.terms_days} days"
    terms.due = _date(document.due_us)
    made.terms.add(terms)
    sums = made.monetary_summation
    sums.line_total = _two(document.net_nano)
    sums.charge_total = sums.allowance_total = Decimal("0.00")
    sums.tax_basis_total = (_two(document.net_nano), "")
    sums.tax_total = (_two(document.tax_nano), document.currency)
    sums.grand_total = (_two(document.total_nano), "")
    sums.prepaid_total = _two(document.from_wallet_nano)
    sums.due_amount = _two(document.payable_nano)


def _two(nano: int) -> Decimal:
    value = (Decimal(nano) / NANO).quantize(_CENT)
    assert value * NANO == nano, "amounts of documents are rounded already"
    return value


def _date(us: int) -> date:
    return words.moment(us).date()
