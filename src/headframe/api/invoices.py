"""Routes of invoices and what finance takes home: documents, details on them, tax, notes, FOCUS, the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from headframe.api.documents import shape
from headframe.api.wire import Authenticated, Body, Named, Text, answer
from headframe.base.errors import OurError
from headframe.control import commands_invoices as commands
from headframe.control import queries_invoices as queries
from headframe.control.ports import Papers
from headframe.ledger.records import Invoice, Party, TaxRate, Transfer
from headframe.ledger.trial import AccountBalance

router = APIRouter(prefix="/v1", tags=["money"])

Ref = Annotated[str, Path(max_length=200, description="An invoice's id or number.")]
Month = Annotated[str, Query(pattern=r"^[12][0-9]{3}-(0[1-9]|1[0-2])$", description="Such as 2026-11 (UTC).")]
Short = Annotated[str | None, Field(max_length=200)]


def _file(*kinds: str) -> dict[int | str, dict[str, object]]:
    """What the documentation says of an answer that is a file of one of these kinds."""
    return {200: {"description": "The file.", "content": {kind: {} for kind in kinds}}}


class PartyEdit(Body):
    """What stands on invoices; absent fields stay as they are. The last four are the seller's only."""

    name: Short = None
    street: Short = None
    city: Short = None
    postcode: Short = None
    country: Short = None
    tax_id: Short = None
    registration: Short = None
    email: Short = None
    language: Short = None
    reference: Short = None
    terms_days: Annotated[int | None, Field(ge=0, le=365)] = None
    iban: Short = None
    bic: Short = None
    bank: Short = None
    phone: Short = None


class NewTaxRate(Body):
    """`applies_to` is an organization, a country such as DE, EU (another member state) or *."""

    applies_to: Text
    category: Text
    percent: Text = "0"
    business: Text = "*"
    starts: Short = None
    ends: Short = None
    reason: Annotated[str, Field(max_length=200)] = ""


class Why(Body):
    reason: Text


class NewCreditNote(Body):
    """`amount` is before tax, such as "100 EUR"."""

    amount: Text
    reason: Text


class NewPayment(Body):
    """`amount` is all that is open when absent; `note` what stands behind it, such as a bank's reference."""

    amount: Annotated[str, Field(max_length=100)] = ""
    note: Annotated[str, Field(max_length=200)] = ""


@dataclass
class OpenInvoices:
    items: list[queries.OpenInvoice]
    next: str | None


@dataclass
class Notes:
    items: list[Invoice]
    next: str | None


@dataclass
class TaxRates:
    items: list[TaxRate]
    next: str | None


@dataclass
class LedgerState:
    """The trial balance, and the newest link of the chain of transfers."""

    accounts: list[AccountBalance]
    sums: dict[str, int]
    zero: bool
    transfers: int
    chain: str


@router.get(
    "/invoices/{invoice_id}/file",
    response_class=Response,
    responses=_file("application/pdf", "application/xml", "text/csv", "application/json"),
)
def invoice_file(call: Authenticated, invoice_id: Ref, form: Literal["pdf", "xml", "csv", "json"] = "pdf") -> Response:
    """An invoice as a file: PDF/A-3 with the e-invoice inside, that alone as XML, CSV or JSON."""
    found = call.ask(queries.invoice, invoice_id)
    kind, content = _papers(call).invoice(found, form)
    return _download(content, f"{found.kind}-{found.number:06d}.{form}", kind)


@router.post("/invoices/{invoice_id}/void", status_code=201, response_model=shape(Invoice))
def void_invoice(call: Authenticated, invoice_id: Ref, body: Why) -> Response:
    """Take a whole invoice back by a credit note (operator only)."""
    return call.run(commands.void_invoice, invoice_id, status=201, reason=body.reason)


@router.post("/invoices/{invoice_id}/correct", status_code=201, response_model=Notes)
def correct_invoice(call: Authenticated, invoice_id: Ref) -> Response:
    """Notes at once on what came late of an invoice's month, rather than at the next close (operator only)."""
    return call.run(commands.correct_invoice, invoice_id, status=201, show=lambda made: Notes(list(made), None))


@router.post("/invoices/{invoice_id}/reissue", status_code=201, response_model=shape(Invoice))
def reissue_invoice(call: Authenticated, invoice_id: Ref, body: Why) -> Response:
    """Issue a voided invoice again, for the buyer and by the taxes of now (operator only)."""
    return call.run(commands.reissue_invoice, invoice_id, status=201, reason=body.reason)


