"""What the operator may ask for about contracts and meters: agree on one, end one, define how events are counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace

from headframe.base.changes import NOTHING, Changes, Event
from headframe.base.errors import Conflict, Invalid, MeterInUse, NoExchangeRate
from headframe.base.money import Money
from headframe.base.quantities import DAY_US, HOUR_US, format_second, parse_moment_us
from headframe.control.commands_prices import check_meter, read_amount, region_named
from headframe.control.context import Context
from headframe.control.queries_tenancy import find_organization, find_project, nothing_here
from headframe.control.world import World
from headframe.metering.records import Aggregation, Meter, Reading, Window
from headframe.pricing.book import ANY
from headframe.pricing.records import Contract, ContractState, Price
from headframe.pricing.registry import CONTRACTS
from headframe.pricing.units import default_unit, is_held, size_of
from headframe.tenants.roles import Caller, Permission

LONGEST_US = 3660 * DAY_US
_METER = re.compile(r"[a-z][a-z0-9_-]{0,40}(?::[a-z0-9][a-z0-9._-]{0,60})?")
_OURS = re.compile(r"cpu|memory|disk|electricity|storage:datasets|gpu:.*")
_PATH = re.compile(r"[A-Za-z0-9_-]{1,60}(?:\.[A-Za-z0-9_-]{1,60}){0,5}")


def define_meter(
    world: World,
    context: Context,
    caller: Caller,
    *,
    name: str,
    event_type: str,
    aggregation: Aggregation = Aggregation.SUM,
    unit: str = "one",
    path: str = "",
    group_by: Sequence[str] = (),
    window: Window | None = None,
) -> tuple[Changes, Meter]:
    """Say how events are counted. A meter that has counted anything stays as it is: raises `MeterInUse`."""
    caller.need(Permission.PRICES_WRITE, caller.organization_id)
    if not _METER.fullmatch(name) or _OURS.fullmatch(name):
        raise Invalid(
            f"name is {name!r}.", field="name", value=name, allowed="such as calls or images:hd, in small letters"
        )
    if not re.fullmatch(r"[!-~]{1,200}", event_type):
        raise Invalid(
            f"event_type is {event_type!r}.", field="event_type", value=event_type, allowed="such as com.acme.call"
        )
    counts = aggregation is Aggregation.COUNT
    if bool(path) is counts or (path and not _PATH.fullmatch(path)):
        raise Invalid(
            f"path is {path!r}.", field="path", value=path,
            allowed="nothing when events are only counted, else where the number is, such as tokens.input",
        )  # fmt: skip
    if len(group_by) > 5 or any(not _PATH.fullmatch(each) for each in group_by):
        raise Invalid("group_by cannot be that.", field="group_by", value=list(group_by), allowed="up to 5 paths")
    usual = Window.HOUR if aggregation in (Aggregation.SUM, Aggregation.COUNT) else Window.MONTH
    if aggregation is Aggregation.TIME_WEIGHTED:
        usual = Window.DAY
        if window not in (None, Window.DAY):
            raise Invalid("A level is weighed by the day.", field="window", value=window, allowed="day")
    meter = Meter(name, event_type, aggregation, unit, path, tuple(group_by), window or usual, context.now_us)
    old: Meter | None = world.get(Meter, name)
    if old is not None:
        if replace(meter, created_us=old.created_us, used=old.used, version=old.version) == old:
            return NOTHING, old
        if old.used or context.reads.find(Reading, meter=name, limit=1):
            raise MeterInUse(
                f"{name} has counted something: it stays as it is.", next_step="Define another meter beside it."
            )
        meter = replace(meter, version=old.version + 1)
    told = Event(
        context.now_us, "meter_defined", name, f"{name} counts {event_type}: {aggregation.value}.",
        caller.organization_id, detail=asdict(meter),
    )  # fmt: skip
    return Changes((meter,), (told,)), meter


def agree(
    world: World,
    context: Context,
    caller: Caller,
    *,
    organization: str,
    shape: str,
    title: str,
    ends: str,
    starts: str | None = None,
    amount: str = "",
    term: str = "",
    meter: str = "",
    quantity: str = "",
    unit: str = "",
    region: str = ANY,
    project: str | None = None,
    upfront: bool = False,
    steps: Sequence[tuple[int, int]] = (),
) -> tuple[Changes, Contract]:
    """A contract with an organization. What covers use begins and ends at full hours (UTC), not before now.

    `quantity` is of the meter, such as "8" accelerators. Without an `amount` a reserved contract takes the price of the
    book that is bound to `term`.
    """
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.PRICES_WRITE, house.id)
    if shape not in CONTRACTS:
        raise Invalid(f"shape is {shape!r}.", field="shape", value=shape, allowed=", ".join(CONTRACTS))
    if not title.strip() or len(title) > 200 or not title.isprintable():
        raise Invalid("title is missing.", field="title", allowed="what it is called on invoices")
    held = _quantity(world, meter, quantity)
    from_us, to_us = _span(context, starts, ends, hourly=bool(held))
    if shape == "sla":
        money = Money(0, house.currency)
    elif amount:
        money = read_amount(amount, "amount", least=0)
    else:
        money = _term_price(world, meter, term, house.currency, from_us)
    if money.currency != house.currency:
        raise NoExchangeRate(
            f"The contract is in {money.currency}, but {house.name} is billed in {house.currency}.",
            next_step=f"Agree on an amount in {house.currency}.",
        )
    contract = Contract(
        id=context.ids.new("con"),
        organization_id=house.id,
        project_id="" if project is None else find_project(world, context, caller, project, house.id).id,
        title=title,
        shape=shape,
        unit_nano=money.nano,
        from_us=from_us,
        to_us=to_us,
        currency=house.currency,
        meter=meter,
        region_id=region_named(world, region),
        quantity=held,
        unit=(unit or default_unit(meter)) if held else "",
        upfront=upfront,
        steps=tuple(steps),
        created_us=context.now_us,
        rated_us=from_us,
    )
    if held:
        size_of(meter, contract.unit)
    CONTRACTS[shape].check(contract)
    text = f"{title}: from {format_second(from_us)} to {format_second(to_us)}."
    return Changes((contract,), (_of_contract(contract, "contract_agreed", text, context.now_us),)), contract


def end_contract(
    world: World, context: Context, caller: Caller, contract_id: str, *, ends: str | None = None
) -> tuple[Changes, Contract]:
    """End a contract early, at the next full hour or later; what was charged, or paid at the beginning, stays."""
    contract: Contract | None = world.get(Contract, contract_id)
    if contract is None:
        raise nothing_here("contract", contract_id)
    caller.need(Permission.PRICES_WRITE, contract.organization_id)
    soon_us = context.now_us - context.now_us % HOUR_US + HOUR_US
    to_us = soon_us if ends is None else parse_moment_us(ends, field="ends")
    to_us = -(-to_us // HOUR_US) * HOUR_US
    if not max(soon_us, contract.rated_us) <= to_us < contract.to_us:
        raise Invalid(
            f"ends is {ends!r}.", field="ends", value=ends,
            allowed=f"from {format_second(soon_us)} on, and before {format_second(contract.to_us)}",
        )  # fmt: skip
    if contract.upfront or contract.shape == "once":
        raise Conflict("What was paid at the beginning cannot be ended.", next_step="Give credit instead.")
    if to_us <= contract.from_us:
        state, to_us = ContractState.CANCELED, contract.to_us  # it has never begun
    else:
        state = contract.state
    after = replace(contract, to_us=to_us, state=state, version=contract.version + 1)
    text = f"The contract {contract.title!r} ends at {format_second(to_us)}."
    return Changes((after,), (_of_contract(after, "contract_ended", text, context.now_us),)), after


def _quantity(world: World, meter: str, text: str) -> int:
    """How much of a meter is promised, in its own quantity: thousandths, or MiB."""
    if not text:
        return 0
    check_meter(world, meter)
    found = re.fullmatch(r"\s*([0-9]{1,7})(?:\.([0-9]{1,3}))?\s*", text)
    if found is None or not is_held(meter):
        raise Invalid(
            f"quantity is {text!r}, of {meter}.", field="quantity", value=text,
            allowed="a number of gpu:<kind>, cpu, or of GiB of memory or disk",
        )  # fmt: skip
    thousandths = int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0"))
    return thousandths if meter not in ("memory", "disk") else thousandths * 1024 // 1000


def _span(context: Context, starts: str | None, ends: str, *, hourly: bool) -> tuple[int, int]:
    from_us = context.now_us if starts is None else parse_moment_us(starts, field="starts")
    to_us = parse_moment_us(ends, field="ends")
    if hourly and starts is None:
        from_us = -(-from_us // HOUR_US) * HOUR_US
    if from_us < context.now_us or (hourly and from_us % HOUR_US):
        raise Invalid(
            f"starts is {starts!r}.", field="starts", value=starts,
            allowed="now or later; what covers use begins at a full hour (UTC)",
        )  # fmt: skip
    if not from_us < to_us <= from_us + LONGEST_US or (hourly and to_us % HOUR_US):
        raise Invalid(
            f"ends is {ends!r}.", field="ends", value=ends,
            allowed="after it begins, within ten years; what covers use ends at a full hour (UTC)",
        )  # fmt: skip
    return from_us, to_us


def _term_price(world: World, meter: str, term: str, currency: str, at_us: int) -> Money:
    """The price of the book that is bound to a term."""
    fitting = [
        price
        for price in world.all(Price).values()
        if price.term == term
        and (price.meter, price.currency) == (meter, currency)
        and price.from_us <= at_us
        and (price.to_us is None or at_us < price.to_us)
    ]
    if not term or not fitting:
        raise Invalid(
            "amount is missing, and the book has no price for that term.", field="amount", value=term,
            allowed="an amount, or a term that the book has a price for",
        )  # fmt: skip
    best = max(fitting, key=lambda price: (price.from_us, price.id))
    return Money(best.unit_nano, best.currency)


def _of_contract(contract: Contract, kind: str, text: str, now_us: int) -> Event:
    detail = {**asdict(contract), "state": contract.state.value}
    return Event(now_us, kind, contract.id, text, contract.organization_id, contract.project_id, detail=detail)
