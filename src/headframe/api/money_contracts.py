"""Routes of what is agreed: contracts, exchange rates, grants of credit and holds on it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from headframe.api.documents import page_shape, shape
from headframe.api.wire import Authenticated, Body, Call, Cursor, Limit, Named, Text
from headframe.control import commands_contracts, commands_money, commands_prices
from headframe.control.queries_tenancy import find_organization
from headframe.ledger.wallets import Grant, Hold
from headframe.pricing.records import Contract, Exchange
from headframe.tenants.roles import Permission

router = APIRouter(prefix="/v1", tags=["money"])
Id = Annotated[str, Path(max_length=200)]


class NewContract(Body):
    """`shape` is reserved, monthly, once or sla; `quantity` of `meter` is covered at every moment.

    `steps` of an SLA are [availability in millionths below which it applies, percent credited].
    """

    organization: Text
    shape: Text
    title: Text
    ends: Text
    starts: Text | None = None
    amount: Annotated[str, Field(max_length=200)] = ""
    term: Annotated[str, Field(max_length=40)] = ""
    meter: Annotated[str, Field(max_length=100)] = ""
    quantity: Annotated[str, Field(max_length=20)] = ""
    unit: Annotated[str, Field(max_length=20)] = ""
    region: Text = "*"
    project: Text | None = None
    upfront: bool = False
    steps: Annotated[list[Annotated[tuple[int, int], Field(strict=False)]], Field(max_length=10)] = []


class ContractEnd(Body):
    """When it ends: at the next full hour when absent."""

    ends: Text | None = None


class NewExchange(Body):
    """From `starts` on one unit of `base` is `rate` units of `quote`, says `source`."""

    base: Text
    quote: Text
    rate: Text
    source: Text
    starts: Text | None = None


class NewHold(Body):
    """`amount` of credit is set aside for `lasts`."""

    project: Text
    amount: Text
    source: Text
    lasts: Text = "1h"
    organization: Text | None = None


class HoldPosted(Body):
    """What of the hold is charged, and for which meter; the rest is free again."""

    amount: Text
    meter: Text


@router.get("/contracts", response_model=page_shape(Contract))
def contracts(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The contracts of an organization."""
    return _of_house(call, Contract, organization, limit, cursor)


@router.post("/contracts", status_code=201, response_model=shape(Contract))
def agree(call: Authenticated, body: NewContract) -> Response:
    """Agree on a contract with an organization (operator only)."""
    return call.run(commands_contracts.agree, status=201, **dict(body))


@router.post("/contracts/{contract_id}/end", response_model=shape(Contract))
def end_contract(call: Authenticated, contract_id: Id, body: ContractEnd) -> Response:
    """End a contract early (operator only)."""
    return call.run(commands_contracts.end_contract, contract_id, ends=body.ends)


@router.get("/exchange-rates", response_model=page_shape(Exchange))
def exchange_rates(call: Authenticated, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The rates by which prices in other currencies are converted."""
    caller = call.caller
    caller.need(Permission.PRICES_READ, caller.organization_id, caller.project_id)
    return call.page(Exchange, limit=limit, cursor=cursor)


@router.post("/exchange-rates", status_code=201, response_model=shape(Exchange))
def set_exchange(call: Authenticated, body: NewExchange) -> Response:
    """Set a rate (operator only)."""
    return call.run(commands_prices.set_exchange, status=201, **dict(body))


@router.get("/credits", response_model=page_shape(Grant))
def grants(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The grants of credit of an organization, and what is left of each."""
    return _of_house(call, Grant, organization, limit, cursor)


@router.get("/holds", response_model=page_shape(Hold))
def holds(call: Authenticated, organization: Named = None, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """What is held back of an organization's credit, and what became of it."""
    return _of_house(call, Hold, organization, limit, cursor)


@router.post("/holds", status_code=201, response_model=shape(Hold))
def place_hold(call: Authenticated, body: NewHold) -> Response:
    """Set credit aside (operator only): nobody else may use it until it is posted or voided."""
    return call.run(commands_money.place_hold, status=201, **dict(body))


@router.post("/holds/{hold_id}/post", response_model=shape(Hold))
def post_hold(call: Authenticated, hold_id: Id, body: HoldPosted) -> Response:
    """Charge up to what is held (operator only)."""
    return call.run(commands_money.end_hold, hold_id, amount=body.amount, meter=body.meter)


@router.post("/holds/{hold_id}/void", response_model=shape(Hold))
def void_hold(call: Authenticated, hold_id: Id) -> Response:
    """Let what is held go (operator only)."""
    return call.run(commands_money.end_hold, hold_id)


def _of_house(call: Call, kind: type[Any], organization: str | None, limit: int, cursor: str | None) -> Response:
    """A page of what belongs to an organization and to whom its bills concern."""
    house = call.ask(find_organization, organization)
    call.caller.need(Permission.INVOICES_READ, house.id)
    return call.page(kind, limit=limit, cursor=cursor, organization_id=house.id)
