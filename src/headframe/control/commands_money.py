"""What people may ask for about money: set a price, grant credit, put a budget."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

from headframe.base.changes import NOTHING, Changes, Event
from headframe.base.errors import Invalid
from headframe.base.money import LIMIT_NANO, Money, parse_money
from headframe.base.quantities import DAY_US, parse_moment_us, parse_span_us
from headframe.control.commands_tenancy import event, expect
from headframe.control.context import Context
from headframe.control.queries_tenancy import find_organization, seen
from headframe.control.world import World
from headframe.fleet.records import Region
from headframe.ledger.post import credit_left, grant
from headframe.ledger.records import Transfer
from headframe.pricing.book import ANY, default_prices
from headframe.pricing.records import Price
from headframe.tenants.records import Budget, Member, Organization, Project, Scope
from headframe.tenants.roles import Caller, Permission
from headframe.workloads.spec import PURCHASES

_METER = re.compile(r"cpu|memory|disk|gpu:(?:\*|[A-Za-z0-9][A-Za-z0-9 ._+-]{0,60})")


def default_price_changes(now_us: int, organization_id: str = "") -> Changes:
    """The price list of a new cloud, with an event for each price."""
    prices = default_prices(now_us)
    return Changes(prices, tuple(_price_set(price, now_us, organization_id) for price in prices))


def set_price(
    world: World,
    context: Context,
    caller: Caller,
    *,
    meter: str,
    per_hour: str,
    region: str = ANY,
    purchase: str = ANY,
    starts: str | None = None,
    ends: str | None = None,
    minimum: str = "60s",
) -> tuple[Changes, Price]:
    """A price from a moment on (now when `starts` is None). Prices are never changed or taken back: a later one wins.

    `per_hour` is an amount with its currency, for one accelerator, one core, or one GiB of memory or disk.
    """
    caller.need(Permission.PRICES_WRITE, caller.organization_id)
    if not _METER.fullmatch(meter):
        raise Invalid(
            f"meter is {meter!r}, which is not known.",
            field="meter", value=meter, allowed="cpu, memory, disk, gpu:<kind> such as gpu:H100, or gpu:*",
        )  # fmt: skip
    if purchase not in (*PURCHASES, ANY):
        raise Invalid(
            f"purchase is {purchase!r}, which is not known.",
            field="purchase", value=purchase, allowed=", ".join((*PURCHASES, ANY)),
        )  # fmt: skip
    amount = _amount(per_hour, "per_hour", least=0)
    from_us = context.now_us if starts is None else parse_moment_us(starts, field="starts")
    to_us = None if ends is None else parse_moment_us(ends, field="ends")
    minimum_us = parse_span_us(minimum, field="minimum")
    if from_us < context.now_us:
        raise Invalid(
            f"starts is {starts!r}, which is in the past: what has been used keeps its price.",
            field="starts", value=starts, allowed="now or later", next_step="Leave it out to begin now.",
        )  # fmt: skip
    if to_us is not None and to_us <= from_us:
        raise Invalid(f"ends is {ends!r}, which is not after the start.", field="ends", value=ends, allowed="later")
    if minimum_us > DAY_US:
        raise Invalid(f"minimum is {minimum!r}, which is too long.", field="minimum", value=minimum, allowed="up to 1d")
    price = Price(
        id=context.ids.new("price"),
        meter=meter,
        unit_nano=amount.nano,
        from_us=from_us,
        to_us=to_us,
        currency=amount.currency,
        region_id=_region(world, region),
        purchase=purchase,
        minimum_us=minimum_us,
    )
    return Changes((price,), (_price_set(price, context.now_us, caller.organization_id),)), price


def grant_credit(
    world: World,
    context: Context,
    caller: Caller,
    *,
    organization: str,
    amount: str,
    given: bool = False,
    note: str = "",
) -> tuple[Changes, Transfer]:
    """Prepaid credit for an organization (by id or name): paid in, or a gift of the house when `given`."""
    house = find_organization(world, context, caller, organization)
    caller.need(Permission.CREDITS_WRITE, house.id)
    money = _amount(amount, "amount", least=1, currency=house.currency)
    left = credit_left(world.balances, house.id, house.currency)
    if left + money.nano > LIMIT_NANO:
        raise Invalid(
            f"amount is {amount!r}, with which the credit would be too large.",
            field="amount", value=amount, allowed=f"up to {Money(LIMIT_NANO - left, house.currency)}",
        )  # fmt: skip
    if len(note) > 500 or not note.isprintable():
        raise Invalid("note cannot be that.", field="note", value=note[:200], allowed="up to 500 printable characters")
    transfer = grant(
        context.ids.new("trf"), house.id, money.nano, money.currency, context.now_us, paid=not given, note=note
    )
    told = Event(
        at_us=context.now_us,
        kind="credit_granted",
        subject=house.id,
        reason=f"{money} of prepaid credit was {'given' if given else 'paid in'}.",
        organization_id=house.id,
        detail={
            "transfer": transfer.id, "amount_nano": money.nano, "currency": money.currency, "given": given,
            "note": note, "member_id": caller.member_id, "key_id": caller.key_id,
        },
    )  # fmt: skip
    return Changes((transfer,), (told,)), transfer


def put_budget(
    world: World,
    context: Context,
    caller: Caller,
    *,
    amount: str,
    scope: Scope = Scope.ORGANIZATION,
    scope_id: str | None = None,
    warn_percent: int = 80,
    stops: bool = True,
    version: int | None = None,
) -> tuple[Changes, Budget]:
    """Set what an organization, project or member may spend in a calendar month (UTC)."""
    house, scope_id = _place(world, context, caller, scope, scope_id)
    money = _amount(amount, "amount", least=0, currency=house.currency)
    if not 1 <= warn_percent <= 100:
        raise Invalid(
            f"warn_percent is {warn_percent}.", field="warn_percent", value=warn_percent, allowed="1 to 100"
        )  # fmt: skip
    old: Budget | None = next(
        (each for each in world.all(Budget).values() if each.scope is scope and each.scope_id == scope_id), None
    )
    expect(old, version)
    budget = Budget(
        id=old.id if old else context.ids.new("bud"),
        organization_id=house.id,
        scope=scope,
        scope_id=scope_id,
        amount_nano=money.nano,
        currency=money.currency,
        warn_percent=warn_percent,
        stops=stops,
        version=old.version if old else 1,
    )
    if old is not None:
        if budget == replace(old, warned_month="", stopped_month=""):
            return NOTHING, old
        # What was told of the old amount is told anew of this one.
        budget = replace(budget, version=old.version + 1)
    told = event(context, "budget_set", budget, f"The budget of this {scope.value} is {money} a month.", by=caller)
    told = replace(
        told,
        project_id=scope_id if scope is Scope.PROJECT else "",
        detail={**told.detail, **asdict(budget), "scope": scope.value},
    )
    return Changes((budget,), (told,)), budget


def _place(
    world: World, context: Context, caller: Caller, scope: Scope, scope_id: str | None
) -> tuple[Organization, str]:
    """The organization that pays, and the id of what the budget is put on, once the caller may put it there."""
    if scope is Scope.ORGANIZATION:
        house = find_organization(world, context, caller, scope_id)
        caller.need(Permission.LIMITS_WRITE, house.id)
        return house, house.id
    if scope_id is None:
        raise Invalid(
            "scope_id is missing.", field="scope_id", allowed=f"the id of a {scope.value}",
            next_step=f"Name the {scope.value} that the budget is for.",
        )  # fmt: skip
    record = seen(world, caller, Project if scope is Scope.PROJECT else Member, scope_id, Permission.LIMITS_WRITE)
    return find_organization(world, context, caller, record.organization_id), record.id


def _amount(text: str, field: str, *, least: int, currency: str = "") -> Money:
    """An amount that makes sense; with `currency` it must be in that one, which it is when it names none."""
    money = parse_money(text, field=field, currency=currency or "USD")
    if money.nano < least:
        allowed = "nothing or more" if least == 0 else "more than nothing"
        raise Invalid(f"{field} is {text!r}.", field=field, value=text, allowed=allowed)
    if currency and money.currency != currency:
        raise Invalid(
            f"{field} is in {money.currency}, but the organization is billed in {currency}.",
            field=field, value=text, allowed=f"an amount in {currency}",
        )  # fmt: skip
    return money


def _region(world: World, named: str) -> str:
    """The id of a region by id or name, or "*" for all."""
    regions = world.all(Region)
    found = [each.id for each in regions.values() if named in (each.id, each.name)]
    if named != ANY and not found:
        raise Invalid(
            f"region is {named!r}, which is not known.",
            field="region", value=named, allowed=", ".join([ANY, *sorted(each.name for each in regions.values())]),
        )  # fmt: skip
    return ANY if named == ANY else found[0]


def _price_set(price: Price, now_us: int, organization_id: str) -> Event:
    """All of the price is in the event, so that bills can be worked out from events alone."""
    amount = Money(price.unit_nano, price.currency)
    return Event(
        at_us=now_us,
        kind="price_set",
        subject=price.id,
        reason=f"{price.meter} costs {amount} per hour.",
        organization_id=organization_id,
        detail=asdict(price),
    )
