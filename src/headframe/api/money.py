"""Routes of money: prices, use and its cost, credit, budgets, invoices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from headframe.api.documents import page_shape, shape
from headframe.api.wire import Authenticated, Body, Cursor, Limit, Named, Text, answer
from headframe.base.errors import OurError
from headframe.base.quantities import parse_moment_us
from headframe.control import commands_money as commands
from headframe.control import commands_prices, preview, queries_invoices, queries_spend
from headframe.control import queries_money as queries
from headframe.control.queries_invoices import invoices_filter
from headframe.ledger.records import Invoice
from headframe.ledger.wallets import Grant
from headframe.pricing.book import ANY
from headframe.pricing.records import Charge, Price
from headframe.tenants.records import AtLimit, Budget, Scope
from headframe.tenants.roles import Permission

router = APIRouter(prefix="/v1", tags=["money"])

MONTH = r"^[12][0-9]{3}-(0[1-9]|1[0-2])$"
Month = Annotated[str, Query(pattern=MONTH, description="Such as 2026-11 (UTC).")]
Moment = Annotated[str | None, Query(max_length=40, description="A date or an RFC 3339 moment (UTC).")]


class TriedPrice(Body):
    """`amount` is what one unit costs, such as "2.99 USD"; for one organization it may be "20 % off" or "8折".

    `tiers` are [up to so many units, amount]; the last one is without end (null).
    """

    meter: Text
    amount: Annotated[str, Field(max_length=200)] = ""
    unit: Annotated[str, Field(max_length=20)] = ""
    region: Text = "*"
    purchase: Text = "*"
    term: Annotated[str, Field(max_length=40)] = ""
    organization: Text | None = None
    shape: Text | None = None
    tiers: Annotated[list[Annotated[tuple[int | None, str], Field(strict=False)]], Field(max_length=20)] = []
    watts: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    starts: Text | None = None
    ends: Text | None = None
    minimum: Text = "60s"


class NewPrice(TriedPrice):
    """A price, to hold from `starts` on. With `back_dated` that may be past: what was charged since is corrected."""

    back_dated: bool = False


class OtherPrices(Body):
    """Prices to hold over a month in place of those of the book; none: the book as it is."""

    month: Annotated[str, Field(pattern=MONTH)]
    prices: Annotated[list[TriedPrice], Field(max_length=preview.MOST_PRICES)] = []
    organization: Text | None = None


@dataclass
class Bills:
    items: list[preview.Bill]
    next: str | None


class NewCredit(Body):
    """`amount` was paid in, or is a gift of the house when `given`.

    It may be bound to a project, a meter and a time. What expires first is used first, then the smaller priority.
    """

    organization: Text
    amount: Text
    given: bool = False
    note: Annotated[str, Field(max_length=500)] = ""
    project: Text | None = None
    meter: Text = "*"
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    starts: Text | None = None
    expires: Text | None = None


class BudgetEdit(Body):
    """What a scope may spend in a calendar month; `at_limit` says what follows at the limit."""

    amount: Text
    scope: Annotated[Scope, Field(strict=False)] = Scope.ORGANIZATION
    scope_id: Text | None = None
    warn_percent: Annotated[int, Field(ge=1, le=100)] = 80
    at_limit: Annotated[AtLimit, Field(strict=False)] = AtLimit.STOP


@dataclass
class BudgetStates:
    items: list[queries.BudgetState]
    next: str | None


@router.get("/prices", response_model=page_shape(Price))
def prices(call: Authenticated, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The price book, with prices past, present and to come; of customers' own prices only yours."""
    caller = call.caller
    caller.need(Permission.PRICES_READ, caller.organization_id, caller.project_id)
    where: dict[str, Any] = {} if caller.operator else {"organization_id": (ANY, caller.organization_id)}
    return call.page(Price, limit=limit, cursor=cursor, **where)


@router.post("/prices", status_code=201, response_model=shape(Price))
def set_price(call: Authenticated, body: NewPrice) -> Response:
    """A new price (operator only)."""
    return call.run(commands_prices.set_price, status=201, **dict(body))