@router.post("/invoices/{invoice_id}/payments", status_code=201, response_model=shape(Transfer))
def pay_invoice(call: Authenticated, invoice_id: Ref, body: NewPayment) -> Response:
    """Record that money came in for an invoice or debit note (operator only)."""
    return call.run(commands.pay_invoice, invoice_id, status=201, **dict(body))


@router.get("/receivables", response_model=OpenInvoices)
def receivables(call: Authenticated, organization: Named = None) -> Response:
    """The invoices and debit notes of which anything is open. The operator may ask for organization=all."""
    found = call.ask(queries.open_invoices, organization=organization)
    return answer(OpenInvoices(list(found(call.control.reads)), None))


@router.post("/invoices/{invoice_id}/credit", status_code=201, response_model=shape(Invoice))
def credit_invoice(call: Authenticated, invoice_id: Ref, body: NewCreditNote) -> Response:
    """Give back a part of an invoice by a credit note (operator only)."""
    return call.run(commands.credit_invoice, invoice_id, status=201, **dict(body))


@router.get("/billing", response_model=shape(Party))
def billing(call: Authenticated, organization: Named = None) -> Response:
    """How an organization stands on its invoices."""
    return answer(call.ask(queries.party, organization=organization))


@router.put("/billing", response_model=shape(Party))
def put_billing(call: Authenticated, body: PartyEdit, organization: Named = None) -> Response:
    """Set how an organization stands on its invoices, from the next one on."""
    return call.run(commands.put_party, organization=organization, **dict(body))


@router.get("/seller", response_model=shape(Party))
def seller(call: Authenticated) -> Response:
    """Who sells, as it stands on invoices."""
    return answer(call.ask(queries.seller))


@router.put("/seller", response_model=shape(Party))
def put_seller(call: Authenticated, body: PartyEdit) -> Response:
    """Set who sells (operator only)."""
    return call.run(commands.put_party, seller=True, **dict(body))


@router.get("/tax-rates", response_model=TaxRates)
def tax_rates(call: Authenticated) -> Response:
    """All rules of tax (operator only)."""
    return answer(TaxRates(list(call.ask(queries.tax_rates)), None))


@router.post("/tax-rates", status_code=201, response_model=shape(TaxRate))
def set_tax_rate(call: Authenticated, body: NewTaxRate) -> Response:
    """A new rule of tax (operator only); a later one wins."""
    return call.run(commands.set_tax_rate, status=201, **dict(body))


@router.get("/ledger", response_model=LedgerState)
def ledger(call: Authenticated) -> Response:
    """The trial balance of all accounts (operator only)."""
    balance, head = call.ask(queries.ledger)
    return answer(LedgerState(list(balance.accounts), balance.sums, balance.zero, head.number, head.chain))


@router.get("/export/focus", response_class=Response, responses=_file("application/zip"))
def export_focus(
    call: Authenticated,
    month: Month,
    version: Literal["1.4", "1.2"] = "1.4",
    form: Literal["parquet", "csv"] = "parquet",
    organization: Named = None,
) -> Response:
    """A month as FOCUS tables in a ZIP. The operator may ask for organization=all."""
    scope = call.ask(queries.export_scope, month=month, organization=organization)
    now_us = call.serving.clock.now_us()
    content = _papers(call).focus(call.control.reads, month, now_us, scope, version, form)
    return _download(content, f"focus-{version}-{month}.zip", "application/zip")


@router.get("/export/month", response_class=Response, responses=_file("application/zip"))
def export_month(call: Authenticated, month: Month, form: Literal["parquet", "csv"] = "parquet") -> Response:
    """Everything of a month in a ZIP (operator only): all documents, FOCUS 1.4 and 1.2, the ledger up to its end."""
    call.ask(queries.ledger_scope)
    content = _papers(call).month(call.control.reads, month, call.serving.clock.now_us(), form)
    return _download(content, f"headframe-{month}.zip", "application/zip")


@router.get("/export/beancount", response_class=Response, responses=_file("text/plain"))
def export_beancount(call: Authenticated) -> Response:
    """The whole ledger as beancount text (operator only)."""
    call.ask(queries.ledger_scope)
    lines: Iterator[str] = _papers(call).beancount(call.control.reads)
    head = {"Content-Disposition": "attachment; filename=ledger.beancount"}
    return StreamingResponse(lines, 200, head, "text/plain; charset=utf-8")


def _papers(call: Authenticated) -> Papers:
    papers = call.control.papers
    if papers is None:
        raise OurError("This server writes no documents.", next_step="Ask its operator.")
    return papers


def _download(content: bytes, name: str, kind: str) -> Response:
    return Response(content, 200, {"Content-Disposition": f"attachment; filename={name}"}, kind)