@router.post("/prices/preview", response_model=Bills)
def preview_prices(call: Authenticated, body: OtherPrices) -> Response:
    """What all bills of a month would have been under other prices, beside what was charged (operator only)."""
    told = [dict(price) for price in body.prices]
    found = call.ask(preview.preview, month=body.month, prices=told, organization=body.organization)
    columns = call.control.columns
    if columns is None:
        raise OurError("This server keeps no columns.", next_step="Ask its operator.")
    return answer(Bills(found(call.control.reads, columns), None))


@router.get("/usage", response_model=queries_spend.Usage)
def usage(
    call: Authenticated,
    from_: Annotated[Moment, Query(alias="from")] = None,
    to: Moment = None,
    by: Annotated[
        str, Query(max_length=400, description="Dimensions, with commas; label:KEY is one for each label.")
    ] = "project,meter",
    organization: Named = None,
    project: Named = None,
) -> Response:
    """Use and its cost by dimensions; this month unless told otherwise. The operator may ask for organization=all."""
    found = call.ask(
        queries_spend.usage,
        by=tuple(name.strip() for name in by.split(",") if name.strip()),
        from_us=None if from_ is None else parse_moment_us(from_, field="from"),
        to_us=None if to is None else parse_moment_us(to, field="to"),
        organization=organization,
        project=project,
    )
    return answer(found(call.control.reads))


@router.get("/charges", response_model=page_shape(Charge))
def charges(
    call: Authenticated,
    job: Named = None,
    organization: Named = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Charges, of one job (by its id) or of all."""
    where = call.ask(queries.charges_filter, job, organization)
    return call.page(Charge, limit=limit, cursor=cursor, **where)


@router.get("/balance", response_model=queries.Balance)
def balance(call: Authenticated, organization: Named = None) -> Response:
    """How an organization stands: credit left, owed, spent this month."""
    return answer(call.ask(queries.balance, organization=organization)(call.control.reads))


@router.post("/credits", status_code=201, response_model=shape(Grant))
def grant_credit(call: Authenticated, body: NewCredit) -> Response:
    """Prepaid credit for an organization (operator only)."""
    return call.run(commands.grant_credit, status=201, **dict(body))


@router.get("/budgets", response_model=BudgetStates)
def budgets(call: Authenticated, organization: Named = None) -> Response:
    """Budgets and what is spent of them this month."""
    found = call.ask(queries.budgets, organization=organization)
    return answer(BudgetStates(list(found(call.control.reads)), None))


@router.put("/budgets", response_model=shape(Budget))
def put_budget(call: Authenticated, body: BudgetEdit) -> Response:
    """Set the budget of an organization, project or member."""
    return call.run(commands.put_budget, version=call.version, **dict(body))


@router.delete("/budgets", response_model=shape(Budget))
def remove_budget(call: Authenticated, scope: Scope = Scope.ORGANIZATION, scope_id: Named = None) -> Response:
    """Take the budget of an organization, project or member away."""
    return call.run(commands.remove_budget, scope=scope, scope_id=scope_id, version=call.version)


@router.get("/invoices", response_model=page_shape(Invoice))
def invoices(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The invoices of an organization, oldest first. The operator may ask for organization=all."""
    return call.page(Invoice, limit=limit, cursor=cursor, **call.ask(invoices_filter, organization))


@router.get("/invoices/draft", response_model=queries.Draft)
def draft(call: Authenticated, organization: Named = None, month: Month | None = None) -> Response:
    """The invoice of a month as it would be now; what still runs is marked as accrued."""
    return answer(call.ask(queries.draft, month=month, organization=organization)(call.control.reads))


@router.get("/invoices/{invoice_id}", response_model=shape(Invoice))
def invoice(call: Authenticated, invoice_id: Annotated[str, Path(max_length=200)]) -> Response:
    """One invoice or note, by its id or its number."""
    return answer(call.ask(queries_invoices.invoice, invoice_id))
